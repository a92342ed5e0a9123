//! Upload state of a log stream: which bytes exist, which are under way, which are lost.
//!
//! Pure: no clock, no socket, no task. The driver passes time and randomness in and carries
//! requests out, so every interleaving of writes, answers and refusals can be tested in one
//! thread.

mod backoff;
mod chunk;
pub(crate) mod delivery;
mod identity;
mod part;
mod request;
pub(crate) mod ring;

#[cfg(test)]
mod model;

use std::time::Duration;

use relay_protocol::{
    range::ByteRange,
    time::UnixMillis,
    write::{Crc32c, EndStream, MarkRange, WriterMarker},
};
use tokio::time::Instant;

use self::{
    backoff::Backoff,
    chunk::{Chunk, OpenChunk},
    identity::{Identity, Version},
    part::{Content, Fate, Part, Parts, Progress, Reason, Settled},
    request::Subject,
    ring::{Pace, Ring},
};
pub(crate) use self::{
    backoff::Jitter,
    identity::{Found, NewId, StreamId},
    request::{Answer, Next, Reach, Request, Retry, Store, Ticket, UnexpectedAnswer},
};
use crate::client::Outcome;

/// Bytes wait for others at most this long, less than a reader notices. After silence they do not
/// wait.
const COLLECT: Duration = Duration::from_millis(100);

/// One stream.
///
/// # Guarantees
///
/// Every byte that [`write`](Self::write) took is in exactly one place: in the open chunk, in a
/// part that is queued or in flight, or settled. A chunk that the service may have is kept until
/// the service says what became of it.
#[derive(Debug, Default)]
pub(crate) struct LogStream {
    identity: Identity,
    backoff: Backoff,
    parts: Parts,
    open: Option<OpenChunk>,
    written: u64,
    /// When a chunk was last closed to further bytes.
    sealed: Option<Instant>,
    /// Size of the last chunk: the next is expected to be like it.
    last_length: usize,
    input: Input,
    end: End,
    /// The checksum with which the service took the end: repeated, the end has the same.
    declared: Option<u32>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Input {
    #[default]
    Open,
    Closed,
}

/// How far the declaration of the end has come.
#[derive(Debug, Default)]
enum End {
    /// It is not known yet how the process ends.
    #[default]
    Unknown,
    Due(Outcome),
    /// With the checksum that it carries.
    InFlight(Outcome, u32),
    /// The service knows.
    Taken(Outcome),
    /// The service does not want to know.
    Refused,
}

/// Bytes of a stream by what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) read: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    pub(crate) ended: bool,
}

impl LogStream {
    /// Takes as many of the next bytes as fit into the ring, and returns how many.
    ///
    /// A closed stream takes all and keeps none: they come after its end.
    pub(crate) fn write(
        &mut self,
        ring: &mut Ring,
        bytes: &[u8],
        captured: UnixMillis,
        now: Instant,
    ) -> usize {
        if self.input == Input::Closed {
            return bytes.len();
        }
        let mut taken = 0;
        while taken < bytes.len() && ring.room() > 0 {
            let open = self.open.get_or_insert_with(|| {
                OpenChunk::new(self.written, ring.memory(self.last_length), now)
            });
            let room = ring.room().min(ring.chunk_bytes() - open.len());
            let piece = &bytes[taken..bytes.len().min(taken + room)];
            open.push(piece, captured);
            ring.hold(piece.len());
            taken += piece.len();
            self.written += piece.len() as u64;
            if open.len() == ring.chunk_bytes() {
                self.seal(now);
            }
        }
        taken
    }

    /// No more bytes will come.
    pub(crate) fn close(&mut self) {
        self.input = Input::Closed;
    }

    /// Says how the process ended. The service is told once all else is settled.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if matches!(self.end, End::Unknown) {
            self.end = End::Due(outcome);
        }
    }

    /// Ends a pause that was not the service's wish.
    pub(crate) fn hurry(&mut self) {
        self.backoff.hurry();
    }

    /// Whether the service has given it an id.
    pub(crate) fn is_created(&self) -> bool {
        self.identity.current().is_some()
    }

    /// When the oldest bytes came that may be dropped. None may once the end is told: it holds the
    /// checksum of all of them.
    pub(crate) fn oldest_unsent(&self) -> Option<Instant> {
        if matches!(self.end, End::InFlight(..)) || self.declared.is_some() {
            return None;
        }
        let sealed = self.parts.iter().find(|part| part.is_unsent_data());
        match sealed.map(|part| &part.content) {
            Some(Content::Data(chunk)) => Some(chunk.opened),
            _ => self.open.as_ref().map(|open| open.opened),
        }
    }

    /// Drops the oldest chunk that was never sent and marks its range.
    pub(crate) fn drop_oldest(&mut self, ring: &mut Ring, reason: Reason, now: Instant) {
        if self.parts.find(Part::is_unsent_data).is_none() {
            self.seal(now);
        }
        let Some(index) = self.parts.find(Part::is_unsent_data) else { return };
        let marker = Content::Marker { kind: WriterMarker::Dropped, reason };
        if let Content::Data(chunk) = self.parts.replace(index, marker) {
            ring.release(chunk.bytes);
        }
    }

    /// What became of the bytes so far.
    pub(crate) fn account(&self) -> Account {
        let Settled { stored, marked, crc: _, era: _ } = self.parts.settled();
        let ended = self.declared.is_some();
        Account { read: self.written, delivered: stored, dropped: marked, ended }
    }

    /// Hands out the next request. Those handed out may be sent in parallel.
    pub(crate) fn next(&mut self, ring: &mut Ring, now: Instant) -> Next {
        let told = matches!(self.end, End::Taken(_) | End::Refused);
        if told && self.open.is_none() && self.parts.all_settled() {
            return Next::Finished;
        }
        let gate = self.backoff.gate(now);
        if self.identity.is_needed(now) && (gate.is_none() || self.is_created()) {
            self.identity.asked();
            return Next::Send(self.ticket(Subject::Identity), Request::Create);
        }
        let wake = self.identity.wake();
        let Some((id, _)) = self.identity.current() else { return Next::Wait(gate) };
        if gate.is_some() {
            return Next::Wait(earlier(gate, wake));
        }
        let id = id.clone();
        let due = match self.next_part(ring, now) {
            Ok((range, request)) => {
                return Next::Send(self.ticket(Subject::Range(range)), request(id));
            }
            Err(due) => due,
        };
        match self.next_end() {
            Some(end) => Next::Send(self.ticket(Subject::End), Request::End(id, end)),
            None => Next::Wait(earlier(due, wake)),
        }
    }

    /// Records how a request ended that [`next`](Self::next) handed out.
    ///
    /// # Errors
    ///
    /// [`UnexpectedAnswer`] if no such request is in flight; the state is unchanged.
    pub(crate) fn answered(
        &mut self,
        ring: &mut Ring,
        ticket: Ticket,
        answer: Answer,
        now: Instant,
    ) -> Result<(), UnexpectedAnswer> {
        let unexpected = UnexpectedAnswer(ticket);
        match (ticket.subject, answer) {
            (Subject::Identity, Answer::Created(new)) => self.created(new, now),
            (Subject::Identity, answer) => self.not_created(&answer, ring.pace, now),
            (Subject::Range(range), answer) => {
                let index = self.parts.in_flight(range).ok_or(unexpected)?;
                ring.request_answered();
                let answer = self.judged(ticket.version, answer);
                self.note_failure(ticket.version, &answer, ring.pace, now);
                self.part_answered(ring, index, &answer);
            }
            (Subject::End, answer) => {
                let End::InFlight(outcome, crc) = self.end else { return Err(unexpected) };
                let answer = self.judged(ticket.version, answer);
                self.note_failure(ticket.version, &answer, ring.pace, now);
                self.end = match answer {
                    Answer::Ended(gaps) => self.ended(outcome, crc, &gaps),
                    Answer::Refused(_) if crc == self.checksum() => End::Refused,
                    _ => End::Due(outcome),
                };
            }
        }
        Ok(())
    }

    fn ticket(&self, subject: Subject) -> Ticket {
        let version = self.identity.current().map_or(Version::default(), |(_, version)| version);
        Ticket { subject, version }
    }

    fn created(&mut self, new: NewId, now: Instant) {
        let found = new.found;
        self.identity.got(new, now);
        if found == Found::New {
            self.identity.distrust_earlier();
            self.parts.restart();
            self.declared = None;
            if let End::Taken(outcome) = self.end {
                self.end = End::Due(outcome);
            }
        }
    }

    /// The service has the end. What it lacks and was told to be durable went to a stream that is
    /// gone, whose loss was said in an answer that was lost; asked again, the service says whether
    /// there is more.
    fn ended(&mut self, outcome: Outcome, crc: u32, gaps: &[ByteRange]) -> End {
        self.declared = Some(crc);
        if self.parts.lose(gaps, self.identity.era()) {
            End::Due(outcome)
        } else {
            End::Taken(outcome)
        }
    }

    fn checksum(&self) -> u32 {
        self.declared.unwrap_or_else(|| self.parts.checksum())
    }

    /// Also a refusal may pass: whoever runs the service corrects what it refuses.
    fn not_created(&mut self, answer: &Answer, pace: Pace, now: Instant) {
        if !matches!(answer, Answer::Retry(Retry { reach: Reach::NotDone, .. })) {
            self.identity.answer_lost();
        }
        let (after, jitter) = match answer {
            Answer::Retry(retry) => (retry.after, retry.jitter),
            _ => (None, Jitter::MAX),
        };
        if self.identity.ask_failed(now, jitter) {
            self.backoff.failed(now, jitter, pace);
            self.backoff.asked_to_wait(now, after);
        }
    }

    /// What a stream said that is gone does not count: ask again. While it is not known whether the
    /// stream is gone, nothing counts.
    fn judged(&self, version: Version, answer: Answer) -> Answer {
        if self.is_created() && self.identity.trusts(version) {
            return answer;
        }
        Answer::Gone
    }

    fn note_failure(&mut self, version: Version, answer: &Answer, pace: Pace, now: Instant) {
        match answer {
            Answer::Done | Answer::Ended(_) | Answer::Created(_) => {
                self.backoff.succeeded();
                self.identity.worked();
            }
            Answer::Refused(_) => self.identity.worked(),
            Answer::Gone => {
                if self.identity.gone(version) {
                    self.backoff.failed(now, Jitter::MAX, pace);
                }
            }
            Answer::Retry(Retry { after, reach: _, jitter }) => {
                self.backoff.failed(now, *jitter, pace);
                self.backoff.asked_to_wait(now, *after);
            }
        }
    }

    fn part_answered(&mut self, ring: &mut Ring, index: usize, answer: &Answer) {
        let length = self.parts.get_mut(index).range.length();
        let nothing = Settled { era: self.identity.era(), ..Settled::default() };
        let content = match (answer, &self.parts.get_mut(index).content) {
            (Answer::Done, Content::Data(Chunk { crc, .. })) => {
                Content::Settled(Settled { stored: length, crc: *crc, ..nothing })
            }
            (Answer::Done, _) => Content::Settled(Settled { marked: length, ..nothing }),
            (Answer::Refused(status), Content::Data(_)) => {
                Content::Marker { kind: WriterMarker::Dropped, reason: Reason::Status(*status) }
            }
            (Answer::Refused(_), _) => Content::Settled(nothing),
            _ => return self.requeue(ring, index, answer),
        };
        if let Content::Data(chunk) = self.parts.replace(index, content) {
            ring.unexpose(chunk.bytes.len());
            ring.release(chunk.bytes);
        }
    }

    fn requeue(&mut self, ring: &mut Ring, index: usize, answer: &Answer) {
        let lost = !matches!(answer, Answer::Retry(Retry { reach: Reach::NotDone, .. }));
        let part = self.parts.get_mut(index);
        let fate = match part.progress {
            Progress::InFlight(fate) | Progress::Queued(fate) if !lost => fate,
            _ => Fate::Unknown,
        };
        part.progress = Progress::Queued(fate);
        if let (Content::Data(chunk), Fate::Unsent) = (&part.content, fate) {
            ring.unexpose(chunk.bytes.len());
        }
        self.parts.join_around(index);
    }

    /// The next range to send and its request, or when to ask again.
    fn next_part(
        &mut self,
        ring: &mut Ring,
        now: Instant,
    ) -> Result<(ByteRange, impl FnOnce(StreamId) -> Request + use<>), Option<Instant>> {
        let index = match self.parts.find(|part| may_send(part, ring)) {
            Some(index) => index,
            None => self.seal_if_due(ring, now)?,
        };
        let flush = ring.wants_flush();
        ring.request_sent();
        let part = self.parts.get_mut(index);
        if let (Content::Data(chunk), Progress::Queued(Fate::Unsent)) =
            (&part.content, part.progress)
        {
            ring.expose(chunk.bytes.len());
        }
        if let Progress::Queued(fate) = part.progress {
            part.progress = Progress::InFlight(fate);
        }
        let range = part.range;
        let request = match &part.content {
            Content::Data(Chunk { bytes, times, .. }) => {
                let store = Store { range, bytes: bytes.clone(), times: times.clone(), flush };
                Ok(store)
            }
            Content::Marker { kind, reason } => {
                let reason = Some(reason.to_string());
                Err(MarkRange { range, markers: vec![*kind], reason })
            }
            Content::Settled(_) => unreachable!("what is settled is not queued"),
        };
        Ok((range, move |id| match request {
            Ok(store) => Request::Store(id, store),
            Err(mark) => Request::Mark(id, mark),
        }))
    }

    /// Closes the open chunk if its bytes have waited long enough and may be sent; else says when
    /// to ask again.
    fn seal_if_due(&mut self, ring: &Ring, now: Instant) -> Result<usize, Option<Instant>> {
        // While older chunks wait for the window, the open one may as well grow.
        let waiting = self.parts.find(Part::is_unsent_data).is_some();
        let Some(open) = self.open.as_ref().filter(|_| !waiting) else { return Err(None) };
        if !ring.may_expose(open.len()) {
            return Err(None);
        }
        let due = self.sealed.map_or(open.opened, |sealed| open.opened.max(sealed + COLLECT));
        let patient = self.input == Input::Open && ring.pace == Pace::Normal;
        if patient && due > now {
            return Err(Some(due));
        }
        self.seal(now);
        self.parts.find(Part::is_unsent_data).ok_or(None)
    }

    fn seal(&mut self, now: Instant) {
        let Some(open) = self.open.take() else { return };
        let range = ByteRange::new(open.start, open.end()).expect("a chunk begins before its end");
        self.last_length = open.len();
        self.sealed = Some(now);
        let content = Content::Data(open.seal());
        self.parts.push(Part { range, content, progress: Progress::Queued(Fate::Unsent) });
    }

    /// The end is told as soon as all else is on its way: the service holds bytes for a while, and
    /// the end makes it store them.
    fn next_end(&mut self) -> Option<EndStream> {
        let End::Due(outcome) = self.end else { return None };
        let sent = self.input == Input::Closed && self.open.is_none() && self.parts.all_sent();
        if !sent {
            return None;
        }
        let crc = self.checksum();
        self.end = End::InFlight(outcome, crc);
        Some(EndStream {
            length: self.written,
            crc32c: Crc32c(crc),
            reason: outcome.reason,
            exit: outcome.exit,
        })
    }
}

fn may_send(part: &Part, ring: &Ring) -> bool {
    match (&part.content, part.progress) {
        (Content::Settled(_), _) | (_, Progress::InFlight(_)) => false,
        (Content::Data(chunk), Progress::Queued(Fate::Unsent)) => {
            ring.may_expose(chunk.bytes.len())
        }
        _ => ring.may_request(),
    }
}

fn earlier(first: Option<Instant>, second: Option<Instant>) -> Option<Instant> {
    first.into_iter().chain(second).min()
}
