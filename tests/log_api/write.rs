//! Writing: every status, every rule, and what survives.

mod bad_input;
mod durable;
mod lab;
mod load;
mod rules;
mod start;
