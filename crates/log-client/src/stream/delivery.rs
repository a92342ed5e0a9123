//! All streams of a container: one ring, one window, one end.

use std::time::Duration;

use relay_protocol::time::UnixMillis;
use tokio::time::Instant;

use super::{
    Account, Answer, LogStream, Next, Request, Ticket, UnexpectedAnswer, earlier,
    part::Reason,
    ring::{Pace, Ring},
};
use crate::client::Outcome;

/// Longest wait for room at a service that takes nothing, once the process is asked to end: it
/// must be able to say its last words and go.
const BLOCK_IN_HURRY: Duration = Duration::from_secs(1);

/// What the driver does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this for the stream of this number.
    Send(usize, Ticket, Request),
    /// Ask again at this time if there is one, and after every change.
    Wait(Option<Instant>),
    /// All streams are over.
    Finished,
}

/// The streams of a container. Pure, like [`LogStream`].
#[derive(Debug)]
pub(crate) struct Delivery {
    ring: Ring,
    streams: Vec<LogStream>,
    /// Stream that is asked first: each in turn, so that a loud one does not silence the other.
    turn: usize,
    outcome: Option<Outcome>,
    block_max: Duration,
    /// Set once the process has ended: until then a write waits, for it holds up nobody.
    block_until: Option<Instant>,
    /// Since when the ring is full and the service takes nothing.
    stalled: Option<Instant>,
}

impl Delivery {
    /// `streams` empty streams that share `ring_bytes` of memory.
    pub(crate) fn new(streams: usize, ring_bytes: usize, block_max: Duration) -> Self {
        let streams = (0..streams).map(|_| LogStream::default()).collect();
        let ring = Ring::new(ring_bytes);
        Self { ring, streams, turn: 0, outcome: None, block_max, block_until: None, stalled: None }
    }

    /// Takes as many bytes as fit, and returns how many.
    pub(crate) fn write(
        &mut self,
        stream: usize,
        bytes: &[u8],
        captured: UnixMillis,
        now: Instant,
    ) -> usize {
        self.streams[stream].write(&mut self.ring, bytes, captured, now)
    }

    /// For a write that began at `since` and finds no room: until when it waits at most.
    ///
    /// The time counts from when the service last took something: an outage blocks the process
    /// once, not once for every write.
    pub(crate) fn blocked_until(&mut self, since: Instant, now: Instant) -> Instant {
        let stalled = *self.stalled.get_or_insert(now);
        self.block_until.unwrap_or_else(|| stalled.min(since) + self.block_max)
    }

    /// From now on a write waits for room until `deadline`, whatever was said before.
    pub(crate) fn block_until(&mut self, deadline: Instant) {
        self.block_until = Some(deadline);
    }

    /// Makes room: drops the oldest chunk of all streams that was never sent.
    pub(crate) fn drop_oldest(&mut self, now: Instant) {
        self.drop_for(Reason::Full, now);
    }

    fn drop_for(&mut self, reason: Reason, now: Instant) -> Option<()> {
        let candidates = self.streams.iter_mut();
        let dated = candidates.filter_map(|stream| Some((stream.oldest_unsent()?, stream)));
        let (_, oldest) = dated.min_by_key(|(opened, _)| *opened)?;
        oldest.drop_oldest(&mut self.ring, reason, now);
        Some(())
    }

    /// No more bytes will come for this stream.
    pub(crate) fn close(&mut self, stream: usize) {
        self.streams[stream].close();
    }

    /// From now on nothing waits for more, and no write for long.
    pub(crate) fn hurry(&mut self) {
        self.ring.pace = Pace::Hurry;
        self.block_max = self.block_max.min(BLOCK_IN_HURRY);
        self.streams.iter_mut().for_each(LogStream::hurry);
    }

    /// Closes all streams and says how the process ended.
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        self.hurry();
        self.streams.iter_mut().for_each(LogStream::close);
        self.outcome = Some(outcome);
    }

    /// Marks what was not sent, so that at least the end can still be told.
    pub(crate) fn give_up(&mut self, now: Instant) {
        while self.drop_for(Reason::Exit, now).is_some() {}
        self.streams.iter_mut().for_each(LogStream::hurry);
    }

    /// Hands out the next request. Those handed out may be sent in parallel.
    pub(crate) fn next(&mut self, now: Instant) -> Step {
        // A reader who sees one stream end may take the pod for over: the others must exist.
        if self.streams.iter().all(LogStream::is_created)
            && let Some(outcome) = self.outcome
        {
            self.streams.iter_mut().for_each(|stream| stream.end(outcome));
        }
        let count = self.streams.len();
        let (mut wake, mut finished) = (None, 0);
        for index in (self.turn..count).chain(0..self.turn) {
            match self.streams[index].next(&mut self.ring, now) {
                Next::Send(ticket, request) => {
                    self.turn = (index + 1) % count;
                    return Step::Send(index, ticket, request);
                }
                Next::Wait(time) => wake = earlier(wake, time),
                Next::Finished => finished += 1,
            }
        }
        if finished == count { Step::Finished } else { Step::Wait(wake) }
    }

    /// Records how a request ended.
    ///
    /// # Errors
    ///
    /// [`UnexpectedAnswer`] if no such request is in flight; the state is unchanged.
    pub(crate) fn answered(
        &mut self,
        stream: usize,
        ticket: Ticket,
        answer: Answer,
        now: Instant,
    ) -> Result<(), UnexpectedAnswer> {
        let room = self.ring.room();
        self.streams[stream].answered(&mut self.ring, ticket, answer, now)?;
        if self.ring.room() > room {
            self.stalled = None;
        }
        Ok(())
    }

    /// What became of the bytes of each stream.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = Account> {
        self.streams.iter().map(LogStream::account)
    }

    #[cfg(test)]
    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    #[cfg(test)]
    pub(super) fn streams(&self) -> &[LogStream] {
        &self.streams
    }
}
