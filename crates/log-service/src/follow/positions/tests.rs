use relay_protocol::{
    read::{Cursor, StreamKey, StreamRef},
    time::UnixMillis,
};

use super::{LATE_MILLIS, MAX_FINISHED, Positions};

fn stream(instance: &str, name: &str) -> StreamKey {
    StreamKey::of(&StreamRef {
        pod: None,
        container: "main".parse().unwrap(),
        instance: instance.parse().unwrap(),
        stream: name.parse().unwrap(),
    })
}

fn positions(cursor: &str, streams: &[(StreamKey, UnixMillis)]) -> Positions {
    let mut positions = Positions::default();
    positions.resume(cursor.parse().unwrap(), streams.iter().cloned());
    positions
}

#[test]
fn streams_go_on_where_the_cursor_says_and_new_ones_begin_at_their_first_byte() {
    let streams = [
        (stream("a", "stdout"), UnixMillis(1_000)),
        (stream("b", "stdout"), UnixMillis(50_000)),
        (stream("b", "stderr"), UnixMillis(49_990)),
        (stream("c", "stdout"), UnixMillis(90_000)),
    ];
    let read = |cursor: &str| {
        let positions = positions(cursor, &streams);
        [0, 1, 2, 3].map(|at: usize| positions.is_read(&streams[at].0, streams[at].1))
    };
    assert_eq!(positions("main/stdout@b:7", &streams).get(&streams[1].0), Some(7));
    assert_eq!(read("main/stdout@b:7"), [true, false, false, false]);
    assert_eq!(read(""), [false; 4]);
    assert_eq!(read("main/stdout@z:7"), [false; 4], "a stream that is gone");
    // A cursor of the service's own says it, whatever it names.
    assert_eq!(read("60000~"), [true, true, true, false]);
    assert_eq!(read("60000~main/stderr@b:7"), [true, true, false, false]);
    assert_eq!(read("0~main/stdout@c:7"), [false; 4]);
}

#[test]
fn what_was_read_to_its_end_is_named_as_long_as_something_created_with_it_may_show() {
    let mut positions = Positions::default();
    let (early, late) = (UnixMillis(1_000_000), UnixMillis(1_000_000 + LATE_MILLIS));
    positions.open(&stream("a", "stdout"), early);
    positions.finish(stream("a", "stdout"), early, 9);
    positions.open(&stream("b", "stdout"), late);
    assert_eq!(positions.text(1_000), "1000000~main/stdout@a:9,");
    positions.see(UnixMillis(late.0 + 1));
    assert_eq!(positions.text(1_000), "1000001~");
    // One that shows later still is read to its end, and then not named.
    positions.finish(stream("c", "stdout"), UnixMillis(5), 9);
    assert_eq!(positions.text(1_000), "1000001~");
}

#[test]
fn a_cursor_names_few_of_many_that_were_read_and_all_that_were_not() {
    let mut positions = Positions::default();
    let many = u64::try_from(MAX_FINISHED).unwrap() + 36;
    for number in 0..many {
        let name = stream(&format!("i{number}"), "stdout");
        positions.open(&name, UnixMillis(number));
        match number {
            7 => positions.put(name, 3),
            _ => positions.finish(name, UnixMillis(number), 9),
        }
    }
    let cursor: Cursor = positions.text(10_000).trim_end_matches(',').parse().unwrap();
    assert_eq!(cursor.positions.len(), MAX_FINISHED + 1);
    let mut resumed = Positions::default();
    resumed.resume(cursor, std::iter::empty());
    for number in 0..many {
        let name = stream(&format!("i{number}"), "stdout");
        let is_read = resumed.is_read(&name, UnixMillis(number));
        let expected = match number {
            7 => (false, Some(3)),
            0..36 => (true, None),
            _ => (false, Some(9)),
        };
        assert_eq!((is_read, resumed.get(&name)), expected, "{number}");
    }
    assert!(positions.text(100).len() > 1_000, "it is made once");
    positions.put(stream("z", "stdout"), 1);
    assert!(positions.text(100).len() < 150);
}
