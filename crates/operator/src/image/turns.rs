//! How much is looked up at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who may ask.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// Those of one namespace, so that what one tenant waits for does not keep the others waiting.
    bound: usize,
    each: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A turn, until it is dropped.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

impl Turns {
    /// So many for all namespaces together, and so many for each.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), bound: each, each: Mutex::default() }
    }

    /// Waits until this namespace may wait for one more answer.
    pub(super) async fn of(&self, namespace: &str) -> Turn {
        // It is never closed.
        self.each(namespace).acquire_owned().await.ok()
    }

    /// Waits until one more question may be asked.
    pub(super) async fn any(&self) -> Turn {
        Arc::clone(&self.all).acquire_owned().await.ok()
    }

    fn each(&self, namespace: &str) -> Arc<Semaphore> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = each.get(namespace) {
            return Arc::clone(turns);
        }
        each.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = Arc::new(Semaphore::new(self.bound));
        each.insert(namespace.to_owned(), Arc::clone(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use futures_util::FutureExt;

    #[test]
    fn one_namespace_does_not_take_the_turns_of_another() {
        let turns = Turns::new(3, 2);
        let mut taken: Vec<_> =
            (0..2).map(|_| turns.of("greedy").now_or_never().unwrap()).collect();
        assert!(turns.of("greedy").now_or_never().is_none());
        assert!(turns.of("modest").now_or_never().is_some());
        taken.pop();
        assert!(turns.of("greedy").now_or_never().is_some());
        drop(taken);
        assert!(turns.of("other").now_or_never().is_some());
        assert_eq!(turns.each.lock().unwrap().len(), 1, "nobody else has a turn");
    }
}
