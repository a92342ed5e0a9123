//! One question at a time: whoever asks the same while it is under way gets the same answer.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

type Under<V> = WeakShared<BoxFuture<'static, V>>;

/// Questions that are under way. Each is carried on by whoever waits for it: with the last of them it ends.
#[derive(Debug)]
pub(super) struct Flights<K, V: Clone>(Mutex<HashMap<K, Under<V>>>);

/// Questions of which nobody waits any more and that are not swept away yet.
const MAX_LEFT: usize = 256;

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Waits for the answer, and asks if nobody does.
    pub(super) async fn join(&self, key: &K, ask: impl FnOnce() -> BoxFuture<'static, V>) -> V {
        let answer = self.enter(key, ask).await;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(key).is_some_and(|under| under_way(under).is_none()) {
            all.remove(key);
        }
        answer
    }

    fn enter(
        &self,
        key: &K,
        ask: impl FnOnce() -> BoxFuture<'static, V>,
    ) -> Shared<BoxFuture<'static, V>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under) = all.get(key).and_then(under_way) {
            return under;
        }
        if all.len() >= MAX_LEFT {
            all.retain(|_, under| under_way(under).is_some());
        }
        let asked = ask().shared();
        // An answer that is there already is not waited for.
        if let Some(under) = asked.downgrade() {
            all.insert(key.clone(), under);
        }
        asked
    }
}

/// The question, if somebody waits for its answer, and it has none yet.
fn under_way<V: Clone>(under: &Under<V>) -> Option<Shared<BoxFuture<'static, V>>> {
    under.upgrade().filter(|question| question.peek().is_none())
}

#[cfg(test)]
mod tests {
    use super::Flights;
    use futures_util::{FutureExt, poll};
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_hundred_who_ask_the_same_cause_one_question() {
        let flights = Arc::new(Flights::<u8, usize>::new());
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..100 {
            let (flights, asked, answer) =
                (Arc::clone(&flights), Arc::clone(&asked), Arc::clone(&answer));
            let question = async move {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                answer.notified().await;
                number
            };
            let waiter = waiting.spawn(async move { flights.join(&0, || question.boxed()).await });
            if number == 0 {
                // Whoever came first does not wait for the end.
                tokio::task::yield_now().await;
                waiter.abort();
            }
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        answer.notify_one();
        let answers: Vec<_> = waiting.join_all_but_aborted().await;
        assert_eq!(answers.len(), 99);
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert!(
            asked.load(Ordering::SeqCst) <= 2,
            "the first one may have gone before another came"
        );
        assert!(flights.0.lock().unwrap().is_empty(), "nothing is left of them");
    }

    trait JoinAllButAborted<T> {
        async fn join_all_but_aborted(self) -> Vec<T>;
    }

    impl<T: 'static> JoinAllButAborted<T> for tokio::task::JoinSet<T> {
        async fn join_all_but_aborted(mut self) -> Vec<T> {
            let mut all = Vec::new();
            while let Some(done) = self.join_next().await {
                all.extend(done);
            }
            all
        }
    }

    #[tokio::test]
    async fn another_question_is_asked_by_itself_and_the_same_again_later() {
        let flights = Flights::<u8, u8>::new();
        assert_eq!(flights.join(&1, || async { 1 }.boxed()).await, 1);
        assert_eq!(flights.join(&2, || async { 2 }.boxed()).await, 2);
        assert_eq!(flights.join(&1, || async { 3 }.boxed()).await, 3);
    }

    #[tokio::test]
    async fn an_answer_that_others_have_not_taken_yet_is_none_for_who_comes_later() {
        let (flights, answer) = (Flights::<u8, u8>::new(), Arc::new(Notify::new()));
        let waits = Arc::clone(&answer);
        let question = async move {
            waits.notified().await;
            1
        };
        let mut slow = pin!(flights.join(&1, || question.boxed()));
        assert!(poll!(&mut slow).is_pending());
        answer.notify_one();
        assert_eq!(flights.join(&1, || async { 2 }.boxed()).await, 1, "it was under way");
        assert_eq!(flights.join(&1, || async { 3 }.boxed()).await, 3);
        assert_eq!(slow.await, 1);
    }
}
