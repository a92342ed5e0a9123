use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use proptest::prelude::*;
use relay_protocol::{
    range::ByteRange,
    read::{Content, Cursor, Marker, Record, StreamRef},
    time::UnixMillis,
    write::{Crc32c, EndReason},
};

use super::{Framing, OpenCursor, Records, source_text};
use crate::{
    read::{
        lines::{Begins, Ends, Item, MAX_PART_BYTES, Run},
        output::Output,
    },
    stream::EndRecord,
};

fn source() -> StreamRef {
    StreamRef {
        pod: None,
        container: "main".parse().unwrap(),
        instance: "a1".parse().unwrap(),
        stream: "stdout".parse().unwrap(),
    }
}

fn run(offset: u64, bytes: &[u8]) -> Item {
    Item::Lines(Run {
        offset,
        bytes: Bytes::copy_from_slice(bytes),
        time: UnixMillis(5),
        begins: Begins::Line,
        ends: Ends::Last,
    })
}

fn written(framing: Framing, items: &[Item]) -> String {
    let mut records = Records::new(framing);
    let mut output = Output::default();
    let cursor = OpenCursor { before: Some("main/stderr@a1:3,main/stdout@a1:".to_owned()) };
    for item in items {
        records.write(&source_text(&source()), item, &cursor, &mut output);
    }
    String::from_utf8(std::iter::from_fn(|| output.take()).flatten().collect()).unwrap()
}

fn records(text: &str) -> Vec<Record> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn records_are_those_of_the_protocol() {
    let range = ByteRange::new(4, 9).unwrap();
    let end = EndRecord {
        crc32c: Crc32c(0),
        length: 9,
        reason: EndReason::Killed,
        exit: Some(137),
        at: UnixMillis(0),
    };
    let items =
        [run(0, b"a\n\xff\nb"), Item::Mark { range, marker: Marker::Dropped }, Item::End(end)];
    let text = written(Framing::Ndjson, &items);
    let record =
        |offset, length, time, content| Record { source: source(), offset, length, time, content };
    let time = Some(UnixMillis(5));
    let ended = Marker::End { reason: EndReason::Killed, exit: Some(137) };
    let expected = [
        record(0, 2, time, Content::Text("a\n".to_owned())),
        record(2, 2, time, Content::Base64("/wo=".to_owned())),
        record(4, 1, time, Content::Text("b".to_owned())),
        record(4, 5, None, Content::Marker(Marker::Dropped)),
        record(9, 0, None, Content::Marker(ended)),
    ];
    assert_eq!(records(&text), expected);
    for (line, record) in text.lines().zip(expected) {
        assert_eq!(line, serde_json::to_string(&record).unwrap());
    }
}

#[test]
fn an_event_has_the_position_behind_it_as_its_id_and_the_end_one_of_its_own() {
    let end = EndRecord {
        crc32c: Crc32c(0),
        length: 2,
        reason: EndReason::Eof,
        exit: Some(0),
        at: UnixMillis(0),
    };
    let text = written(Framing::Events, &[run(0, b"a\n"), Item::End(end)]);
    let ids: Vec<Cursor> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .map(|id| id.parse().unwrap())
        .collect();
    let positions: Vec<u64> = ids.iter().map(|cursor| cursor.positions[1].1).collect();
    assert_eq!(positions, [2, 3]);
    assert!(text.ends_with("\n\n"), "{text:?}");
    assert_eq!(text.matches("\n\n").count(), 2);
}

proptest! {
    #[test]
    fn records_give_the_bytes_back(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n')], 1..400), long in any::<bool>()) {
        let mut bytes = bytes;
        if long {
            bytes.extend_from_slice(&vec![b'l'; MAX_PART_BYTES + 5]);
        }
        let mut joined = Vec::new();
        for record in records(&written(Framing::Ndjson, &[run(0, &bytes)])) {
            prop_assert_eq!(record.offset, joined.len() as u64);
            match record.content {
                Content::Text(text) => joined.extend_from_slice(text.as_bytes()),
                Content::Base64(text) => joined.extend_from_slice(&STANDARD.decode(text).unwrap()),
                Content::Marker(_) => prop_assert!(false, "there is no marker"),
            }
            prop_assert_eq!(record.offset + record.length, joined.len() as u64);
            prop_assert!(record.length <= MAX_PART_BYTES as u64);
        }
        prop_assert_eq!(joined, bytes);
    }
}
