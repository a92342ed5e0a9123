//! Reads streams back.
