//! Decodes bodies as they come, and stops as soon as they are too long.

use std::io::Write;

use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header};
use tokio::{sync::Semaphore, task::spawn_blocking};
use zstd::zstd_safe::{self, DCtx};

use crate::api::error::ApiError;

/// What zstd says of a buffer that its output does not fit into. It has no names for its codes here.
const TOO_SMALL: &str = "Destination buffer is too small";
/// Longest zstd body that is decoded where requests are served. At worst, every 20 bytes are a block
/// with tables of its own: these take 14 ms, and a body of 4 MiB takes 0.9 s.
const BRIEF_BYTES: usize = 64 << 10;
/// Longer ones that are decoded at once, each beside the runtime. What they become is counted only
/// when it is known: 4 MiB at most, each.
static LONG: Semaphore = Semaphore::const_new(2);

/// Decodes one body.
pub(super) enum Decoder {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// Encoded bytes. They are decoded when all are there, from memory to memory: as they come, a
    /// frame may ask for a window of 8 MiB and more beside its content.
    Zstd(Vec<u8>),
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
            ("zstd", None) => Ok(Self::Zstd(Vec::new())),
            _ => Err(ApiError::UnsupportedMedia(
                "use Content-Encoding gzip, zstd or none".to_owned(),
            )),
        }
    }

    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// Bytes that are kept until the body is over.
    pub(super) fn kept(&self) -> usize {
        match self {
            Self::Identity | Self::Gzip(_) => 0,
            Self::Zstd(encoded) => encoded.len(),
        }
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
            Self::Zstd(encoded) => {
                encoded.extend_from_slice(data);
                Ok(())
            }
        }
    }

    /// The body is over: the whole of what it decodes to. Encoded bytes are gone then.
    pub(super) async fn finish(
        self,
        mut content: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        match self {
            Self::Identity => Ok(content),
            Self::Gzip(mut decoder) => {
                decoder.try_finish().map_err(|_| DecodeError::Malformed)?;
                append(&mut content, decoder.get_ref(), limit)?;
                Ok(content)
            }
            Self::Zstd(encoded) if encoded.len() <= BRIEF_BYTES => unzstd(&encoded, content, limit),
            Self::Zstd(encoded) => {
                let turn = LONG.acquire().await.expect("it is never closed");
                let decoding = spawn_blocking(move || {
                    // Who goes away before it is decoded makes no room for another.
                    let _turn = turn;
                    unzstd(&encoded, content, limit)
                });
                decoding.await.expect("neither panics nor is aborted")
            }
        }
    }
}

/// Decodes whole zstd frames. Nothing is written past `limit`, whatever they say of their length.
fn unzstd(encoded: &[u8], mut into: Vec<u8>, limit: usize) -> Result<Vec<u8>, DecodeError> {
    debug_assert!(into.is_empty(), "nothing was decoded before");
    into.reserve_exact(limit);
    match DCtx::create().decompress(&mut into, encoded) {
        Ok(_) if into.len() > limit => Err(DecodeError::TooLong),
        Ok(_) if !encoded.is_empty() => Ok(into),
        Err(code) if zstd_safe::get_error_name(code) == TOO_SMALL => Err(DecodeError::TooLong),
        _ => Err(DecodeError::Malformed),
    }
}

fn append(into: &mut Vec<u8>, decoded: &[u8], limit: usize) -> Result<(), DecodeError> {
    let needed = into.len() + decoded.len();
    if needed > limit {
        return Err(DecodeError::TooLong);
    }
    if needed > into.capacity() {
        // By doubling, the rooms that were too small would take as much again as the last.
        into.reserve_exact((needed * 4).min(limit) - into.len());
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
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(decoder.finish(raw, limit))
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
