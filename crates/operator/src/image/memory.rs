//! What registries said about an image, and for how long that counts. Pure: the time is given.
//!
//! # Guarantees
//!
//! - What was said to one is said to nobody else: the key holds the credentials that it was said to.
//! - A failure that may pass does not make an earlier answer worse for a day; one that says that there is no such image, or
//!   that these credentials are not good enough any more, does at once.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    digest::Digest,
    keychain::Fingerprint,
    lru::{Bounds, Lru},
    name::Name,
    why::Why,
};

/// How long an answer counts.
const FRESH: Duration = Duration::from_mins(1);
/// How long it counts while there is no newer one to be had.
const STALE: Duration = Duration::from_hours(24);
/// How long nobody is asked again after a failure.
const PAUSE: Duration = Duration::from_secs(10);
/// The same where the registry says how long.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// Pause after a failure to get what the answer leads to: a part of it may have come, and the next try goes on there.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// Answers that are kept. Each has some hundred bytes.
const KNOWN: Bounds = Bounds { count: 4096, weight: 4 << 20 };
/// Failures that are kept where no answer is known: names that do not exist cost nothing, and must not push out those that do.
const FAILED: Bounds = Bounds { count: 1024, weight: 1 << 20 };

/// An image, and by which credentials it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) name: Name,
    pub(super) credentials: Fingerprint,
}

/// All answers.
#[derive(Debug)]
pub(super) struct Memory {
    known: Lru<Key, Record>,
    failed: Lru<Key, Record>,
}

#[derive(Clone, Debug, Default)]
struct Record {
    /// What the name stood for, and when that was said.
    known: Option<(Digest, Instant)>,
    failure: Option<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    why: Why,
    until: Instant,
    stage: Stage,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To find out what the name stands for.
    Name,
    /// To get this, which that leads to.
    Content(Digest),
}

/// What is remembered of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    /// It was said not long ago.
    Fresh(Digest),
    /// It was said long ago, and the registry does not answer now.
    Stale {
        /// What the name stood for.
        digest: Digest,
        /// Why it is not asked now.
        why: Why,
    },
    /// It was said not long ago. A part of what it leads to was asked for in vain since: who needs that need not ask.
    Broken {
        /// What the name stands for.
        digest: Digest,
        /// What could not be had.
        part: Digest,
        /// Why not.
        why: Why,
    },
    /// It was asked for not long ago, in vain.
    Failed(Why),
    /// Ask.
    Nothing,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { known: Lru::new(KNOWN), failed: Lru::new(FAILED) }
    }

    /// What is known of an image now.
    pub(super) fn recall(&mut self, key: &Key, now: Instant) -> Remembered {
        self.get(key).map_or(Remembered::Nothing, |record| record.recall(now))
    }

    /// What was said within the last day, for when nobody can be asked.
    pub(super) fn last(&mut self, key: &Key, now: Instant) -> Remembered {
        let last = self.get(key).and_then(|record| record.stale(now)).cloned();
        last.map_or(Remembered::Failed(Why::Crowded), |digest| Remembered::Stale {
            digest,
            why: Why::Crowded,
        })
    }

    /// A registry said what the name stands for.
    pub(super) fn learn(&mut self, key: &Key, digest: Digest, now: Instant) {
        let weight = key.weight() + digest.as_str().len();
        let record = Record { known: Some((digest, now)), failure: None };
        self.put(key, record, weight);
    }

    /// It was asked in vain. Says what counts now: the failure, or what is known from before.
    pub(super) fn fail(&mut self, key: &Key, why: Why, stage: Stage, now: Instant) -> Remembered {
        let is_name = stage == Stage::Name;
        let pause = match (&why, &stage) {
            (Why::Busy { retry_after: Some(after), .. }, _) => (*after).clamp(PAUSE, MAX_PAUSE),
            (Why::Crowded, _) => Duration::ZERO,
            (why, Stage::Content(_)) if why.is_passing() => SHORT_PAUSE,
            _ => PAUSE,
        };
        let known = self.get(key).and_then(|record| record.known.take());
        // What is gone, or not for these credentials any more, is forgotten.
        let known = known.filter(|_| why.is_passing() || !is_name);
        let failure = Failure { why, until: now + pause, stage };
        let record = Record { known, failure: Some(failure.clone()) };
        let counts = match record.stale(now) {
            Some(digest) if is_name => {
                Remembered::Stale { digest: digest.clone(), why: failure.why }
            }
            _ => Remembered::Failed(failure.why),
        };
        self.put(key, record, key.weight() + 512);
        counts
    }

    fn get(&mut self, key: &Key) -> Option<&mut Record> {
        let Self { known, failed } = self;
        known.get(key).or_else(|| failed.get(key))
    }

    fn put(&mut self, key: &Key, record: Record, weight: usize) {
        let Self { known, failed } = self;
        let (place, other) = if record.known.is_some() { (known, failed) } else { (failed, known) };
        other.remove(key);
        place.put(key.clone(), record, weight);
    }
}

impl Record {
    fn recall(&self, now: Instant) -> Remembered {
        let fresh = self.known.as_ref().filter(|(_, at)| now.duration_since(*at) < FRESH);
        let failure = self.failure.as_ref().filter(|failure| now < failure.until);
        let Some(Failure { why, stage, .. }) = failure else {
            return fresh
                .map_or(Remembered::Nothing, |(digest, _)| Remembered::Fresh(digest.clone()));
        };
        match (stage, fresh, self.stale(now)) {
            (Stage::Name, _, Some(digest)) => {
                Remembered::Stale { digest: digest.clone(), why: why.clone() }
            }
            (Stage::Content(part), Some((digest, _)), _) => {
                Remembered::Broken { digest: digest.clone(), part: part.clone(), why: why.clone() }
            }
            _ => Remembered::Failed(why.clone()),
        }
    }

    fn stale(&self, now: Instant) -> Option<&Digest> {
        let (digest, at) = self.known.as_ref()?;
        (now.duration_since(*at) < STALE).then_some(digest)
    }
}

impl Key {
    fn weight(&self) -> usize {
        let Name { registry, repository, at } = &self.name;
        // It is there twice.
        2 * (registry.len() + repository.len() + at.as_str().len() + size_of::<Self>())
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, Fingerprint, Key, Memory, Name, Remembered, Stage, Why};
    use std::time::Duration;
    use tokio::time::Instant;

    fn key() -> Key {
        let name = Name::parse("ghcr.io/acme/app:1").unwrap();
        Key { name, credentials: Fingerprint::of([]) }
    }

    fn digest() -> Digest {
        Digest::of(b"x")
    }

    fn registry() -> String {
        "ghcr.io".to_owned()
    }

    fn slow() -> Why {
        Why::Slow { registry: registry() }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_counts_for_a_minute_and_for_a_day_while_there_is_no_other() {
        let (mut memory, key, begin) = (Memory::new(), key(), Instant::now());
        assert_eq!(memory.recall(&key, begin), Remembered::Nothing);
        memory.learn(&key, digest(), begin);
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert_eq!(memory.recall(&key, at(59)), Remembered::Fresh(digest()));
        assert_eq!(memory.recall(&key, at(60)), Remembered::Nothing);
        let stale = Remembered::Stale { digest: digest(), why: slow() };
        assert_eq!(memory.fail(&key, slow(), Stage::Name, at(63)), stale);
        assert_eq!(memory.recall(&key, at(72)), stale, "nobody is asked");
        assert_eq!(memory.recall(&key, at(73)), Remembered::Nothing, "it is asked again");
        let day = 24 * 60 * 60;
        assert_eq!(memory.fail(&key, slow(), Stage::Name, at(day - 1)), stale);
        assert_eq!(memory.fail(&key, slow(), Stage::Name, at(day)), Remembered::Failed(slow()));
        memory.learn(&key, digest(), at(day + 1));
        assert_eq!(memory.recall(&key, at(day + 1)), Remembered::Fresh(digest()));
    }

    #[test]
    fn names_that_do_not_exist_push_out_no_answer() {
        let (mut memory, now) = (Memory::new(), Instant::now());
        memory.learn(&key(), digest(), now);
        for number in 0..5000 {
            let name = Name::parse(&format!("ghcr.io/acme/none:{number}")).unwrap();
            let none = Key { name, ..key() };
            drop(memory.fail(&none, Why::Missing { registry: registry() }, Stage::Name, now));
        }
        assert_eq!(memory.recall(&key(), now), Remembered::Fresh(digest()));
    }

    #[test]
    fn a_registry_that_says_no_is_believed_at_once() {
        let refused = Why::Refused { registry: registry(), credentials: 1 };
        for no in [refused, Why::Missing { registry: registry() }] {
            let (mut memory, key, now) = (Memory::new(), key(), Instant::now());
            memory.learn(&key, digest(), now);
            let failed = Remembered::Failed(no.clone());
            assert_eq!(memory.fail(&key, no, Stage::Name, now), failed);
            assert_eq!(memory.recall(&key, now + 9 * SECOND), failed);
            assert_eq!(memory.recall(&key, now + 10 * SECOND), Remembered::Nothing);
            let later = Remembered::Failed(slow());
            assert_eq!(memory.fail(&key, slow(), Stage::Name, now + 11 * SECOND), later);
        }
    }

    #[test]
    fn content_that_does_not_come_is_not_replaced_by_older_content() {
        let (mut memory, key, now) = (Memory::new(), key(), Instant::now());
        memory.learn(&key, digest(), now);
        let part = Digest::of(b"part");
        let failed = memory.fail(&key, slow(), Stage::Content(part.clone()), now);
        assert_eq!(failed, Remembered::Failed(slow()));
        let broken = Remembered::Broken { digest: digest(), part, why: slow() };
        assert_eq!(memory.recall(&key, now), broken);
        let fresh = Remembered::Fresh(digest());
        assert_eq!(memory.recall(&key, now + SECOND), fresh, "what the name stands for is known");
    }

    #[test]
    fn a_busy_registry_says_when_it_is_asked_again_within_reason() {
        for (says, pause) in [(None, 10), (Some(1), 10), (Some(30), 30), (Some(86_400), 60)] {
            let (mut memory, key, now) = (Memory::new(), key(), Instant::now());
            let retry_after = says.map(Duration::from_secs);
            let busy = Why::Busy { registry: registry(), retry_after };
            let failed = memory.fail(&key, busy.clone(), Stage::Name, now);
            assert_eq!(failed, Remembered::Failed(busy));
            assert_eq!(memory.recall(&key, now + (pause - 1) * SECOND), failed);
            assert_eq!(memory.recall(&key, now + pause * SECOND), Remembered::Nothing);
        }
    }

    #[test]
    fn what_one_was_told_nobody_else_is() {
        let (mut memory, mine, now) = (Memory::new(), key(), Instant::now());
        memory.learn(&mine, digest(), now);
        let password = super::super::keychain::Credential {
            username: "me".to_owned(),
            password: "x".to_owned(),
        };
        let other = Key { credentials: Fingerprint::of([[password].as_slice()]), ..key() };
        assert_eq!(memory.recall(&other, now), Remembered::Nothing);
    }
}
