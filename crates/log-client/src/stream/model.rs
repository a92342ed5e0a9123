//! Streams against a model of the service, through random interleavings.

use std::time::Duration;

use proptest::prelude::*;
use relay_protocol::{
    limit::{MAX_GAPS, MAX_IN_FLIGHT, STREAM_ID_LIFE},
    range::ByteRange,
    range_set::RangeSet,
    time::UnixMillis,
    write::{EndReason, EndStream, MarkRange, WriterMarker},
};
use tokio::time::Instant;

use super::{
    Answer, Found, Jitter, NewId, Reach, Request, Retry, Store, StreamId, Ticket,
    delivery::{Delivery, Step},
};
use crate::client::Outcome;

const STREAMS: usize = 2;
const RING: usize = 1024;
/// Parts per stream: what may be in flight, what waits, and a marker between each two.
const MOST_PARTS: usize = 4 * MAX_IN_FLIGHT;

/// What a test does next.
#[derive(Clone, Debug)]
enum Action {
    Write(usize, usize),
    Advance(u64),
    /// The service handles the request of this number.
    Handle(usize, Verdict),
    /// The answer to it arrives.
    Deliver(usize),
    /// The service forgets everything, or only the ids that it gave.
    Vanish,
    Expire,
    Close(usize),
    Hurry,
    GiveUp,
    Finish,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Take,
    TakeAndLoseTheAnswer,
    LoseTheRequest,
    Busy,
    Unavailable,
    Refuse,
}

/// One stream at the service.
#[derive(Debug, Default)]
struct Kept {
    stored: RangeSet,
    marked: RangeSet,
    end: Option<EndStream>,
    /// Bytes were refused, or found to be gone, whose checksum an end may hold that was sent before.
    lost_late: bool,
}

#[derive(Debug)]
struct Flight {
    stream: usize,
    ticket: Ticket,
    request: Request,
    answer: Option<Answer>,
}

struct World {
    delivery: Delivery,
    now: Instant,
    streams: Vec<Option<Kept>>,
    ids: Vec<StreamId>,
    given: usize,
    /// How often the service forgot everything.
    vanished: u32,
    flights: Vec<Flight>,
    written: [u64; STREAMS],
    closed: [bool; STREAMS],
    finished: bool,
}

fn byte_at(stream: usize, offset: u64) -> u8 {
    let mixed = (offset + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    mixed.to_le_bytes()[stream]
}

fn bytes_at(stream: usize, range: ByteRange) -> Vec<u8> {
    (range.start()..range.end()).map(|offset| byte_at(stream, offset)).collect()
}

impl World {
    fn new() -> Self {
        Self {
            delivery: Delivery::new(STREAMS, RING, Duration::ZERO),
            now: Instant::now(),
            streams: (0..STREAMS).map(|_| None).collect(),
            ids: Vec::new(),
            given: 0,
            vanished: 0,
            flights: Vec::new(),
            written: [0; STREAMS],
            closed: [false; STREAMS],
            finished: false,
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Write(stream, length) => self.write(stream, length),
            Action::Advance(millis) => self.now += Duration::from_millis(millis),
            Action::Handle(number, verdict) => self.handle(number, verdict),
            Action::Deliver(number) => self.deliver(number),
            Action::Vanish if self.streams.iter().flatten().all(|kept| kept.end.is_none()) => {
                self.streams.iter_mut().for_each(|kept| *kept = None);
                self.vanished += 1;
            }
            Action::Expire => self.ids.clear(),
            Action::Close(stream) => {
                self.closed[stream] = true;
                self.delivery.close(stream);
            }
            Action::Hurry => self.delivery.hurry(),
            Action::GiveUp if self.finished => self.delivery.give_up(self.now),
            Action::Finish => self.finish(),
            Action::Vanish | Action::GiveUp => {}
        }
        self.pump().ok();
    }

    fn finish(&mut self) {
        self.finished = true;
        self.closed = [true; STREAMS];
        self.delivery.finish(Outcome { reason: EndReason::Eof, exit: Some(0) });
    }

    fn write(&mut self, stream: usize, length: usize) {
        if self.closed[stream] {
            return;
        }
        let range = ByteRange::from_length(self.written[stream], length).unwrap();
        self.written[stream] = range.end();
        let bytes = bytes_at(stream, range);
        let mut rest = bytes.as_slice();
        loop {
            let taken = self.delivery.write(stream, rest, UnixMillis(1), self.now);
            rest = &rest[taken..];
            if rest.is_empty() {
                return;
            }
            let (held, ..) = self.delivery.ring().usage();
            self.delivery.drop_oldest(self.now);
            assert!(self.delivery.ring().usage().0 < held, "a full ring has something to drop");
        }
    }

    /// Takes all requests that there are. Returns whether all streams are over, or when to ask.
    fn pump(&mut self) -> Result<(), Option<Instant>> {
        let result = loop {
            match self.delivery.next(self.now) {
                Step::Send(stream, ticket, request) => {
                    self.check_request(stream, &request);
                    self.note_end(stream, &request);
                    self.flights.push(Flight { stream, ticket, request, answer: None });
                }
                Step::Wait(wake) => break Err(wake),
                Step::Finished => break Ok(()),
            }
        };
        self.check_limits();
        result
    }

    /// An end is told while bytes are in flight. If they are refused, it holds their checksum.
    fn note_end(&mut self, stream: usize, request: &Request) {
        let refused = |flight: &Flight| matches!(flight.answer, Some(Answer::Refused(_)));
        let pending = self.flights.iter().any(|flight| flight.stream == stream && refused(flight));
        if let (Request::End(..), Some(kept)) = (request, &mut self.streams[stream]) {
            kept.lost_late |= pending;
        }
    }

    fn check_request(&self, stream: usize, request: &Request) {
        match request {
            Request::Store(_, Store { range, bytes, times, .. }) => {
                assert_eq!(bytes.as_ref(), bytes_at(stream, *range));
                assert!(bytes.len() <= RING / 8 && !bytes.is_empty());
                assert_eq!(times.entries().first(), Some(&(range.start(), UnixMillis(1))));
            }
            Request::Mark(_, mark) => assert!(!mark.range.is_empty()),
            Request::End(..) => assert!(self.finished),
            Request::Create => {}
        }
        let doubled = self.flights.iter().any(|flight| {
            let same = match (&flight.request, request) {
                (Request::Store(_, first), Request::Store(_, second)) => {
                    first.range.intersect(second.range).is_some()
                }
                (Request::Mark(_, first), Request::Mark(_, second)) => {
                    first.range.intersect(second.range).is_some()
                }
                (Request::Create, Request::Create) | (Request::End(..), Request::End(..)) => true,
                _ => false,
            };
            same && flight.stream == stream
        });
        assert!(!doubled, "{request:?} is in flight twice");
    }

    fn check_limits(&self) {
        let data = self.flights.iter().filter_map(|flight| match &flight.request {
            Request::Store(_, store) => Some(store.bytes.len()),
            _ => None,
        });
        let (held, exposed, in_flight) = self.delivery.ring().usage();
        assert!(held <= RING && exposed <= RING / 2 && in_flight <= MAX_IN_FLIGHT);
        assert!(data.sum::<usize>() <= exposed, "the window counts what is in flight");
        for (stream, account) in self.delivery.accounts().enumerate() {
            assert_eq!(account.read, self.written[stream]);
            assert!(account.delivered + account.dropped <= account.read);
            assert!(self.delivery.streams()[stream].parts.count() <= MOST_PARTS);
        }
    }

    fn handle(&mut self, number: usize, verdict: Verdict) {
        let Some(index) = number.checked_rem(self.flights.len()) else { return };
        if self.flights[index].answer.is_some() {
            return;
        }
        let (stream, request) = (self.flights[index].stream, self.flights[index].request.clone());
        let retry = |after, reach| Answer::Retry(Retry { after, reach, jitter: Jitter::MAX / 3 });
        let lost = retry(None, Reach::Unknown);
        let answer = match verdict {
            Verdict::TakeAndLoseTheAnswer => {
                self.take(stream, request);
                lost
            }
            Verdict::Take => self.take(stream, request),
            Verdict::LoseTheRequest => lost,
            Verdict::Busy => retry(Some(Duration::from_secs(3)), Reach::NotDone),
            Verdict::Unavailable => retry(None, Reach::NotDone),
            Verdict::Refuse => self.refuse(stream, request),
        };
        self.flights[index].answer = Some(answer);
    }

    /// Only bytes are refused, and only such as are not stored.
    fn refuse(&mut self, stream: usize, request: Request) -> Answer {
        let known = self.knows(&request);
        let ending = self
            .flights
            .iter()
            .any(|flight| flight.stream == stream && matches!(flight.request, Request::End(..)));
        match (&request, &mut self.streams[stream]) {
            (Request::Store(_, store), Some(kept)) if known && !kept.stored.covers(store.range) => {
                kept.lost_late |= kept.end.is_some() || ending;
                Answer::Refused(413)
            }
            _ => self.take(stream, request),
        }
    }

    fn knows(&self, request: &Request) -> bool {
        match request {
            Request::Create => true,
            Request::Store(id, _) | Request::Mark(id, _) | Request::End(id, _) => {
                self.ids.contains(id)
            }
        }
    }

    fn take(&mut self, stream: usize, request: Request) -> Answer {
        if !self.knows(&request) {
            return Answer::Gone;
        }
        if matches!(request, Request::Create) {
            return self.create(stream);
        }
        let Some(kept) = &mut self.streams[stream] else { return Answer::Gone };
        match request {
            Request::Create => unreachable!("handled above"),
            Request::Store(_, Store { range, .. }) => {
                assert!(!kept.marked.intersects(range), "bytes are sent that were given up");
                kept.stored.insert(range);
                Answer::Done
            }
            Request::Mark(_, MarkRange { range, markers, .. }) => {
                assert!(!kept.stored.intersects(range), "{markers:?} for bytes that are stored");
                assert!(self.vanished > 0 || markers == [WriterMarker::Dropped]);
                kept.lost_late |= kept.end.is_some() && markers == [WriterMarker::Restarted];
                kept.marked.insert(range);
                Answer::Done
            }
            Request::End(_, end) => kept.end(stream, end),
        }
    }

    fn create(&mut self, stream: usize) -> Answer {
        let found = if self.streams[stream].is_some() { Found::Existing } else { Found::New };
        self.streams[stream].get_or_insert_default();
        self.given += 1;
        let id = StreamId::new(&self.given.to_string());
        self.ids.push(id.clone());
        Answer::Created(NewId { id, life: STREAM_ID_LIFE, found })
    }

    fn deliver(&mut self, number: usize) {
        let Some(index) = number.checked_rem(self.flights.len()) else { return };
        if self.flights[index].answer.is_some() {
            let Flight { stream, ticket, answer, .. } = self.flights.remove(index);
            self.delivery.answered(stream, ticket, answer.unwrap(), self.now).unwrap();
            let again = self.delivery.answered(stream, ticket, Answer::Done, self.now);
            let twice = matches!(ticket.subject, super::Subject::Identity);
            assert!(twice || again.is_err(), "an answer counts once");
        }
    }

    /// From now on the service works.
    fn recover(&mut self) {
        self.finish();
        for _ in 0..10_000 {
            let wake = match self.pump() {
                Ok(()) => return assert!(self.flights.is_empty(), "requests outlive the end"),
                Err(wake) => wake,
            };
            if self.flights.is_empty() {
                self.now = self.now.max(wake.expect("it waits for nothing"));
            } else {
                self.handle(0, Verdict::Take);
                self.deliver(0);
            }
        }
        panic!("it does not finish");
    }

    fn check_result(&self) {
        for (stream, account) in self.delivery.accounts().enumerate() {
            let kept = self.streams[stream].as_ref().expect("every stream is created");
            assert!(account.ended);
            assert_eq!(account.delivered + account.dropped, self.written[stream]);
            assert_eq!(account.delivered, kept.stored.length());
            assert_eq!(account.dropped, kept.marked.length());
            let end = kept.end.as_ref().expect("every stream is ended");
            assert_eq!(end.length, self.written[stream]);
            if !kept.lost_late {
                assert_eq!(end.crc32c.0, kept.checksum(stream));
            }
        }
        assert_eq!(self.delivery.ring().usage(), (0, 0, 0));
    }
}

impl Kept {
    fn checksum(&self, stream: usize) -> u32 {
        self.stored
            .iter()
            .fold(0, |crc, range| crc32c::crc32c_append(crc, &bytes_at(stream, range)))
    }

    fn end(&mut self, stream: usize, end: EndStream) -> Answer {
        if self.end.as_ref() == Some(&end) {
            return Answer::Ended(self.gaps(end.length));
        }
        let complete = self.stored.length() + self.marked.length() == end.length;
        if complete && end.crc32c.0 != self.checksum(stream) {
            return Answer::Refused(409);
        }
        if let Some(first) = &self.end {
            assert_eq!(first.length, end.length);
        }
        self.lost_late &= !complete;
        let gaps = self.gaps(end.length);
        self.end = Some(end);
        Answer::Ended(gaps)
    }

    fn gaps(&self, length: u64) -> Vec<ByteRange> {
        let covered: RangeSet = self.stored.iter().chain(self.marked.iter()).collect();
        covered.gaps(ByteRange::new(0, length).unwrap()).take(MAX_GAPS).collect()
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        12 => Just(Verdict::Take),
        2 => Just(Verdict::TakeAndLoseTheAnswer),
        1 => Just(Verdict::LoseTheRequest),
        1 => Just(Verdict::Busy),
        1 => Just(Verdict::Unavailable),
        1 => Just(Verdict::Refuse),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => (0..STREAMS, 1..300_usize).prop_map(|(stream, length)| Action::Write(stream, length)),
        6 => (1..400_u64).prop_map(Action::Advance),
        20 => (any::<usize>(), verdict()).prop_map(|(number, verdict)| Action::Handle(number, verdict)),
        20 => any::<usize>().prop_map(Action::Deliver),
        1 => Just(Action::Vanish),
        1 => Just(Action::Expire),
        1 => (0..STREAMS).prop_map(Action::Close),
        1 => Just(Action::Hurry),
        1 => Just(Action::GiveUp),
        1 => Just(Action::Finish),
    ]
}

proptest! {
    #[test]
    fn every_byte_is_delivered_or_marked_whatever_the_service_does(
        actions in prop::collection::vec(action(), 0..250)
    ) {
        let mut world = World::new();
        for action in &actions {
            world.act(action);
        }
        world.recover();
        world.check_result();
    }
}

/// The service lost its streams, and the answer that would have said so was lost as well. What the
/// end's answer says is missing tells it.
#[test]
fn a_loss_that_no_creation_told_is_told_by_the_gaps_of_the_end() {
    let mut world = World::new();
    let take_all = |world: &mut World| {
        world.pump().ok();
        while !world.flights.is_empty() {
            world.handle(0, Verdict::Take);
            world.deliver(0);
            world.pump().ok();
        }
    };
    take_all(&mut world);
    world.act(&Action::Write(0, 5));
    world.act(&Action::Advance(200));
    take_all(&mut world);
    world.act(&Action::Vanish);
    world.act(&Action::Write(0, 7));
    world.act(&Action::Advance(200));
    world.handle(0, Verdict::Take);
    world.act(&Action::Deliver(0));
    world.handle(0, Verdict::TakeAndLoseTheAnswer);
    assert!(matches!(world.flights[0].request, Request::Create));
    world.recover();
    world.check_result();
    let account = world.delivery.accounts().next().unwrap();
    assert_eq!((account.delivered, account.dropped), (7, 5));
}

/// The end goes out while bytes are in flight. If they are refused first, it is refused too, for
/// its checksum, and told again.
#[test]
fn an_end_with_the_checksum_of_refused_bytes_is_told_again() {
    let mut world = World::new();
    world.pump().ok();
    for _ in 0..STREAMS {
        world.handle(0, Verdict::Take);
        world.deliver(0);
    }
    world.act(&Action::Write(0, 5));
    world.act(&Action::Finish);
    assert!(world.flights.iter().any(|flight| matches!(flight.request, Request::End(..))));
    world.handle(0, Verdict::Refuse);
    world.act(&Action::Deliver(0));
    let mark = world.flights.len() - 1;
    assert!(matches!(world.flights[mark].request, Request::Mark(..)));
    world.handle(mark, Verdict::Take);
    world.deliver(mark);
    world.recover();
    world.check_result();
}
