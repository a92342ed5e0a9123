//! Memory for bytes that are not yet stored.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes that the process may hold: a thousand writers at the entrypoint's 512 KiB would need six
/// times as much, so some are told to wait. With all that comes beside, buffers of connections, commits
/// on their way and the cache, the process stays within 256 MiB.
pub const BUDGET_BYTES: u64 = 80 << 20;
/// From here on streams commit without waiting for more.
pub const PRESSURE_BYTES: u64 = BUDGET_BYTES / 2;
/// What a request costs beside its bytes, so that many tiny ones are counted too.
const REQUEST_BYTES: u64 = 1 << 10;

/// Counts the bytes that are held.
#[derive(Clone, Debug)]
pub struct Budget {
    held: Arc<AtomicU64>,
    limit: u64,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    held: Arc<AtomicU64>,
    limit: u64,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { held: Arc::default(), limit }
    }

    /// Takes a share; `None` if too much is held.
    #[must_use]
    pub fn reserve(&self, bytes: usize) -> Option<Permit> {
        let mut permit = Permit { held: Arc::clone(&self.held), limit: self.limit, bytes: 0 };
        permit.cover(bytes).then_some(permit)
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }
}

impl Permit {
    /// Makes sure that the share is enough for `bytes`, as they arrive; `false` if too much is
    /// held. A request that only says it will be long thus takes nothing from others.
    #[must_use]
    pub fn cover(&mut self, bytes: usize) -> bool {
        let more = (bytes as u64 + REQUEST_BYTES).saturating_sub(self.bytes);
        let add = |held: u64| held.checked_add(more).filter(|sum| *sum <= self.limit);
        let covered = self.held.try_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok();
        if covered {
            self.bytes += more;
        }
        covered
    }

    /// Gives back what is not needed for `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes as u64 + REQUEST_BYTES);
        self.held.fetch_sub(spare, Ordering::AcqRel);
        self.bytes -= spare;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn shares_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(10 << 10);
        let mut first = budget.reserve(0).unwrap();
        assert!(first.cover(7 << 10));
        assert!(budget.reserve(2 << 10).is_none());
        assert!(!first.cover(10 << 10));
        assert!(first.cover(1 << 10), "it is covered already");
        assert_eq!(budget.held(), 8 << 10);
        first.shrink(8 << 10);
        assert_eq!(budget.held(), 8 << 10, "it has no more than that");
        first.shrink(1 << 10);
        assert_eq!(budget.held(), 2 << 10);
        drop(first);
        assert_eq!(budget.held(), 0);
        let mut first = budget.reserve(1 << 10).unwrap();
        assert!(first.cover(6 << 10));
        let second = budget.reserve(1 << 10).unwrap();
        drop((first, second));
        assert_eq!(budget.held(), 0);
        assert!(budget.reserve(usize::MAX - 4096).is_none());
    }
}
