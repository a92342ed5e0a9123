//! Keeps log streams and serves them.

fn main() {}
