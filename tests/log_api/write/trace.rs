//! What strace wrote.

use std::collections::HashMap;

/// Calls in the order in which they ended.
#[derive(Debug)]
pub(super) struct Trace {
    calls: Vec<Call>,
}

/// A call. Numbers are lines of the trace.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) begun: usize,
    pub(super) ended: usize,
    pub(super) text: String,
}

impl Trace {
    /// Joins calls that strace shows in two parts, because another thread's came between.
    pub(super) fn parse(text: &str) -> Self {
        let mut unfinished: HashMap<&str, (usize, &str)> = HashMap::new();
        let mut calls = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let (thread, call) = line.split_once(' ').unwrap();
            let call = call.trim_start();
            if let Some(head) = call.strip_suffix("<unfinished ...>") {
                unfinished.insert(thread, (at, head));
            } else if let Some((_, rest)) = call.split_once(" resumed>") {
                let (begun, head) = unfinished.remove(thread).unwrap();
                calls.push(Call { begun, ended: at, text: format!("{head}{rest}") });
            } else {
                calls.push(Call { begun: at, ended: at, text: call.to_owned() });
            }
        }
        Self { calls }
    }

    /// The first call that began behind line `from` and whose text holds all of `parts`.
    pub(super) fn call(&self, from: usize, parts: &[&str]) -> &Call {
        let mut calls = self.calls.iter();
        let found = calls
            .find(|call| call.begun >= from && parts.iter().all(|part| call.text.contains(part)));
        assert!(found.is_some(), "no {parts:?} after {from} in {self:#?}");
        found.unwrap()
    }
}
