//! Bodies that become much more than they are.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, SystemTime},
};

use relay_tests::program::is_long_run;

use super::{
    http::PATIENCE,
    lab::{Lab, Stream},
};

/// What a bomb may cost beside what the service used before.
const MOST: u64 = 8 << 20;

/// Bits, least significant first, as DEFLATE wants them.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn number(&mut self, value: u32, count: usize) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if value >> bit & 1 == 1 {
                *self.bytes.last_mut().unwrap() |= 1 << (self.used % 8);
            }
            self.used += 1;
        }
    }

    /// A Huffman code: its first digit comes first.
    fn code(&mut self, digits: &str) {
        digits.bytes().for_each(|digit| self.number(u32::from(digit == b'1'), 1));
    }
}

/// One gzip member of 1 MiB that becomes 1 GiB: one literal, and then 258 bytes for every two bits.
fn gzip_bomb() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.number(0b101, 3); // the last block, with codes of its own
    bits.number(29, 5); // 286 literals and lengths
    bits.number(0, 5); // one distance
    bits.number(14, 4); // lengths of 18 codes of code lengths, in the order of RFC 1951
    for length in [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2] {
        bits.number(length, 3);
    }
    let (zeros, one, two) = ("0", "10", "11");
    bits.code(two); // literal 0
    for repeated in [138, 117] {
        bits.code(zeros);
        bits.number(repeated - 11, 7);
    }
    bits.code(two); // 256, the end
    bits.code(zeros);
    bits.number(28 - 11, 7);
    bits.code(one); // 285: 258 bytes
    bits.code(one); // a distance of 1
    bits.code("10");
    bits.bytes.resize(1 << 20, 0);
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], bits.bytes.as_slice()].concat()
}

/// A frame of zstd with this window, whose blocks repeat one byte to 128 KiB each.
fn zstd_frame(header: &[u8], blocks: usize) -> Vec<u8> {
    let mut frame = [&[0x28, 0xb5, 0x2f, 0xfd], header].concat();
    for block in 1..=blocks {
        let last = u8::from(block == blocks);
        frame.extend_from_slice(&[0x02 | last, 0x00, 0x10, b'x']);
    }
    frame
}

/// A frame of zstd that holds these bytes as they are.
fn zstd_plain(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
    let blocks = bytes.chunks(128 << 10);
    let last = blocks.len() - 1;
    for (number, block) in blocks.enumerate() {
        let header = u32::try_from(block.len()).unwrap() << 3 | u32::from(number == last);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

/// A table of codes, half of them for 0 and half for 1, with as many cells as may be: what is slow
/// to build.
fn table(bits: &mut Bits, log: usize) {
    let half = 1 << (log - 1);
    bits.number(u32::try_from(log).unwrap() - 5, 4);
    bits.number(half + 1, log);
    bits.number(2 * half - 1, log);
    bits.number(0, bits.used.next_multiple_of(8) - bits.used);
}

/// A frame of zstd whose blocks have 20 bytes, three tables among them, and become 4.
fn zstd_of_tables(length: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // One literal, repeated once, and one sequence.
    bits.bytes.extend_from_slice(&[0x09, b'x', 1, 0xa8]);
    bits.used = bits.bytes.len() * 8;
    for log in [9, 8, 9] {
        table(&mut bits, log);
    }
    bits.bytes.extend_from_slice(&[0, 0, 0, 4]);
    let header = u32::try_from(bits.bytes.len()).unwrap() << 3 | 0b100;
    let block = [&header.to_le_bytes()[..3], &bits.bytes].concat();
    let begin: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 8 << 3, 0, 0];
    let blocks = block.repeat((length - 25) / block.len());
    [begin, b"12345678", &blocks, &[1, 0, 0]].concat()
}

/// Windows of 2 MiB, as an encoder would ask for, of 8 MiB, 128 MiB and 2 GiB.
const WINDOWS: [u8; 4] = [0x58, 0x68, 0x88, 0xa8];

/// All of them, each with its encoding.
fn bombs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut bombs = vec![("one member", "gzip", gzip_bomb())];
    for window in WINDOWS {
        bombs.push(("one frame", "zstd", zstd_frame(&[0, window], 8192)));
    }
    bombs.push(("a window of 3.75 TiB, as it says", "zstd", zstd_frame(&[0, 0xff], 8192)));
    bombs.push(("many frames", "zstd", zstd_frame(&[0, 0x58], 8).repeat(1024)));
    bombs.push(("a whole that says 1 GiB", "zstd", zstd_frame(&[0xa0, 0, 0, 0, 0x40], 8192)));
    bombs.push(("a whole that says 1 byte", "zstd", zstd_frame(&[0x20, 1], 8192)));
    bombs
}

fn send(stream: &Stream, range: Option<&str>, encoding: &str, body: &[u8]) -> u16 {
    let range = range.map_or(String::new(), |range| format!("content-range: {range}\r\n"));
    let path = &stream.path;
    let head = format!("PATCH {path}/data HTTP/1.1\r\n{range}content-encoding: {encoding}");
    stream.connect().request(&head, body).status
}

/// Sends what is decoded and stored, so that what is loaded once is there.
fn warm(lab: &Lab) {
    let stream = lab.stream("warm");
    let whole = zstd_frame(&[0, 0x58], 1);
    assert_eq!(send(&stream, Some("bytes 0-131071/*"), "zstd", &whole), 202);
    assert_eq!(send(&stream, Some("bytes 0-0/*"), "gzip", &gzip_bomb()), 400);
    lab.settle();
}

#[test]
fn a_bomb_is_refused_before_it_takes_8_mib_and_leaves_nothing() {
    let lab = Lab::new();
    warm(&lab);
    let stream = lab.stream("p");
    let tree = lab.tree();
    for (name, encoding, bomb) in bombs() {
        assert!(bomb.len() <= (1 << 20) + 10, "{name} has {} bytes", bomb.len());
        let before = lab.forget_peak();
        let whole = send(&stream, None, encoding, &bomb);
        let ranged = send(&stream, Some("bytes 0-9/*"), encoding, &bomb);
        let more = lab.peak().saturating_sub(before);
        println!("{name}, {encoding}: {whole}, {} KiB more", more >> 10);
        // What lies about its length is malformed, and which of the two is found first is no rule.
        let wanted: &[u16] = if name.contains("says") { &[400, 413] } else { &[413] };
        assert!(wanted.contains(&whole), "{name}, {encoding}: {whole}");
        assert_eq!(ranged, 400, "{name}, {encoding}: longer than its range");
        assert!(more < MOST, "{name}, {encoding}: {more} bytes more");
    }
    assert_eq!(lab.tree(), tree, "nothing was stored");
    assert_eq!(stream.head(), (0, String::new()));
    assert_eq!(stream.patch(0, b"hello"), 202);
}

/// Sends all but the last byte, and that when everybody has done so.
fn send_together(stream: &Stream, encoding: &str, bomb: &[u8], all_are_there: &Barrier) {
    let mut connection = stream.connect();
    let (head, length) = (stream.patch_head("bytes 0-4194303/*", "host: relay"), bomb.len());
    let head =
        format!("{head}\r\ncontent-encoding: {encoding}\r\ncontent-length: {length}\r\n\r\n");
    let (last, rest) = bomb.split_last().unwrap();
    connection.send(&[head.as_bytes(), rest].concat());
    all_are_there.wait();
    connection.send(&[*last]);
    // Who was refused before the last byte may be gone.
    let status = connection.answer().map_or(400, |answer| answer.status);
    assert!(matches!(status, 400 | 408 | 413 | 429), "{status}");
}

#[test]
fn many_bombs_at_once_take_no_more_than_their_share() {
    let lab = Lab::new();
    warm(&lab);
    let stream = lab.stream("p");
    let before = lab.forget_peak();
    let rounds = if is_long_run() { 500 } else { 64 };
    let (bombs, all_are_there) = (bombs(), Barrier::new(rounds));
    thread::scope(|scope| {
        for (_, encoding, bomb) in bombs.iter().cycle().take(rounds) {
            let (stream, all_are_there) = (&stream, &all_are_there);
            let send = move || send_together(stream, encoding, bomb, all_are_there);
            thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, send).unwrap();
        }
    });
    let more = lab.peak().saturating_sub(before);
    println!("{rounds} bombs at once: {} KiB more", more >> 10);
    // The content of 16, 4 MiB, at worst at the same time, and what comes in.
    assert!(more < 16 * (5 << 20) + MOST, "{more} bytes more");
    lab.settle();
    assert_eq!(stream.patch(0, b"hello"), 202);
}

#[test]
fn bodies_that_are_not_what_they_say_are_refused() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    let whole = zstd_frame(&[0, 0x58], 1);
    let gzip = gzip_bomb();
    for (wanted, encoding, body) in [
        (400, "gzip", &gzip[..gzip.len().min(40)]),
        (400, "gzip", b"\x1f\x8b"),
        (400, "gzip", b"\x1f\x8b\x08\x00\0\0\0\0\0\xff\x03\x00\0\0\0\0\0\0\0\0garbage"),
        (400, "zstd", &whole[..whole.len() - 1]),
        (400, "zstd", &[whole.as_slice(), b"garbage"].concat()),
        (400, "zstd", &[whole.as_slice(), &whole[..5]].concat()),
        (400, "zstd", &whole[..3]),
        (400, "zstd", b""),
        (415, "gzip, gzip", &gzip),
        (415, "zstd, gzip", &gzip),
        (415, "br", b"x"),
        (415, "deflate", b"x"),
        (415, "compress", b"x"),
        (415, "gzip;q=1", b"x"),
        (415, "", b"x"),
        (415, "gzip\r\ncontent-encoding: gzip", &gzip),
    ] {
        assert_eq!(send(&stream, None, encoding, body), wanted, "{encoding:?} of {}", body.len());
    }
    assert_eq!(stream.head(), (0, String::new()));
    // Skipped frames are none of the content.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2], whole.as_slice()].concat();
    assert_eq!(send(&stream, Some("bytes 0-131071/*"), "zstd", &skipped), 202);
}

#[test]
fn many_empty_members_do_not_hold_up_others() {
    let lab = Lab::new();
    let (stream, other) = (lab.stream("p"), lab.stream("other"));
    // 20 bytes each: 200,000 of them in one body.
    let member: &[u8] = b"\x1f\x8b\x08\x00\0\0\0\0\0\xff\x03\x00\0\0\0\0\0\0\0\0";
    let body = member.repeat((4 << 20) / member.len());
    thread::scope(|scope| {
        for _ in 0..4 {
            // No byte comes out, and an append of none is refused.
            scope.spawn(|| assert_eq!(send(&stream, None, "gzip", &body), 400));
        }
        for at in 0..10 {
            assert_eq!(other.patch(at, b"x"), 202, "within {PATIENCE:?}");
        }
    });
}

#[test]
fn many_tiny_blocks_do_not_hold_up_others() {
    let lab = Lab::new();
    let streams = [lab.stream("p"), lab.stream("q")];
    let mut body = zstd_of_tables(4 << 20);
    body.extend_from_slice(b"garbage");
    let (mut longest, begun) = (Duration::ZERO, SystemTime::now());
    thread::scope(|scope| {
        // As many as a small machine has threads to answer with.
        let senders = streams.each_ref().map(|stream| {
            let body = &body;
            scope.spawn(move || assert_eq!(send(stream, None, "zstd", body), 400))
        });
        let mut connection = lab.connect();
        while senders.iter().any(|sender| !sender.is_finished()) {
            let asked = SystemTime::now();
            assert_eq!(connection.request("GET /livez HTTP/1.1", b"").status, 200);
            longest = longest.max(asked.elapsed().unwrap());
        }
    });
    let all = begun.elapsed().unwrap();
    println!("decoded within {all:?}, others waited {longest:?} at most");
    assert!(longest < all / 2, "{longest:?} of {all:?}");
    // It is refused for its end only.
    let good = zstd_of_tables(4000);
    assert_eq!(send(&streams[0], Some("bytes 0-7/*"), "zstd", &good), 400);
    let length = 8 + 4 * ((4000 - 25) / 20);
    let range = format!("bytes 0-{}/*", length - 1);
    assert_eq!(send(&streams[0], Some(&range), "zstd", &good), 202);
}

#[test]
fn what_came_encoded_is_counted_once_while_it_waits() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    let content = vec![b'x'; 960 << 10];
    let body = zstd_plain(&content);
    let (mut most, range) = (0, format!("bytes 0-{}/*", content.len() - 1));
    thread::scope(|scope| {
        // It is held for a while, for more to come, before it is stored and answered.
        let sender = scope.spawn(|| assert_eq!(send(&stream, Some(&range), "zstd", &body), 202));
        while !sender.is_finished() {
            most = most.max(lab.metric("held_bytes"));
        }
    });
    println!("{} bytes were held as {most}", content.len());
    assert!(most < content.len() as u64 * 3 / 2, "{most} bytes");
}
