//! Flags and environment, and what they mean.
