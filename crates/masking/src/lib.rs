//! Takes registered secrets out of a stream of bytes, wherever the stream is cut.
//!
//! Pure: no runtime, no clock, no files. [`Patterns`] is built once and shared; every stream has
//! its own [`Masker`].
//!
//! ```
//! use std::sync::Arc;
//! use relay_masking::{Masker, Patterns};
//!
//! let (patterns, rejected) = Patterns::new([b"hunter2hunter2".to_vec(), b"short".to_vec()]);
//! assert_eq!(rejected[0].to_string(), "value 1 is not masked: it is shorter than 6 bytes");
//! let mut masker = Masker::new(Arc::new(patterns));
//! let mut output = Vec::new();
//! masker.push(b"password: hunter2", &mut output);
//! assert_eq!(output, b"password: ");
//! masker.push(b"hunter2\n", &mut output);
//! masker.finish(&mut output);
//! assert_eq!(output, b"password: ***\n");
//! ```

mod engine;
mod masker;
mod patterns;
mod skip;

pub use masker::{MASK, MASKED_PREFIX_BYTES, Masker, PAUSE_BYTES};
pub use patterns::{MAX_TOTAL_BYTES, MAX_VALUE_BYTES, MIN_VALUE_BYTES, Patterns, Reason, Rejected};
