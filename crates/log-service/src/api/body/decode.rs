//! Decodes bodies as they come, and stops as soon as they are too long.

use std::io::Write;

use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header};
use zstd::stream::raw::{DParameter, InBuffer, Operation, OutBuffer};

use crate::api::error::ApiError;

/// Log of the largest zstd window, 8 MiB: what every standard level needs at most.
const WINDOW_LOG: u32 = 23;
/// Decoded bytes between two looks at the limit.
const STEP: usize = 64 << 10;

/// Decodes one body.
pub(super) enum Decoder {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<Zstd>),
}

pub(super) struct Zstd {
    decoder: zstd::stream::raw::Decoder<'static>,
    /// Whether the last frame ended where the input did.
    complete: bool,
}

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// It is longer than the limit.
    TooLong,
    /// It is not in the encoding that it claims, or it ends early.
    Malformed,
}

impl Decoder {
    /// For the encoding that the headers name.
    pub(super) fn new(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut named = headers.get_all(header::CONTENT_ENCODING).iter();
        let name = named.next().map_or(Ok("identity"), |name| name.to_str());
        let name = name.unwrap_or_default().to_ascii_lowercase();
        match (name.as_str(), named.next()) {
            ("identity", None) => Ok(Self::Identity),
            ("gzip" | "x-gzip", None) => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))),
            ("zstd", None) => Ok(Self::Zstd(Box::new(Zstd::new()))),
            _ => Err(ApiError::UnsupportedMedia(
                "use Content-Encoding gzip, zstd or none".to_owned(),
            )),
        }
    }

    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// Appends what `data` decodes to; `into` never grows past `limit`.
    pub(super) fn feed(
        &mut self,
        data: &[u8],
        into: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), DecodeError> {
        match self {
            Self::Identity => append(into, data, limit),
            Self::Gzip(decoder) => {
                // At most 1,032 times as much comes out: 528 KiB a step.
                for piece in data.chunks(512) {
                    decoder.write_all(piece).map_err(|_| DecodeError::Malformed)?;
                    append(into, decoder.get_ref(), limit)?;
                    decoder.get_mut().clear();
                }
                Ok(())
            }
            Self::Zstd(decoder) => decoder.feed(data, into, limit),
        }
    }

    /// The body is over.
    pub(super) fn finish(&mut self, into: &mut Vec<u8>, limit: usize) -> Result<(), DecodeError> {
        match self {
            Self::Identity => Ok(()),
            Self::Gzip(decoder) => {
                decoder.try_finish().map_err(|_| DecodeError::Malformed)?;
                append(into, decoder.get_ref(), limit)?;
                decoder.get_mut().clear();
                Ok(())
            }
            Self::Zstd(decoder) if decoder.complete => Ok(()),
            Self::Zstd(_) => Err(DecodeError::Malformed),
        }
    }
}

impl Zstd {
    fn new() -> Self {
        let mut decoder = zstd::stream::raw::Decoder::new().expect("memory for a decoder");
        let window = DParameter::WindowLogMax(WINDOW_LOG);
        decoder.set_parameter(window).expect("23 is a valid window");
        Self { decoder, complete: false }
    }

    fn feed(&mut self, data: &[u8], into: &mut Vec<u8>, limit: usize) -> Result<(), DecodeError> {
        // Asked without input after a frame, the decoder would begin another.
        if data.is_empty() {
            return Ok(());
        }
        let mut input = InBuffer::around(data);
        let mut step = vec![0; STEP];
        loop {
            let mut output = OutBuffer::around(step.as_mut_slice());
            let wanted = self.decoder.run(&mut input, &mut output);
            let wanted = wanted.map_err(|_| DecodeError::Malformed)?;
            let written = output.pos();
            let full = written == STEP;
            append(into, &step.as_slice()[..written], limit)?;
            self.complete = wanted == 0;
            if input.pos() == data.len() && (!full || self.complete) {
                return Ok(());
            }
        }
    }
}

fn append(into: &mut Vec<u8>, decoded: &[u8], limit: usize) -> Result<(), DecodeError> {
    if into.len() + decoded.len() > limit {
        return Err(DecodeError::TooLong);
    }
    into.extend_from_slice(decoded);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, Decoder};
    use flate2::{Compression, write::GzEncoder};
    use http::{HeaderMap, header::CONTENT_ENCODING};
    use proptest::prelude::*;
    use std::io::Write;

    fn decode(encoding: &str, pieces: &[&[u8]], limit: usize) -> Result<Vec<u8>, DecodeError> {
        let headers = [(CONTENT_ENCODING, encoding.parse().unwrap())];
        let headers: HeaderMap = headers.into_iter().collect();
        let mut decoder = Decoder::new(&headers).unwrap();
        let mut raw = Vec::new();
        for piece in pieces {
            decoder.feed(piece, &mut raw, limit)?;
            assert!(raw.len() <= limit);
        }
        decoder.finish(&mut raw, limit).map(|()| raw)
    }

    fn encode(encoding: &str, raw: &[u8]) -> Vec<u8> {
        match encoding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(raw).unwrap();
                encoder.finish().unwrap()
            }
            "zstd" => zstd::bulk::compress(raw, 1).unwrap(),
            _ => raw.to_vec(),
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let raw = vec![0; 32 << 20];
        for encoding in ["gzip", "zstd"] {
            let bomb = encode(encoding, &raw);
            assert!(bomb.len() < 1 << 20);
            assert_eq!(decode(encoding, &[&bomb], 1 << 20), Err(DecodeError::TooLong));
        }
    }

    #[test]
    fn several_frames_are_one_body() {
        for encoding in ["gzip", "zstd"] {
            let both = [encode(encoding, b"one "), encode(encoding, b"two")].concat();
            assert_eq!(decode(encoding, &[&both], 7).unwrap(), b"one two");
        }
    }

    proptest! {
        #[test]
        fn bodies_come_back_however_they_are_cut(
            raw in prop::collection::vec(0..4_u8, 0..9_000),
            cut in 0..2_000_usize,
        ) {
            for encoding in ["identity", "gzip", "zstd"] {
                let encoded = encode(encoding, &raw);
                let (head, tail) = encoded.split_at(cut.min(encoded.len()));
                let whole = decode(encoding, &[head, tail], raw.len());
                prop_assert_eq!(whole.as_deref(), Ok(&raw[..]));
                if !raw.is_empty() {
                    let short = decode(encoding, &[head, tail], raw.len() - 1);
                    prop_assert_eq!(short, Err(DecodeError::TooLong));
                }
                if encoding != "identity" {
                    let shorter = &encoded[..encoded.len() - 1];
                    prop_assert_eq!(decode(encoding, &[shorter], 9_000), Err(DecodeError::Malformed));
                }
            }
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for encoding in ["gzip", "zstd"] {
                drop(decode(encoding, &[&bytes], 1_000));
            }
        }
    }
}
