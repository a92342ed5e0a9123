//! What one who connects may take: any pod of the cluster can reach the webhook.
//!
//! The API server opens a connection for each review that is under way (HTTP/1.1, so that many replicas share
//! them), up to its own limit of some hundred requests at once. So an address has no limit of its own; but when
//! all places are taken, whoever has most of them makes room for the others.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::Body,
    extract::{Extension, Request, State},
    http::{StatusCode, header::CONTENT_LENGTH},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::server::REVIEW_TIMEOUT;

/// Largest body: the API server takes objects of 3 MiB, and an update brings two.
pub(super) const MAX_BODY: usize = 8 << 20;
/// Bodies that are in memory at once, in KiB.
const MAX_BODIES_KIB: usize = 32 << 10;
/// Those from one address: the largest. Who says that much will come and sends nothing holds up only itself.
const MAX_BODIES_OF_ONE_KIB: usize = (MAX_BODY >> 10) + 1;
/// Reviews that are in memory at once, in KiB, as values. Those of ordinary pods need a hundred each.
const MAX_VALUES_KIB: usize = 32 << 10;
/// Connections at once: some 40 KiB each.
const MAX_CONNECTIONS: usize = 1024;

/// Counts connections.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Open>);

/// Connections by address.
#[derive(Debug, Default)]
struct Open {
    by_address: HashMap<IpAddr, Guest>,
    /// Of all that ever were.
    number: u64,
}

/// What one address has.
#[derive(Debug)]
struct Guest {
    bodies: Share,
    /// The oldest first.
    connections: BTreeMap<u64, CancellationToken>,
}

/// Memory for the bodies of one address.
#[derive(Clone, Debug)]
pub(super) struct Share(Arc<Semaphore>);

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    all: Arc<Connections>,
    from: IpAddr,
    number: u64,
    /// Cancelled when it has to make room.
    pub(super) evicted: CancellationToken,
    /// What its bodies may take.
    pub(super) bodies: Share,
}

impl Connections {
    /// `None` if there are too many, and nobody has more than this address.
    pub(super) fn count(self: &Arc<Self>, from: IpAddr) -> Option<Counted> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.make_room(from)?;
        open.number += 1;
        let number = open.number;
        let guest = open.by_address.entry(from).or_insert_with(|| Guest {
            bodies: Share(Arc::new(Semaphore::new(MAX_BODIES_OF_ONE_KIB))),
            connections: BTreeMap::new(),
        });
        let evicted = CancellationToken::new();
        guest.connections.insert(number, evicted.clone());
        let bodies = guest.bodies.clone();
        Some(Counted { all: Arc::clone(self), from, number, evicted, bodies })
    }
}

impl Open {
    /// Ends the oldest connection of whoever has most, if all places are taken and that is not who comes.
    fn make_room(&mut self, from: IpAddr) -> Option<()> {
        let all: usize = self.by_address.values().map(|guest| guest.connections.len()).sum();
        if all < MAX_CONNECTIONS {
            return Some(());
        }
        let own = self.by_address.get(&from).map_or(0, |guest| guest.connections.len());
        let greediest = self.by_address.values_mut().max_by_key(|guest| guest.connections.len())?;
        if greediest.connections.len() <= own + 1 {
            return None;
        }
        let (_, evicted) = greediest.connections.pop_first()?;
        evicted.cancel();
        Some(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest) = open.by_address.get_mut(&self.from) {
            guest.connections.remove(&self.number);
            if guest.connections.is_empty() {
                open.by_address.remove(&self.from);
            }
        }
    }
}

/// Memory for reviews.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    bodies: Arc<Semaphore>,
    values: Arc<Semaphore>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let semaphore = |kib| Arc::new(Semaphore::new(kib));
        Self { bodies: semaphore(MAX_BODIES_KIB), values: semaphore(MAX_VALUES_KIB) }
    }

    /// Waits for room for what a body becomes when it is read; `None` if that is more than there ever is.
    pub(super) async fn for_values(&self, body: &[u8]) -> Option<OwnedSemaphorePermit> {
        let kib = values_bytes(body) / 1024 + 1;
        let kib = u32::try_from(kib).ok().filter(|_| kib <= MAX_VALUES_KIB)?;
        Arc::clone(&self.values).acquire_many_owned(kib).await.ok()
    }
}

/// Bytes that a JSON text takes as a [`serde_json::Value`], at most: texts as they are, an element 32 in a list
/// that may be half empty, a member its name too, the first member a node for eleven. What stands in quotes is
/// counted as if it did not, which is too much rather than too little.
fn values_bytes(body: &[u8]) -> usize {
    let bytes = body.iter().map(|byte| match byte {
        b'{' => 700,
        b'[' | b',' => 128,
        _ => 1,
    });
    bytes.sum()
}

/// Lets a request in when there is memory for its body, and ends it in time.
pub(super) async fn limit(
    State(memory): State<Memory>,
    Extension(Share(own)): Extension<Share>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    let Some(length) = length else { return StatusCode::LENGTH_REQUIRED.into_response() };
    if length > MAX_BODY {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let kib = u32::try_from(length / 1024 + 1).expect("at most the largest body");
    let answering = async {
        // First its own, so that one address waits for itself before others wait for it.
        let own_room = own.acquire_many(kib).await;
        let room = memory.bodies.acquire_many(kib).await;
        let response = next.run(request).await;
        drop((room, own_room));
        response
    };
    let answered = timeout(REVIEW_TIMEOUT, answering).await;
    answered.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::{Connections, MAX_CONNECTIONS, MAX_VALUES_KIB, Memory, values_bytes};

    #[test]
    fn who_has_most_connections_makes_room_for_others() {
        let connections = Arc::new(Connections::default());
        let [greedy, other]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let held: Vec<_> = (0..MAX_CONNECTIONS).map_while(|_| connections.count(greedy)).collect();
        assert_eq!(held.len(), MAX_CONNECTIONS, "one address may have all that nobody wants");
        assert!(connections.count(greedy).is_none());
        let came: Vec<_> = (0..MAX_CONNECTIONS).map_while(|_| connections.count(other)).collect();
        assert_eq!(came.len(), MAX_CONNECTIONS / 2);
        let evicted = held.iter().filter(|held| held.evicted.is_cancelled()).count();
        assert_eq!(evicted, came.len());
        assert!(held[0].evicted.is_cancelled(), "the oldest goes first");
        assert!(came.iter().all(|came| !came.evicted.is_cancelled()));
        drop(held);
        assert!(connections.count(greedy).is_some(), "what ends is free again");
    }

    #[tokio::test]
    async fn a_small_text_that_becomes_large_waits_for_memory_or_is_refused() {
        let memory = Memory::new();
        let bomb = "[{\"\":0},".repeat(100_000);
        assert!(memory.for_values(bomb.as_bytes()).await.is_none());
        let pod = r#"{"a":[1,2,{"b":"c"}]}"#;
        let room = memory.for_values(pod.as_bytes()).await.unwrap();
        assert_eq!(memory.values.available_permits(), MAX_VALUES_KIB - room.num_permits());
        assert!(values_bytes(pod.as_bytes()) > 2 * 700);
    }
}
