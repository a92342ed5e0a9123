//! What a reader asks for, and what it gets. Pure.
//!
//! Bytes of a stream become runs of lines (`lines`), runs of several streams one sequence
//! (`merge`), and that the text or the records of the answer (`text`, `record`).

pub(crate) mod accept;
pub(crate) mod exact;
pub(crate) mod http_range;
pub(crate) mod lines;
pub(crate) mod merge;
pub(crate) mod output;
pub(crate) mod query;
pub(crate) mod record;
pub(crate) mod since;
pub(crate) mod tail;
pub(crate) mod text;
