use bytes::Bytes;
use relay_protocol::{
    range::ByteRange,
    read::Marker,
    time::UnixMillis,
    write::{Crc32c, EndReason},
};

use super::{Text, Timestamps};
use crate::{
    read::{
        lines::{Begins, Ends, Item, Run},
        output::Output,
    },
    stream::EndRecord,
};

fn run(text: &'static str, time: u64, begins: Begins) -> Item {
    let ends = if text.ends_with('\n') { Ends::Line } else { Ends::Within };
    Item::Lines(Run {
        offset: 0,
        bytes: Bytes::from_static(text.as_bytes()),
        time: UnixMillis(time),
        begins,
        ends,
    })
}

fn written(timestamps: Timestamps, items: &[(usize, Item)]) -> String {
    let mut text = Text::new(timestamps);
    let mut output = Output::default();
    for (stream, item) in items {
        text.write(*stream, item, &mut output);
    }
    let frames = std::iter::from_fn(|| output.take());
    String::from_utf8(frames.flatten().collect()).unwrap()
}

#[test]
fn a_newline_is_added_only_where_another_stream_follows_an_unfinished_line() {
    let items = [
        (0, run("a", 1, Begins::Line)),
        (0, run("b\n", 1, Begins::Within)),
        (0, run("c", 1, Begins::Line)),
        (1, run("d\n", 1, Begins::Line)),
        (0, run("e", 1, Begins::Within)),
    ];
    assert_eq!(written(Timestamps::Hidden, &items), "ab\nc\nd\ne");
}

#[test]
fn every_line_has_its_time_once() {
    let items = [
        (0, run("a\nb", 1_000, Begins::Line)),
        (0, run("c\n", 1_000, Begins::Within)),
        (1, run("d\n", 86_400_001, Begins::Line)),
    ];
    let expected = "1970-01-01T00:00:01.000Z a\n1970-01-01T00:00:01.000Z bc\n\
                    1970-01-02T00:00:00.001Z d\n";
    assert_eq!(written(Timestamps::Shown, &items), expected);
}

#[test]
fn remarks_are_lines_of_their_own_and_only_a_vanished_writer_is_told_at_the_end() {
    let mark = |marker| Item::Mark { range: ByteRange::new(5, 17).unwrap(), marker };
    let end = |reason| {
        Item::End(EndRecord {
            crc32c: Crc32c(0),
            length: 17,
            reason,
            exit: None,
            at: UnixMillis(0),
        })
    };
    let items = [
        (0, run("a", 1, Begins::Line)),
        (0, mark(Marker::Dropped)),
        (0, mark(Marker::Missing)),
        (0, end(EndReason::Killed)),
        (1, end(EndReason::Abandoned)),
    ];
    let expected = "a\n[relay: 12 bytes dropped (5-16)]\n[relay: 12 bytes missing (5-16)]\n\
                    [relay: the writer vanished, what followed is unknown]\n";
    assert_eq!(written(Timestamps::Hidden, &items), expected);
}
