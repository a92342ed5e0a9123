//! Random writes against a simple model: what is acknowledged is read back once, in order.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use proptest::{prelude::*, test_runner::TestRunner};
use relay_tests::{on_every_store, program::is_long_run, store::Store};
use serde_json::Value;

use crate::lab::{Lab, Writer, crc32c};

on_every_store! {
    writes_in_any_order_end_as_the_model_says,
}

/// Cells of a stream: the unit of offsets and lengths in a case.
const CELLS: usize = 48;
/// Cases that run at the same time, since most of each is waiting.
const THREADS: usize = 4;
/// Cases on one store. The emulator of a bucket looks at all objects in it for each request, so many
/// cases need many buckets.
const BATCH: u32 = 25;
/// Longest short form, for one store on a machine that does much else.
const SHORT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
enum Act {
    /// Bytes for these cells; of an offset there are two versions.
    Put { start: usize, length: usize, version: Version, held: bool },
    /// They will never come.
    Mark { start: usize, length: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// What is done, several acts at a time.
#[derive(Clone, Debug)]
struct Case {
    /// Bytes of a cell.
    scale: usize,
    steps: Vec<Vec<Act>>,
}

fn act() -> impl Strategy<Value = Act> {
    let cells = || (0..CELLS - 12, 1..12_usize);
    let version = prop::sample::select(vec![Version::First, Version::First, Version::Second]);
    prop_oneof![
        5 => (cells(), version, prop::bool::weighted(0.005)).prop_map(|((start, length), version, held)| {
            Act::Put { start, length, version, held }
        }),
        1 => cells().prop_map(|(start, length)| Act::Mark { start, length }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let steps = prop::collection::vec(prop::collection::vec(act(), 1..4), 1..9);
    // The larger ones reach over the limits of a segment and a frame.
    let scale = prop_oneof![150 => Just(1_usize), 1 => Just(30_011)];
    (scale, steps).prop_map(|(scale, steps)| Case { scale, steps })
}

/// What is known of each cell.
#[derive(Clone, Copy, Default)]
struct Cell {
    stored: Option<Version>,
    is_marked: bool,
}

impl Cell {
    fn is_covered(self) -> bool {
        self.stored.is_some() || self.is_marked
    }
}

struct Model {
    scale: usize,
    cells: [Cell; CELLS],
}

/// The bytes of cells: text, with newlines here and there, and no byte the same in both versions.
fn bytes(start: usize, length: usize, version: Version) -> Vec<u8> {
    let byte = |at: usize| match (version, at % 7) {
        (Version::First, 6) => b'\n',
        (Version::First, _) => b'a' + u8::try_from(at % 26).unwrap(),
        (Version::Second, _) => b'A' + u8::try_from(at % 25).unwrap(),
    };
    (start..start + length).map(byte).collect()
}

impl Model {
    fn conflicts(&self, (start, length): (usize, usize), version: Version) -> bool {
        self.cells[start..start + length]
            .iter()
            .any(|cell| cell.stored.is_some_and(|it| it != version))
    }

    /// Learns what the answers said. They are exact where acts at the same time do not contradict.
    fn learn(&mut self, step: &[Act], statuses: &[u16]) -> Result<(), TestCaseError> {
        let before: Vec<bool> = step.iter().map(|act| self.refuses(act)).collect();
        for (act, _) in step.iter().zip(statuses).filter(|pair| *pair.1 == 202) {
            match *act {
                Act::Put { start, length, version, .. } => {
                    prop_assert!(!self.conflicts((start, length), version), "{act:?} got 202");
                    let cells = self.cells[start..start + length].iter_mut();
                    cells.for_each(|cell| cell.stored = Some(version));
                }
                Act::Mark { start, length } => {
                    let cells = self.cells[start..start + length].iter_mut();
                    cells.for_each(|cell| cell.is_marked = true);
                }
            }
        }
        for ((act, status), refused) in step.iter().zip(statuses).zip(before) {
            // Refused before is refused now; refused now takes bytes that are stored now.
            let allowed =
                if refused { *status == 409 } else { *status == 202 || self.refuses(act) };
            prop_assert!(allowed && [202, 409].contains(status), "{act:?} got {status}");
        }
        Ok(())
    }

    fn refuses(&self, act: &Act) -> bool {
        matches!(*act, Act::Put { start, length, version, .. } if self.conflicts((start, length), version))
    }

    /// `Upload-Offset` and `Relay-Gaps`, of a stream that is `length` cells long.
    fn head(&self, length: usize) -> (u64, String) {
        let open = |cell: &Cell| !cell.is_covered();
        let first = self.cells[..length].iter().position(open).unwrap_or(length);
        let all: Vec<usize> = (0..length).filter(|at| open(&self.cells[*at])).collect();
        let gaps = all.chunk_by(|one, next| one + 1 == *next);
        let gaps = gaps.map(|run| (run[0] * self.scale, (run[run.len() - 1] + 1) * self.scale - 1));
        let gaps: Vec<String> = gaps.take(16).map(|(from, to)| format!("{from}-{to}")).collect();
        ((first * self.scale) as u64, gaps.join(","))
    }

    /// Cells up to the last that is stored or marked.
    fn length(&self) -> usize {
        self.cells.iter().rposition(|cell| cell.is_covered()).map_or(0, |last| last + 1)
    }

    fn content(&self, at: usize) -> Vec<u8> {
        self.cells[at].stored.map_or(Vec::new(), |it| bytes(at * self.scale, self.scale, it))
    }

    /// The checksum of the bytes that no marker covers.
    fn checksum(&self) -> String {
        let cells = (0..CELLS).filter(|at| !self.cells[*at].is_marked);
        crc32c(&cells.flat_map(|at| self.content(at)).collect::<Vec<u8>>())
    }

    /// What a reader is to be shown of a cell.
    fn kind(&self, at: usize) -> &'static str {
        match self.cells[at] {
            Cell { stored: Some(_), .. } => "bytes",
            Cell { is_marked: true, .. } => "dropped",
            Cell { .. } => "gap",
        }
    }
}

fn perform(writer: &Writer, scale: usize, act: &Act) -> u16 {
    match *act {
        Act::Put { start, length, version, held } => {
            let (start, length) = (start * scale, length * scale);
            let body = bytes(start, length, version);
            let range = crate::lab::range(start as u64, length as u64);
            let mut request = writer.request("PATCH", "data").header("content-range", range);
            if !held {
                request = request.header("relay-flush", "now");
            }
            request.body(body).send().unwrap().status().as_u16()
        }
        Act::Mark { start, length } => {
            writer.mark((start * scale) as u64, (length * scale) as u64).status
        }
    }
}

/// Does the acts of a step at the same time.
fn perform_all(writer: &Writer, scale: usize, step: &[Act]) -> Vec<u16> {
    if let [act] = step {
        return vec![perform(writer, scale, act)];
    }
    thread::scope(|scope| {
        let acts: Vec<_> =
            step.iter().map(|act| scope.spawn(|| perform(writer, scale, act))).collect();
        acts.into_iter().map(|act| act.join().unwrap()).collect()
    })
}

fn run(lab: &Lab<'_>, pod: &str, case: &Case) -> Result<(), TestCaseError> {
    let writer = lab.writer(pod, "i", "stdout");
    let mut model = Model { scale: case.scale, cells: [Cell::default(); CELLS] };
    for step in &case.steps {
        model.learn(step, &perform_all(&writer, case.scale, step))?;
        prop_assert_eq!(writer.head(), model.head(model.length()));
    }
    let length = model.length();
    end(&writer, &model, length)?;
    // A hole may still be filled, and what is past the end may not come.
    if let Some(hole) = (0..length).find(|at| model.kind(*at) == "gap") {
        let late = [Act::Put { start: hole, length: 1, version: Version::First, held: false }];
        model.learn(&late, &perform_all(&writer, case.scale, &late))?;
    }
    let past = Act::Put { start: length, length: 1, version: Version::First, held: false };
    prop_assert_eq!(perform(&writer, case.scale, &past), 409);
    prop_assert_eq!(writer.head(), model.head(length));
    read_back(lab, pod, &model, length)
}

fn end(writer: &Writer, model: &Model, length: usize) -> Result<(), TestCaseError> {
    let (bytes, crc) = (length * model.scale, model.checksum());
    let (complete, gaps) = model.head(length);
    if complete == bytes as u64 {
        let wrong = format!("{:08x}", !u32::from_str_radix(&crc, 16).unwrap());
        prop_assert_eq!(writer.end(bytes, &wrong).status, 409);
    }
    for _ in 0..2 {
        let answer = writer.end(bytes, &crc);
        prop_assert_eq!((answer.status, answer.header("relay-gaps")), (202, gaps.as_str()));
    }
    prop_assert_eq!(writer.end(bytes + 1, &crc).status, 409);
    Ok(())
}

/// Everything comes once, in order, and as what it is.
fn read_back(lab: &Lab<'_>, pod: &str, model: &Model, length: usize) -> Result<(), TestCaseError> {
    let mut at = 0;
    let mut shown: Vec<Vec<u8>> = vec![Vec::new(); length];
    let records = lab.records(pod, "");
    let (last, records) = records.split_last().unwrap();
    prop_assert_eq!(&last["marker"]["kind"], "end");
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    for record in records {
        let (offset, count) = (number(&record["offset"]), number(&record["length"]));
        prop_assert_eq!(offset, at, "in order and without a hole: {}", record);
        at += count;
        let text = record["text"].as_str();
        let kind = record["marker"]["kind"].as_str().unwrap_or("bytes");
        for byte in offset..at {
            prop_assert_eq!(kind, model.kind(byte / model.scale), "{}", record);
            if let Some(text) = text {
                shown[byte / model.scale].push(text.as_bytes()[byte - offset]);
            }
        }
    }
    prop_assert_eq!(at, length * model.scale);
    for (cell, shown) in shown.iter().enumerate() {
        prop_assert!(*shown == model.content(cell), "cell {cell}");
    }
    let stored: Vec<usize> = (0..length).filter(|at| model.kind(*at) == "bytes").collect();
    for run in stored.chunk_by(|one, next| one + 1 == *next) {
        let (from, to) = (run[0] * model.scale, (run[run.len() - 1] + 1) * model.scale - 1);
        let range = format!("bytes={from}-{to}");
        let answer = lab.get(pod, "format=raw", &[("range", &range)]);
        let content: Vec<u8> = run.iter().flat_map(|at| model.content(*at)).collect();
        prop_assert!(answer.bytes().unwrap() == content, "{}", range);
    }
    Ok(())
}

fn writes_in_any_order_end_as_the_model_says(store: &Store) {
    let (long, begun, tried) = (is_long_run(), SystemTime::now(), AtomicUsize::new(0));
    let batches = if long { 100 } else { 4 };
    let until = (!long).then_some(begun + SHORT);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let tried = &tried;
            scope
                .spawn(move || (0..batches).for_each(|_| try_some(&store.another(), tried, until)));
        }
    });
    let tried = tried.load(Ordering::Relaxed);
    assert!(tried > 20, "only {tried} cases in {SHORT:?}");
}

/// Tries a batch of cases, each with a pod of its own.
fn try_some(store: &Store, tried: &AtomicUsize, until: Option<SystemTime>) {
    let lab = Lab::on(store);
    let config =
        ProptestConfig { cases: BATCH, source_file: Some(file!()), ..ProptestConfig::default() };
    let tested = TestRunner::new(config).run(&case(), |case| {
        if until.is_some_and(|until| SystemTime::now() > until) {
            return Ok(());
        }
        let pod = format!("p{}", tried.fetch_add(1, Ordering::Relaxed));
        run(&lab, &pod, &case)
    });
    tested.map_err(|error| anyhow::anyhow!("{error}")).unwrap();
}
