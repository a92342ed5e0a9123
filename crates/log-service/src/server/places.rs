//! Places for connections, and who leaves when there is none.
//!
//! Whoever keeps a place and asks for nothing makes room first, the longest so before others; then
//! readers that take nothing. Requests that are being answered stay. Where all places are used like
//! that, a few spare ones remain, in which only probes are answered.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a reader may take nothing before it makes room for others.
const STALLED: Duration = Duration::from_secs(10);
/// How often to look whether a reader has become that slow, while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    spare: usize,
    state: Mutex<State>,
    /// Wakes whoever waits for a place.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Rises with each change of a connection, so that it names one and orders them.
    clock: u64,
    connections: HashMap<u64, Connection>,
    /// Connections that ask for nothing, by when they began to.
    idle: BTreeMap<u64, u64>,
    /// Connections that take nothing of their answers, by when they began to.
    stalled: BTreeMap<u64, (Instant, u64)>,
    spares: usize,
}

#[derive(Debug)]
struct Connection {
    /// Requests that are being answered.
    requests: usize,
    idle_since: u64,
    stalled_since: Option<u64>,
    leave: CancellationToken,
}

/// What is answered in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Everything,
    ProbesOnly,
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) answers: Use,
    leave: CancellationToken,
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Place>);

impl Places {
    /// `most` places for all, and `spare` ones for probes.
    pub(super) fn new(most: usize, spare: usize) -> Arc<Self> {
        Arc::new(Self { most, spare, state: Mutex::default(), freed: Notify::new() })
    }

    /// Waits for a place, and has others leave for it.
    pub(super) async fn take(self: &Arc<Self>) -> Arc<Place> {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            timeout(LOOK_AGAIN, self.freed.notified()).await.ok();
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Arc<Place>> {
        let mut state = self.lock();
        if state.connections.len() - state.spares < self.most {
            return Some(self.seat(&mut state, Use::Everything));
        }
        if state.evict() {
            return None;
        }
        (state.spares < self.spare).then(|| self.seat(&mut state, Use::ProbesOnly))
    }

    fn seat(self: &Arc<Self>, state: &mut State, answers: Use) -> Arc<Place> {
        let number = state.tick();
        let leave = CancellationToken::new();
        let connection = Connection {
            requests: 0,
            idle_since: number,
            stalled_since: None,
            leave: leave.clone(),
        };
        state.connections.insert(number, connection);
        match answers {
            Use::Everything => drop(state.idle.insert(number, number)),
            Use::ProbesOnly => state.spares += 1,
        }
        Arc::new(Place { places: Arc::clone(self), number, answers, leave })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it is locked")
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Has one connection leave; `false` if all are needed.
    fn evict(&mut self) -> bool {
        let leaves = match self.idle.pop_first() {
            Some((_, number)) => number,
            None => match self.stalled.first_entry() {
                Some(first) if first.get().0.elapsed() >= STALLED => first.remove().1,
                _ => return false,
            },
        };
        if let Some(connection) = self.connections.get(&leaves) {
            connection.leave.cancel();
        }
        true
    }
}

impl Place {
    /// Says that a request is being answered.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.places.lock();
        let State { connections, idle, .. } = &mut *state;
        if let Some(connection) = connections.get_mut(&self.number) {
            connection.requests += 1;
            idle.remove(&connection.idle_since);
        }
        Busy(Arc::clone(self))
    }

    /// Says that the other side takes nothing.
    pub(super) fn stall(&self) {
        let mut state = self.places.lock();
        let now = state.tick();
        let State { connections, stalled, .. } = &mut *state;
        if let Some(connection) = connections.get_mut(&self.number) {
            connection.stalled_since = Some(now);
            stalled.insert(now, (Instant::now(), self.number));
        }
    }

    /// Says that the other side takes something again.
    pub(super) fn go_on(&self) {
        let mut state = self.places.lock();
        let State { connections, stalled, .. } = &mut *state;
        let since = connections.get_mut(&self.number).and_then(|one| one.stalled_since.take());
        since.map(|since| stalled.remove(&since));
    }

    /// Ends when the connection has to make room.
    pub(super) async fn left(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        if let Some(connection) = state.connections.remove(&self.number) {
            state.idle.remove(&connection.idle_since);
            connection.stalled_since.map(|since| state.stalled.remove(&since));
        }
        if self.answers == Use::ProbesOnly {
            state.spares -= 1;
        }
        drop(state);
        self.places.freed.notify_one();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Place { places, number, answers, .. } = &*self.0;
        let mut state = places.lock();
        let now = state.tick();
        let State { connections, idle, .. } = &mut *state;
        if let Some(connection) = connections.get_mut(number) {
            connection.requests -= 1;
            if connection.requests == 0 && *answers == Use::Everything {
                connection.idle_since = now;
                idle.insert(now, *number);
            }
        }
        drop(state);
        places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::{Places, STALLED, Use};
    use std::{sync::Arc, time::Duration};
    use tokio::time::{advance, timeout};

    async fn has_left(place: &super::Place) -> bool {
        timeout(Duration::ZERO, place.left()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_asked_for_nothing_for_longest_makes_room() {
        let places = Places::new(2, 0);
        let (first, second) = (places.take().await, places.take().await);
        drop(first.begin());
        assert!(places.try_take().is_none());
        assert!(has_left(&second).await && !has_left(&first).await);
        drop(second);
        assert_eq!(places.try_take().unwrap().answers, Use::Everything);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_answered_stays_unless_it_takes_nothing_for_long() {
        let places = Places::new(1, 0);
        let first = places.take().await;
        let busy = first.begin();
        assert!(places.try_take().is_none() && !has_left(&first).await);
        first.stall();
        first.go_on();
        first.stall();
        assert!(places.try_take().is_none() && !has_left(&first).await);
        advance(STALLED).await;
        assert!(places.try_take().is_none() && has_left(&first).await);
        drop((busy, first));
        assert!(places.try_take().is_some());
        let state = places.lock();
        assert!(state.connections.is_empty() && state.idle.is_empty() && state.stalled.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn spare_places_are_for_probes_and_come_back() {
        let places = Places::new(1, 1);
        let first = places.take().await;
        let _busy = first.begin();
        let spare = places.take().await;
        assert_eq!(spare.answers, Use::ProbesOnly);
        drop(spare.begin());
        assert!(places.try_take().is_none());
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await.answers }
        });
        drop(spare);
        assert_eq!(waiting.await.unwrap(), Use::ProbesOnly);
    }
}
