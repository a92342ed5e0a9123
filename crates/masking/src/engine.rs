//! Finds all occurrences of all patterns in one pass, and knows what is still alive at a cut.

use std::collections::HashMap;

use aho_corasick::{
    Anchored, MatchKind,
    automaton::{Automaton, StateID},
    dfa::DFA,
    nfa::contiguous::NFA,
};

use crate::skip::Skip;

/// Patterns of at most this many bytes together become a DFA, which is twice as fast; its table
/// takes up to 1 KiB per byte of pattern.
const MAX_DFA_BYTES: usize = 2 << 10;

/// An Aho-Corasick automaton with a skip table before it.
pub(crate) struct Engine {
    automaton: Kind,
    start: StateID,
    /// See [`Engine::live`]; 0 if absent.
    live: HashMap<StateID, usize>,
    skip: Skip,
}

enum Kind {
    Dfa(DFA),
    Nfa(NFA),
}

/// How far the engine is within patterns, after the bytes it has seen.
#[derive(Clone, Copy)]
pub(crate) struct State(StateID);

impl Engine {
    /// An engine for `values`: distinct, each of at least 4 bytes, of a bounded length together.
    pub(crate) fn new(values: &[Vec<u8>]) -> Self {
        const WHY: &str = "the patterns are too short together for any limit of the automaton";
        let automaton = if values.iter().map(Vec::len).sum::<usize>() <= MAX_DFA_BYTES {
            let mut builder = DFA::builder();
            Kind::Dfa(
                builder.match_kind(MatchKind::Standard).prefilter(false).build(values).expect(WHY),
            )
        } else {
            let mut builder = NFA::builder();
            Kind::Nfa(
                builder.match_kind(MatchKind::Standard).prefilter(false).build(values).expect(WHY),
            )
        };
        let (start, live) = match &automaton {
            Kind::Dfa(dfa) => (start(dfa), live(dfa, values)),
            Kind::Nfa(nfa) => (start(nfa), live(nfa, values)),
        };
        Self { automaton, start, live, skip: Skip::new(values) }
    }

    /// The state before the first byte.
    pub(crate) fn start(&self) -> State {
        State(self.start)
    }

    /// Length of the longest end of the text seen so far that a pattern begins with and goes on
    /// from; 0 if all of that end belongs to an occurrence that was told of.
    pub(crate) fn live(&self, state: State) -> usize {
        self.live.get(&state.0).copied().unwrap_or(0)
    }

    /// Goes on over `text`. Tells of every position in it at which a pattern ends, in order, with
    /// the length of the longest that does.
    pub(crate) fn scan(&self, state: State, text: &[u8], found: impl FnMut(usize, usize)) -> State {
        match &self.automaton {
            Kind::Dfa(dfa) => self.scan_with(dfa, state, text, found),
            Kind::Nfa(nfa) => self.scan_with(nfa, state, text, found),
        }
    }

    fn scan_with(
        &self,
        automaton: &impl Automaton,
        State(mut state): State,
        text: &[u8],
        mut found: impl FnMut(usize, usize),
    ) -> State {
        let (mut at, mut until) = (0, 0);
        while at < text.len() {
            if state == self.start && at >= until {
                let candidate = self.skip.next(text, at);
                (at, until) = (candidate.start, candidate.until);
            }
            let Some(byte) = text.get(at) else { break };
            state = automaton.next_state(Anchored::No, state, *byte);
            at += 1;
            if automaton.is_match(state) {
                // The first one listed is the longest: the others are its ends.
                found(at, automaton.pattern_len(automaton.match_pattern(state, 0)));
            }
        }
        State(state)
    }
}

fn start(automaton: &impl Automaton) -> StateID {
    automaton.start_state(Anchored::No).expect("an automaton is built with its unanchored start")
}

/// A state stands for the longest end of the text that is a beginning of a pattern. Where that is a
/// whole pattern which no other goes on from, what is alive lies within that occurrence.
fn live(automaton: &impl Automaton, values: &[Vec<u8>]) -> HashMap<StateID, usize> {
    let mut live = HashMap::new();
    for value in values {
        let mut state = start(automaton);
        for (index, byte) in value[..value.len() - 1].iter().enumerate() {
            state = automaton.next_state(Anchored::No, state, *byte);
            live.insert(state, index + 1);
        }
    }
    live
}
