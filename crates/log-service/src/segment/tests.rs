use super::{
    Append, Corrupt, Header, MAX_HEADER_BYTES, Mode, SegmentTimes, decode, decode_header, encode,
};
use proptest::prelude::*;
use relay_protocol::{capability::StreamUuid, limit::MAX_SEGMENT_BYTES, time::CaptureTimes};

fn header(start: u64, raw: &[u8]) -> Header {
    let mut times = SegmentTimes::default();
    let captured = CaptureTimes::parse("0=1700000000000,3=1700000000001,5=1699999999999").unwrap();
    times.extend(&captured, 0, 10);
    let appends = vec![Append { key: "k-1".to_owned(), start: start + 1, length: 2 }];
    Header { mode: Mode::Appended, times, appends, ..Header::of(StreamUuid([7; 16]), start, raw) }
}

#[test]
fn a_segment_of_any_size_comes_back_equal() {
    for length in [1, 2, super::FRAME_BYTES, super::FRAME_BYTES + 1, MAX_SEGMENT_BYTES] {
        let raw: Vec<u8> =
            (0..length).map(|at| at.to_le_bytes()[usize::from(at % 3 == 0)]).collect();
        let header = header(9, &raw);
        let encoded = encode(&header, &raw).unwrap();
        let (back, bytes) = decode(&encoded).unwrap();
        assert_eq!((back, &bytes[..]), (header.clone(), &raw[..]));
        let prefix = &encoded[..encoded.len().min(MAX_HEADER_BYTES)];
        assert_eq!(decode_header(prefix), Ok(header));
    }
}

#[test]
fn nothing_and_too_much_are_not_segments() {
    for length in [0, MAX_SEGMENT_BYTES + 1] {
        let raw = vec![0; length];
        assert!(encode(&Header::of(StreamUuid([0; 16]), 0, &raw), &raw).is_err());
    }
}

#[test]
fn a_frame_that_unpacks_to_more_than_it_says_is_corrupt_and_takes_no_memory() {
    let small = b"four".as_slice();
    let honest = Header::of(StreamUuid([0; 16]), 0, small);
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let mut encoded = honest.encode(&bomb);
    encoded.extend_from_slice(&bomb);
    assert_eq!(decode(&encoded), Err(Corrupt("it is not zstd")));
}

#[test]
fn the_most_capture_times_fit_into_a_header() {
    let raw = vec![b'\n'; MAX_SEGMENT_BYTES];
    let mut header = Header::of(StreamUuid([0; 16]), u64::MAX - MAX_SEGMENT_BYTES as u64, &raw);
    for at in 0..super::MAX_ENTRIES as u64 + 9 {
        let time = if at % 2 == 0 { u64::MAX / 2 } else { 0 };
        let offset = header.start + at * 200;
        let times = CaptureTimes::parse(&format!("{offset}={time}")).unwrap();
        header.times.extend(&times, offset, offset + 200);
    }
    let key = "k".repeat(super::MAX_KEY_BYTES);
    let append = |start| Append { key: key.clone(), start, length: 1 << 20 };
    header.appends =
        (0..super::header::MAX_APPENDS as u64).map(|at| append(header.start + at)).collect();
    let encoded = encode(&header, &raw).unwrap();
    assert_eq!(decode_header(&encoded[..encoded.len().min(MAX_HEADER_BYTES)]).unwrap(), header);
    assert_eq!(header.times.entries().len(), super::MAX_ENTRIES);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_segment_survives_and_every_flipped_bit_is_found(
        raw in prop::collection::vec(any::<u8>(), 1..300),
        start in 0..1_u64 << 60,
    ) {
        let header = header(start, &raw);
        let encoded = encode(&header, &raw).unwrap();
        let (back, bytes) = decode(&encoded).unwrap();
        prop_assert_eq!((&back, &bytes[..]), (&header, &raw[..]));
        for bit in 0..encoded.len() * 8 {
            let mut flipped = encoded.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&flipped).is_err(), "bit {} of {}", bit, encoded.len() * 8);
        }
        for end in 0..encoded.len() {
            prop_assert!(decode(&encoded[..end]).is_err());
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
        let mut framed = 0x184D_2A50_u32.to_le_bytes().to_vec();
        framed.extend_from_slice(&u32::try_from(bytes.len() + 4).unwrap().to_le_bytes());
        framed.extend_from_slice(&bytes);
        framed.extend_from_slice(&crc32c::crc32c(&framed).to_le_bytes());
        drop(decode(&framed));
    }
}
