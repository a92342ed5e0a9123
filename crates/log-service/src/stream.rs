//! What is known of one stream, and when its bytes are stored. Pure: time is passed in.

mod index;

pub use index::{SegmentIndex, SegmentInfo};
