//! Writing: every status, every rule, and what survives.

mod access;
mod bad_input;
mod crash;
mod durable;
mod full_disk;
mod late;
mod load;
mod names;
mod replicas;
mod rules;
mod start;
mod syscalls;
mod trace;
