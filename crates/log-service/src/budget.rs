//! Memory for bytes that are not yet stored.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes that the process may hold, encoded requests included: a thousand writers at the
/// entrypoint's 512 KiB would need four times as much, so the slow ones are told to wait.
pub const BUDGET_BYTES: u64 = 128 << 20;
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
        let bytes = bytes as u64 + REQUEST_BYTES;
        let add = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.held.try_update(Ordering::AcqRel, Ordering::Acquire, add).ok()?;
        Some(Permit { held: Arc::clone(&self.held), bytes })
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }
}

impl Permit {
    /// Gives back what was reserved beyond `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let rest = (bytes as u64 + REQUEST_BYTES).min(self.bytes);
        self.held.fetch_sub(self.bytes - rest, Ordering::AcqRel);
        self.bytes = rest;
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
        let mut first = budget.reserve(7 << 10).unwrap();
        assert!(budget.reserve(2 << 10).is_none());
        first.shrink(1 << 10);
        assert_eq!(budget.held(), 2 << 10);
        let second = budget.reserve(2 << 10).unwrap();
        drop((first, second));
        assert_eq!(budget.held(), 0);
        assert!(budget.reserve(usize::MAX - 4096).is_none());
    }
}
