//! What the service counts.
