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
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::stall::Unsent;

/// How long a reader may take nothing before it makes room for others.
const STALLED: Duration = Duration::from_secs(10);
/// How long a reader may take nothing of what is sent to it: somebody may read a page on a screen,
/// but nobody holds memory for ever.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often to look whether a reader has become that slow, while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    state: Mutex<State>,
    /// Wakes whoever waits for a place.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    /// Rises with each change of a connection, so that it names one and orders them.
    clock: u64,
    connections: HashMap<u64, Connection>,
    all: Room,
    spare: Room,
    /// Before it nobody has stalled for long enough.
    look_at: Instant,
}

/// Places of one use.
#[derive(Debug, Default)]
struct Room {
    most: usize,
    taken: usize,
    /// Of these, the ones that were told to leave and have not left yet.
    leaving: usize,
    /// Connections that ask for nothing, by when they began to.
    idle: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Connection {
    answers: Use,
    /// Requests that are being answered.
    requests: usize,
    idle_since: u64,
    unsent: Arc<Unsent>,
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
    /// What the connection has still to take.
    pub(super) unsent: Arc<Unsent>,
    leave: CancellationToken,
}

/// Why a connection has to leave.
#[derive(Debug, thiserror::Error)]
pub(super) enum Left {
    #[error("others need its place")]
    ForOthers,
    #[error("it took nothing for {PATIENCE:?}")]
    Stalled,
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Place>);

impl Places {
    /// `most` places for all, and `spare` ones for probes.
    pub(super) fn new(most: usize, spare: usize) -> Arc<Self> {
        let room = |most| Room { most, ..Room::default() };
        let state = State {
            clock: 0,
            connections: HashMap::new(),
            all: room(most),
            spare: room(spare),
            look_at: Instant::now(),
        };
        Arc::new(Self { state: Mutex::new(state), freed: Notify::new() })
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
        if state.all.has_place() {
            return Some(self.seat(&mut state, Use::Everything));
        }
        if state.all.will_have_place() || state.evict_idle(Use::Everything) || state.evict_stalled()
        {
            return None;
        }
        if state.spare.has_place() {
            return Some(self.seat(&mut state, Use::ProbesOnly));
        }
        if !state.spare.will_have_place() {
            state.evict_idle(Use::ProbesOnly);
        }
        None
    }

    fn seat(self: &Arc<Self>, state: &mut State, answers: Use) -> Arc<Place> {
        let number = state.tick();
        let leave = CancellationToken::new();
        let unsent = Unsent::new();
        let connection = Connection {
            answers,
            requests: 0,
            idle_since: number,
            unsent: Arc::clone(&unsent),
            leave: leave.clone(),
        };
        state.connections.insert(number, connection);
        let room = state.room(answers);
        room.taken += 1;
        room.idle.insert(number, number);
        Arc::new(Place { places: Arc::clone(self), number, answers, unsent, leave })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it is locked")
    }
}

impl Room {
    fn has_place(&self) -> bool {
        self.taken < self.most
    }

    /// Whether there is a place as soon as those have left that were told to.
    fn will_have_place(&self) -> bool {
        self.taken - self.leaving < self.most
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn room(&mut self, answers: Use) -> &mut Room {
        match answers {
            Use::Everything => &mut self.all,
            Use::ProbesOnly => &mut self.spare,
        }
    }

    /// Has the connection leave that asked for nothing for longest; `false` if there is none.
    fn evict_idle(&mut self, answers: Use) -> bool {
        let Self { connections, all, spare, .. } = self;
        let room = match answers {
            Use::Everything => all,
            Use::ProbesOnly => spare,
        };
        // The end of an answer that is still on its way is not cut off.
        let took_all =
            |number: &u64| connections.get(number).is_some_and(|one| one.unsent.since().is_none());
        let first = room.idle.values().copied().find(took_all);
        first.is_some_and(|number| self.evict(number))
    }

    /// Has the connection leave that took nothing for longest; `false` if none did for long.
    fn evict_stalled(&mut self) -> bool {
        let now = Instant::now();
        if now < self.look_at {
            return false;
        }
        let stays = |one: &Connection| one.answers == Use::Everything && !one.leave.is_cancelled();
        let stalled = self.connections.iter().filter(|(_, one)| stays(one));
        let stalled = stalled.filter_map(|(number, one)| Some((one.unsent.since()?, *number)));
        let first = stalled.min();
        // All are looked at: not again before it can be of use.
        self.look_at = first.map_or(now, |(since, _)| since) + STALLED;
        first.is_some_and(|(_, number)| self.look_at <= now && self.evict(number))
    }

    fn evict(&mut self, number: u64) -> bool {
        let Some(connection) = self.connections.get(&number) else {
            return false;
        };
        connection.leave.cancel();
        let (answers, idle_since) = (connection.answers, connection.idle_since);
        let room = self.room(answers);
        room.idle.remove(&idle_since);
        room.leaving += 1;
        true
    }
}

impl Place {
    /// Says that a request is being answered.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.places.lock();
        if let Some(connection) = state.connections.get_mut(&self.number) {
            connection.requests += 1;
            let idle_since = connection.idle_since;
            state.room(self.answers).idle.remove(&idle_since);
        }
        Busy(Arc::clone(self))
    }

    /// Ends when the connection has to leave.
    pub(super) async fn left(&self) -> Left {
        tokio::select! {
            () = self.leave.cancelled() => Left::ForOthers,
            () = self.stalls() => Left::Stalled,
        }
    }

    async fn stalls(&self) {
        loop {
            let over = self.unsent.since().unwrap_or_else(Instant::now) + PATIENCE;
            if over <= Instant::now() {
                return;
            }
            sleep_until(over).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        let connection = state.connections.remove(&self.number);
        let room = state.room(self.answers);
        room.taken -= 1;
        if let Some(connection) = connection {
            room.idle.remove(&connection.idle_since);
            room.leaving -= usize::from(connection.leave.is_cancelled());
        }
        drop(state);
        self.places.freed.notify_one();
    }
}

impl Busy {
    /// What its connection has still to take.
    pub(super) fn unsent(&self) -> &Arc<Unsent> {
        &self.0.unsent
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Place { places, number, answers, .. } = &*self.0;
        let mut state = places.lock();
        let now = state.tick();
        let Some(connection) = state.connections.get_mut(number) else {
            return;
        };
        connection.requests -= 1;
        // A spare connection ends by itself after its one answer.
        if connection.requests == 0
            && *answers == Use::Everything
            && !connection.leave.is_cancelled()
        {
            connection.idle_since = now;
            state.all.idle.insert(now, *number);
        }
        drop(state);
        places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
