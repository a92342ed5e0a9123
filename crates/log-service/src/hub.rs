//! The streams that this process has open: loads them, commits their bytes, wakes their readers.

mod cache;
mod commit;
mod create;
mod end;
mod handle;
mod load;
mod parts;
mod pods;
mod write;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use relay_protocol::{capability::StreamUuid, name::Namespace};
use tokio::{
    sync::{OnceCell, Semaphore, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

pub use self::{
    create::{CreateError, Created, Meta},
    end::EndError,
    handle::{FollowGuard, SegmentError, Snapshot, StreamHandle},
    parts::{PartEntry, TriggerEntries},
    pods::IndexEntry,
    write::WriteError,
};
pub use crate::stream::EndRecord;
use crate::{
    budget::{BUDGET_BYTES, Budget},
    metrics::Metrics,
    store::{Store, StoreError},
};
use cache::Cache;

/// Streams that stay open without being used; past it the idle ones are closed at once.
const MAX_OPEN: usize = 4096;
/// How long a stream stays open without being used.
const IDLE: Duration = Duration::from_mins(10);
/// How often idle streams are looked for.
const SWEEP: Duration = Duration::from_mins(1);
/// How often the store is looked through for what was left behind.
const STORE_SWEEP: Duration = Duration::from_hours(1);
/// Commits on their way at once, each with 3 MiB and a thread: 16 with 100 ms of latency are
/// 160 MiB/s, past what a processor compresses.
const MAX_COMMITS: usize = 16;
/// Segments that are read and decoded at once, each with 3 MiB and a thread: 16 with 50 ms of
/// latency are 320 MiB/s. Without a bound, readers grow a thread each, and memory with them.
const MAX_READS: usize = 16;
/// Bytes of segments that were read or stored last: a minute of a follower's stream, or 24 of
/// the largest segments.
const CACHE_BYTES: usize = 24 << 20;

/// All open streams, and the index of those that are not.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    open: Mutex<HashMap<(Namespace, StreamUuid), Slot>>,
    entries: pods::Entries,
    created: watch::Sender<u64>,
}

type Slot = Arc<OnceCell<Arc<StreamHandle>>>;

/// What all streams use.
#[derive(Debug)]
struct Shared {
    store: Store,
    cache: Mutex<Cache>,
    budget: Budget,
    metrics: Arc<Metrics>,
    commits: Semaphore,
    reads: Semaphore,
    /// Whether the service is about to stop, so that no bytes should wait.
    is_closing: AtomicBool,
    /// Owns every task of every stream.
    tasks: TaskTracker,
}

impl Hub {
    /// A hub over a store. Reads nothing yet.
    #[must_use]
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        let shared = Shared {
            store,
            cache: Mutex::new(Cache::new(CACHE_BYTES)),
            budget: Budget::new(BUDGET_BYTES),
            metrics,
            commits: Semaphore::new(MAX_COMMITS),
            reads: Semaphore::new(MAX_READS),
            is_closing: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        };
        Self {
            shared: Arc::new(shared),
            open: Mutex::default(),
            entries: pods::Entries::default(),
            created: watch::Sender::new(0),
        }
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Memory for bytes that are not yet stored.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    /// Changes whenever a stream is created in this process.
    #[must_use]
    pub fn created(&self) -> watch::Receiver<u64> {
        self.created.subscribe()
    }

    /// The stream, loaded if it is not open; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not say.
    pub async fn open(
        &self,
        tenant: &Namespace,
        uuid: StreamUuid,
    ) -> Result<Option<Arc<StreamHandle>>, StoreError> {
        let key = (tenant.clone(), uuid);
        let slot = Arc::clone(self.slots().entry(key.clone()).or_default());
        let load = || async {
            let loaded = load::load(&self.shared, tenant, uuid).await;
            loaded.map_err(Some)?.ok_or(None)
        };
        let opened = slot.get_or_try_init(load).await.cloned();
        drop(slot);
        match opened {
            Ok(handle) => {
                handle.touch();
                self.evict_if_crowded();
                Ok(Some(handle))
            }
            Err(missing_or_failed) => {
                self.forget_empty(&key);
                missing_or_failed.map_or(Ok(None), Err)
            }
        }
    }

    /// Closes streams that nobody uses, and has the store remove what was left behind, for as long
    /// as it is polled. Neither waits for the other: a bucket may take minutes.
    pub async fn sweep(&self) {
        let streams = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.evict(IDLE);
            }
        };
        let store = async {
            loop {
                if let Err(error) = self.shared.store.sweep().await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "failed to remove what was left behind");
                }
                tokio::time::sleep(STORE_SWEEP).await;
            }
        };
        tokio::join!(streams, store);
    }

    /// Stores all held bytes, holds none from now on, and waits for all that is on its way.
    pub async fn close(&self) {
        self.shared.is_closing.store(true, Ordering::Release);
        let open: Vec<Arc<StreamHandle>> =
            self.slots().values().filter_map(|slot| slot.get().cloned()).collect();
        for handle in open {
            handle.flush();
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn evict_if_crowded(&self) {
        if self.slots().len() > MAX_OPEN {
            self.evict(Duration::ZERO);
        }
    }

    /// Closes streams that only this map knows, that do nothing and were idle for `idle`.
    fn evict(&self, idle: Duration) {
        let now = Instant::now();
        self.slots().retain(|_, slot| {
            let Some(handle) = slot.get() else { return true };
            let only_here = Arc::strong_count(slot) == 1 && Arc::strong_count(handle) == 1;
            !only_here || !handle.is_idle(now, idle)
        });
    }

    fn forget_empty(&self, key: &(Namespace, StreamUuid)) {
        let mut slots = self.slots();
        if slots.get(key).is_some_and(|slot| slot.get().is_none() && Arc::strong_count(slot) == 1) {
            slots.remove(key);
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<(Namespace, StreamUuid), Slot>> {
        self.open.lock().expect("no code panics while it is locked")
    }
}
