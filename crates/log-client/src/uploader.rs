//! The task that carries requests and answers between the streams and the service.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    stream::{
        Answer, Ticket,
        delivery::{Delivery, Step},
    },
    transport::Courier,
};

/// What writers, client and uploader share. The lock is held for the moment of one decision or
/// one copy, never over an await.
#[derive(Debug)]
pub(crate) struct Shared {
    delivery: Mutex<Delivery>,
    /// Wakes the uploader: there may be something to send.
    work: Notify,
    /// Wakes the writers: there may be room in the ring.
    room: Notify,
}

impl Shared {
    pub(crate) fn new(delivery: Delivery) -> Self {
        Self { delivery: Mutex::new(delivery), work: Notify::new(), room: Notify::new() }
    }

    /// For looking, and for changes that give the uploader nothing to do.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For changes after which the uploader may have something to do.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Delivery) -> T) -> T {
        let result = change(&mut self.lock());
        self.work.notify_one();
        result
    }

    /// The place where writers wait.
    pub(crate) fn room(&self) -> &Notify {
        &self.room
    }
}

/// One request and how it ended.
type Answered = (usize, Ticket, Answer);

/// Runs until all streams are over.
///
/// Sleeping, it is woken by a write, an answer, or the time that the streams named; while nothing
/// is written and nothing is in flight there is none but the renewal of an id.
pub(crate) async fn run(shared: Arc<Shared>, courier: Arc<Courier>) {
    let mut requests = JoinSet::new();
    loop {
        let step = shared.lock().next(Instant::now());
        match step {
            Step::Send(stream, ticket, request) => {
                let courier = Arc::clone(&courier);
                requests
                    .spawn(async move { (stream, ticket, courier.carry(stream, request).await) });
            }
            Step::Wait(wake) => wait(&shared, wake, &mut requests).await,
            Step::Finished => return,
        }
    }
}

async fn wait(shared: &Shared, wake: Option<Instant>, requests: &mut JoinSet<Answered>) {
    let sleep = async {
        match wake {
            Some(wake) => sleep_until(wake).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        Some(answered) = requests.join_next() => {
            let (stream, ticket, answer) = answered.expect("a request is never cancelled");
            let result = shared.lock().answered(stream, ticket, answer, Instant::now());
            result.expect("each ticket is answered once");
            shared.room.notify_waiters();
        }
        () = shared.work.notified() => {}
        () = sleep => {}
    }
}
