//! Memory for bytes that are not yet stored.
