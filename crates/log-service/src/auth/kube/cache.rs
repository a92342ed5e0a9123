//! Answers of the API server, kept for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, timeout},
};

use super::Unreachable;
use crate::auth::{AuthError, GRANT};

/// For how long a refusal stands: as long as a right may take to show after it was given.
const REFUSAL: Duration = Duration::from_secs(10);
/// For how long a right holds that cannot be checked: an API server that is alone restarts in less.
const STALE: Duration = Duration::from_mins(5);
/// Pauses after the API server did not answer, before it is asked the same again: for a right that
/// holds meanwhile, and for one that was never found.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// How long the API server may take, the wait for others who ask included.
const PATIENCE: Duration = Duration::from_secs(4);
/// Questions at once: they take some milliseconds, so this is thousands a second.
const PARALLEL: usize = 16;
/// Answers that are kept: some 300 bytes each, and the names in them.
pub(super) const MAX_ANSWERS: usize = 8192;

/// A digest of what was asked.
pub(super) type Key = [u8; 32];

/// Answers by question. Whoever asks what is being asked waits for that answer.
#[derive(Debug)]
pub(super) struct Cache<V> {
    slots: SyncMutex<HashMap<Key, Arc<Slot<V>>>>,
    questions: Semaphore,
}

/// Locked while its question is asked.
type Slot<V> = Mutex<Option<Known<V>>>;

/// What is known, and until when nobody is asked again.
#[derive(Clone, Debug)]
struct Known<V> {
    answer: Answer<V>,
    until: Instant,
}

#[derive(Clone, Debug)]
enum Answer<V> {
    /// With when the question was asked that was last answered so.
    Yes(V, Instant),
    No,
    /// There was none.
    Unknown,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self { slots: SyncMutex::default(), questions: Semaphore::new(PARALLEL) }
    }
}

impl<V: Clone> Cache<V> {
    /// The answer to a question, by `ask` if it is not known, and how long it is good for: never
    /// beyond `expires`.
    ///
    /// # Errors
    ///
    /// [`AuthError::Denied`] for no, [`AuthError::Unchecked`] if nobody answers.
    pub(super) async fn get(
        &self,
        key: Key,
        expires: Option<Instant>,
        ask: impl Future<Output = Result<Option<V>, Unreachable>>,
    ) -> Result<(V, Instant), AuthError> {
        let is_over = || expires.is_some_and(|expires| expires <= Instant::now());
        if is_over() {
            return Err(AuthError::Denied);
        }
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        let known = match &*slot {
            Some(known) if Instant::now() < known.until => known.clone(),
            old => {
                let asked = Instant::now();
                let answer = self.ask(ask).await;
                Known::from(answer, asked, old.as_ref())
            }
        };
        *slot = Some(known.clone());
        match known.answer {
            // The answer may have come after the end.
            _ if is_over() => Err(AuthError::Denied),
            Answer::Yes(value, _) => {
                Ok((value, expires.map_or(known.until, |expires| expires.min(known.until))))
            }
            Answer::No => Err(AuthError::Denied),
            Answer::Unknown => Err(AuthError::Unchecked),
        }
    }

    /// How many answers are kept.
    #[cfg(test)]
    pub(super) fn length(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    async fn ask(
        &self,
        ask: impl Future<Output = Result<Option<V>, Unreachable>>,
    ) -> Result<Option<V>, Unreachable> {
        let asked = async {
            let _turn = self.questions.acquire().await.map_err(|_| Unreachable)?;
            ask.await
        };
        timeout(PATIENCE, asked).await.unwrap_or(Err(Unreachable))
    }

    fn slot(&self, key: Key) -> Arc<Slot<V>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_ANSWERS && !slots.contains_key(&key) {
            make_room(&mut slots);
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

/// Forgets what is of no use any more, and half of the rest if that is too little: a flood of made-up
/// tokens costs questions, and no memory.
fn make_room<V>(slots: &mut HashMap<Key, Arc<Slot<V>>>) {
    let now = Instant::now();
    slots.retain(|_, slot| {
        slot.try_lock()
            .map_or(true, |known| known.as_ref().is_some_and(|known| known.is_of_use(now)))
    });
    if slots.len() > MAX_ANSWERS / 2 {
        let mut keep = false;
        slots.retain(|_, _| {
            keep = !keep;
            keep
        });
    }
}

impl<V> Known<V> {
    fn is_of_use(&self, now: Instant) -> bool {
        let stale = match &self.answer {
            Answer::Yes(_, asked) => now < *asked + STALE,
            Answer::No | Answer::Unknown => false,
        };
        stale || now < self.until
    }
}

impl<V: Clone> Known<V> {
    /// What an answer says after what was known.
    fn from(answer: Result<Option<V>, Unreachable>, asked: Instant, old: Option<&Self>) -> Self {
        let now = Instant::now();
        match (answer, old.map(|old| &old.answer)) {
            (Ok(Some(value)), _) => {
                Self { answer: Answer::Yes(value, asked), until: asked + GRANT }
            }
            (Ok(None), _) => Self { answer: Answer::No, until: now + REFUSAL },
            (Err(Unreachable), Some(Answer::Yes(value, since))) if now < *since + STALE => Self {
                answer: Answer::Yes(value.clone(), *since),
                until: (now + PAUSE.0).min(*since + STALE),
            },
            (Err(Unreachable), _) => Self { answer: Answer::Unknown, until: now + PAUSE.1 },
        }
    }
}
