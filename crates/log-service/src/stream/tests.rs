use super::{
    EndRecord, EndRefusal, Flush, HOLD_ALONE, HOLD_FOLLOWED, Moment, Next, Outcome, Refusal,
    Stream, Verdict, Waiter, Write,
};
use crate::{budget::Budget, segment::Header};
use bytes::Bytes;
use proptest::prelude::*;
use relay_protocol::{
    capability::StreamUuid,
    limit::{LATE_FILL, MAX_SEGMENT_BYTES},
    range::ByteRange,
    range_set::RangeSet,
    time::{CaptureTimes, UnixMillis},
    write::{Crc32c, EndReason, EndStream, WriterMarker},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

fn write(bytes: impl Into<Bytes>, flush: Flush) -> Write {
    let permit = Arc::new(Budget::new(u64::MAX).reserve(0).unwrap());
    Write { bytes: bytes.into(), times: Arc::new(CaptureTimes::default()), flush, permit }
}

fn at(steady: Instant) -> Moment {
    Moment { steady, wall: UnixMillis(1_000) }
}

fn header(start: u64, bytes: &[u8]) -> Header {
    Header::of(StreamUuid([0; 16]), start, bytes)
}

fn none() -> RangeSet {
    RangeSet::default()
}

fn commit(stream: &mut Stream, now: Instant) -> Option<(u64, Bytes)> {
    match stream.next(now, HOLD_ALONE) {
        Next::Commit(commit) => Some((commit.range.start(), commit.bytes)),
        Next::Wait(_) | Next::Idle => None,
    }
}

fn store(stream: &mut Stream, now: Instant) {
    while let Some((start, bytes)) = commit(stream, now) {
        stream.settle(start, Outcome::Stored(header(start, &bytes)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_after_silence_go_at_once_and_a_trickle_once_per_hold() {
    let (mut stream, begin) = (Stream::default(), Instant::now());
    stream.write(range(0, 1), &write("a", Flush::Held), &none(), at(begin)).unwrap();
    assert_eq!(commit(&mut stream, begin), Some((0, Bytes::from("a"))));
    let soon = begin + Duration::from_millis(50);
    stream.write(range(1, 2), &write("b", Flush::Held), &none(), at(soon)).unwrap();
    assert_eq!(stream.next(soon, HOLD_ALONE), Next::Wait(begin + HOLD_ALONE));
    assert_eq!(stream.next(soon, HOLD_FOLLOWED), Next::Wait(begin + HOLD_FOLLOWED));
    let later = begin + HOLD_FOLLOWED;
    stream.write(range(2, 3), &write("c", Flush::Held), &none(), at(later)).unwrap();
    let Next::Commit(joined) = stream.next(later, HOLD_FOLLOWED) else { panic!("not due") };
    assert_eq!((joined.range, &joined.bytes[..]), (range(1, 3), &b"bc"[..]));
    stream.write(range(9, 10), &write("z", Flush::Now), &none(), at(later)).unwrap();
    assert_eq!(commit(&mut stream, later), Some((9, Bytes::from("z"))));
}

#[tokio::test(start_paused = true)]
async fn adjacent_bytes_merge_to_one_mebibyte_and_no_more() {
    let (mut stream, now) = (Stream::default(), Instant::now());
    stream.write(range(0, 1), &write("x", Flush::Now), &none(), at(now)).unwrap();
    store(&mut stream, now);
    let big = vec![7; 3 * MAX_SEGMENT_BYTES / 2];
    let end = 1 + big.len() as u64;
    stream.write(range(1, end), &write(big, Flush::Held), &none(), at(now)).unwrap();
    let (start, bytes) = commit(&mut stream, now).unwrap();
    assert_eq!((start, bytes.len()), (1, MAX_SEGMENT_BYTES));
    assert_eq!(commit(&mut stream, now), None);
    stream.flush();
    let (_, bytes) = commit(&mut stream, now).unwrap();
    assert_eq!(bytes.len(), MAX_SEGMENT_BYTES / 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_written_one_way_only() {
    let now = Instant::now();
    let one = write("a", Flush::Now);
    let mut ranged = Stream::default();
    ranged.write(range(0, 1), &one, &none(), at(now)).unwrap();
    assert!(matches!(ranged.append(&one, None, at(now)), Err(Refusal::Mode(_))));
    let mut appended = Stream::default();
    assert_eq!(appended.append(&one, Some("k"), at(now)), Ok(range(0, 1)));
    let refused = appended.write(range(1, 2), &one, &none(), at(now));
    assert!(matches!(refused, Err(Refusal::Mode(_))));
    assert_eq!(appended.find_append("k"), Some(range(0, 1)));
    assert_eq!(appended.find_append("other"), None);
}

#[tokio::test(start_paused = true)]
async fn appends_behind_a_lost_one_move_with_it() {
    let (mut stream, now) = (Stream::default(), Instant::now());
    for (waiter, text) in ["aa", "bb"].iter().enumerate() {
        let place = stream.append(&write(*text, Flush::Now), Some(text), at(now)).unwrap();
        stream.wait(Waiter(waiter as u64), place);
        if waiter == 0 {
            assert!(matches!(stream.next(now, HOLD_ALONE), Next::Commit(_)));
        }
    }
    assert_eq!(stream.next(now, HOLD_ALONE), Next::Idle, "one append at a time");
    let other = Bytes::from("other");
    let settled = stream.settle(0, Outcome::Exists(header(0, &other), other));
    let moved = |waiter| (Waiter(waiter), Verdict::Moved);
    assert_eq!(settled.verdicts, [moved(1), moved(0)]);
    assert_eq!(stream.append(&write("aa", Flush::Now), Some("aa"), at(now)), Ok(range(5, 7)));
}

#[tokio::test(start_paused = true)]
async fn an_end_takes_nothing_past_it_and_holes_may_be_filled_for_a_while() {
    let (mut stream, now) = (Stream::default(), Instant::now());
    stream.write(range(0, 2), &write("ab", Flush::Now), &none(), at(now)).unwrap();
    store(&mut stream, now);
    let declared =
        |length| EndStream { length, crc32c: Crc32c(1), reason: EndReason::Eof, exit: Some(0) };
    let end = |length| EndRecord::new(&declared(length), UnixMillis(1_000));
    assert_eq!(stream.begin_end(&end(1)), Err(EndRefusal::TooShort { known: 2 }));
    assert_eq!(stream.begin_end(&end(4)), Ok(false));
    let past = stream.write(range(4, 5), &write("x", Flush::Now), &none(), at(now));
    assert_eq!(past, Err(Refusal::PastEnd(4)));
    stream.learn_end(end(4));
    assert_eq!(stream.begin_end(&end(4)), Ok(true));
    assert_eq!(stream.begin_end(&end(5)), Err(EndRefusal::EndedOtherwise));
    assert_eq!(stream.gaps().collect::<Vec<_>>(), [range(2, 4)]);
    let late = UnixMillis(1_001 + u64::try_from(LATE_FILL.as_millis()).unwrap());
    let late = Moment { steady: now, wall: late };
    let fill = write("cd", Flush::Now);
    assert_eq!(stream.write(range(2, 4), &fill, &none(), late), Err(Refusal::Closed));
    stream.write(range(2, 4), &fill, &none(), at(now)).unwrap();
    store(&mut stream, now);
    assert!(stream.is_complete(4));
    assert_eq!(stream.indexed_crc(), Some(Crc32c(crc32c::crc32c(b"abcd"))));
}

#[test]
fn a_marker_of_another_process_does_not_move_the_place_of_an_append() {
    let now = Instant::now();
    let mut stream = Stream::default();
    assert_eq!(stream.append(&write("ab", Flush::Now), None, at(now)), Ok(range(0, 2)));
    stream.learn_marker(range(0, 9), WriterMarker::Dropped);
    assert_eq!(stream.append(&write("c", Flush::Now), None, at(now)), Ok(range(2, 3)));
    let mut marked = Stream::default();
    marked.learn_marker(range(0, 9), WriterMarker::Dropped);
    let refused = marked.append(&write("c", Flush::Now), None, at(now));
    assert_eq!(refused, Err(Refusal::Mode(crate::segment::Mode::Ranged)));
}

#[test]
fn markers_move_the_end_and_stored_bytes_win_over_them() {
    let mut stream = Stream::default();
    stream.learn(&header(0, b"abc"));
    assert!(stream.learn_marker(range(2, 6), WriterMarker::Dropped));
    assert!(!stream.learn_marker(range(2, 6), WriterMarker::Dropped));
    assert_eq!(stream.durable_end(), 6);
    assert_eq!(stream.unmarked(), [range(0, 2)]);
    assert_eq!(stream.indexed_crc(), None);
    stream.learn(&header(8, b"x"));
    assert_eq!(stream.gaps().collect::<Vec<_>>(), [range(6, 8)]);
}

#[tokio::test(start_paused = true)]
async fn of_two_writers_of_one_start_the_first_wins_and_the_loser_is_kept() {
    let (mut stream, now) = (Stream::default(), Instant::now());
    for (waiter, (part, text)) in [(range(0, 2), "ab"), (range(2, 4), "cd")].into_iter().enumerate()
    {
        stream.write(part, &write(text, Flush::Now), &none(), at(now)).unwrap();
        stream.wait(Waiter(waiter as u64), part);
    }
    commit(&mut stream, now).unwrap();
    let first = Bytes::from("abX");
    let settled = stream.settle(0, Outcome::Exists(header(0, &first), first));
    let conflict = (Waiter(1), Verdict::Conflict(range(2, 3)));
    assert_eq!(settled.verdicts, [(Waiter(0), Verdict::Failed), conflict]);
    assert_eq!(settled.loser, Some((0, Bytes::from("abcd"))));
    let again = stream.write(range(0, 2), &write("ab", Flush::Now), &none(), at(now));
    assert_eq!(again, Err(Refusal::Compare(vec![range(0, 2)])));
}

/// What the driver does, with a store that fails, forgets answers and has other writers.
#[derive(Default)]
struct World {
    stream: Stream,
    store: BTreeMap<u64, Bytes>,
    flights: Vec<(u64, Bytes)>,
    /// What was acknowledged, by offset.
    acknowledged: HashMap<u64, u8>,
    waiting: HashMap<Waiter, (ByteRange, Bytes)>,
    waiters: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Start, length, and which of two contents.
    Write(u64, u64, Version),
    /// Another process stores.
    Foreign(u64, u64),
    Next,
    Settle(usize, Fate),
}

/// Which of two contents.
#[derive(Clone, Copy, Debug)]
enum Version {
    First,
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    Fails,
    /// It arrives, and the answer is lost.
    FailsAfterArriving,
}

fn content(start: u64, length: u64, version: Version) -> Bytes {
    let salt = match version {
        Version::First => 0,
        Version::Other => 100,
    };
    (start..start + length).map(|at| u8::try_from(at % 90).unwrap() + salt).collect()
}

impl World {
    /// What a reader shows at an offset.
    fn shown(&self, offset: u64) -> Option<u8> {
        let holder = self.stream.index().at(offset)?;
        let bytes = &self.store[&holder.start];
        Some(bytes[usize::try_from(offset - holder.start).unwrap()])
    }

    fn write(&mut self, start: u64, bytes: &Bytes, now: Instant) {
        let wanted = ByteRange::from_length(start, bytes.len()).unwrap();
        let mut same = RangeSet::default();
        loop {
            let taken =
                self.stream.write(wanted, &write(bytes.clone(), Flush::Now), &same, at(now));
            match taken {
                Ok(()) => break,
                Err(Refusal::Compare(parts)) => {
                    for part in parts {
                        for offset in part.start()..part.end() {
                            let ours = bytes[usize::try_from(offset - start).unwrap()];
                            if self.shown(offset) != Some(ours) {
                                return; // 409
                            }
                        }
                        same.insert(part);
                    }
                }
                Err(Refusal::Doubtful(starts)) => {
                    for start in starts {
                        let found = self.store.get(&start).map(|bytes| header(start, bytes));
                        if let Some(header) = found {
                            self.stream.learn(&header);
                        }
                        self.stream.resolve(start);
                    }
                }
                Err(Refusal::Pending(_)) => return, // comes again later
                Err(refusal) => panic!("{refusal:?}"),
            }
        }
        self.waiters += 1;
        let waiter = Waiter(self.waiters);
        if self.stream.wait(waiter, wanted) {
            self.waiting.insert(waiter, (wanted, bytes.clone()));
        } else {
            self.acknowledge(wanted, bytes);
        }
    }

    fn acknowledge(&mut self, wanted: ByteRange, bytes: &Bytes) {
        for (offset, byte) in (wanted.start()..wanted.end()).zip(bytes) {
            assert_eq!(self.shown(offset), Some(*byte), "acknowledged at {offset}");
            self.acknowledged.insert(offset, *byte);
        }
    }

    fn settle(&mut self, flight: usize, fate: Fate) {
        if self.flights.is_empty() {
            return;
        }
        let (start, bytes) = self.flights.remove(flight % self.flights.len());
        let outcome = match (fate, self.store.get(&start).cloned()) {
            (Fate::Fails, _) => Outcome::Failed,
            (_, Some(existing)) => Outcome::Exists(header(start, &existing), existing),
            (fate, None) => {
                self.store.insert(start, bytes.clone());
                match fate {
                    Fate::FailsAfterArriving => Outcome::Failed,
                    _ => Outcome::Stored(header(start, &bytes)),
                }
            }
        };
        for (waiter, verdict) in self.stream.settle(start, outcome).verdicts {
            let (wanted, bytes) = self.waiting.remove(&waiter).expect("told once");
            if verdict == Verdict::Stored {
                self.acknowledge(wanted, &bytes);
            }
        }
    }

    fn step(&mut self, step: &Step, now: Instant) {
        match *step {
            Step::Write(start, length, version) => {
                self.write(start, &content(start, length, version), now);
            }
            Step::Foreign(start, length) => {
                self.store.entry(start).or_insert_with(|| content(start, length, Version::First));
            }
            Step::Next => {
                if let Some((start, bytes)) = commit(&mut self.stream, now) {
                    self.flights.push((start, bytes));
                }
            }
            Step::Settle(flight, fate) => self.settle(flight, fate),
        }
        let pieces: Vec<ByteRange> = self
            .stream
            .pending
            .overlapping(range(0, u64::MAX))
            .into_iter()
            .map(|(part, _)| part)
            .collect();
        let total: u64 = pieces.iter().map(|part| part.length()).sum();
        assert_eq!(total, pieces.into_iter().collect::<RangeSet>().length(), "held once");
    }
}

/// What several processes do. Where they write different bytes from different starts, only a
/// reader can see it, and shows a conflict: so here they write the same.
fn shared_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => step().prop_map(|step| match step {
            Step::Write(start, length, _) => Step::Write(start, length, Version::First),
            step => step,
        }),
        1 => (0..40_u64, 1..12_u64).prop_map(|(start, length)| Step::Foreign(start, length)),
    ]
}

/// What one process does.
fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        3 => Just(Fate::Arrives),
        1 => Just(Fate::Fails),
        1 => Just(Fate::FailsAfterArriving)
    ];
    prop_oneof![
        4 => (0..40_u64, 1..12_u64, prop_oneof![4 => Just(Version::First), 1 => Just(Version::Other)])
            .prop_map(|(start, length, version)| Step::Write(start, length, version)),
        3 => Just(Step::Next),
        3 => (0..4_usize, fate).prop_map(|(flight, fate)| Step::Settle(flight, fate)),
    ]
}

proptest! {
    /// The oracle is the map of acknowledged bytes.
    #[test]
    fn nothing_acknowledged_is_lost_or_mixed_and_everyone_is_answered(
        steps in prop_oneof![
            prop::collection::vec(step(), 0..80),
            prop::collection::vec(shared_step(), 0..80),
        ],
    ) {
        let mut world = World::default();
        let now = Instant::now();
        for step in steps {
            world.step(&step, now);
        }
        for _ in 0..200 {
            world.step(&Step::Next, now);
            world.settle(0, Fate::Arrives);
        }
        prop_assert!(world.waiting.is_empty(), "waiting: {:?}", world.waiting);
        prop_assert!(!world.stream.is_busy());
        for (offset, byte) in &world.acknowledged {
            prop_assert!(world.stream.stored().covers(range(*offset, offset + 1)));
            prop_assert_eq!(world.shown(*offset), Some(*byte));
        }
    }
}
