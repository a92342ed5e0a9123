//! Something of which there is only so much, shared out among addresses.
//!
//! # Guarantees
//!
//! An address may have all that nobody else wants. When all is taken, whoever has most makes room, its oldest part
//! first, for those who have less and will have less then: who takes much from many addresses leaves as much as one
//! of them has to everyone else.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Something of which there is only so much.
#[derive(Debug)]
pub(super) struct Stock {
    size: usize,
    shares: Mutex<Shares>,
    freed: Notify,
}

/// Who takes: one connection.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) from: IpAddr,
    /// Ends the connection.
    pub(super) evicted: CancellationToken,
}

/// A part that is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    stock: Arc<Stock>,
    from: IpAddr,
    number: u64,
}

#[derive(Debug, Default)]
struct Shares {
    taken: usize,
    by_address: HashMap<IpAddr, Share>,
    /// Of all parts that ever were.
    number: u64,
}

/// What one address has.
#[derive(Debug, Default)]
struct Share {
    taken: usize,
    /// The oldest first.
    parts: BTreeMap<u64, (usize, CancellationToken)>,
}

impl Stock {
    pub(super) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, shares: Mutex::default(), freed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if too little is left, and nobody has more than this guest would have.
    pub(super) fn try_take(self: &Arc<Self>, guest: &Guest, amount: usize) -> Option<Taken> {
        let mut shares = self.lock();
        shares.make_room(guest.from, amount, self.size)?;
        shares.number += 1;
        shares.taken += amount;
        let number = shares.number;
        let share = shares.by_address.entry(guest.from).or_default();
        share.taken += amount;
        share.parts.insert(number, (amount, guest.evicted.clone()));
        Some(Taken { stock: Arc::clone(self), from: guest.from, number })
    }

    /// Waits until there is enough; `None` if there never is.
    pub(super) async fn take(self: &Arc<Self>, guest: &Guest, amount: usize) -> Option<Taken> {
        if amount > self.size {
            return None;
        }
        loop {
            let mut freed = pin!(self.freed.notified());
            // What is freed from now on is heard of.
            freed.as_mut().enable();
            if let Some(taken) = self.try_take(guest, amount) {
                return Some(taken);
            }
            freed.await;
        }
    }
}

impl Shares {
    fn make_room(&mut self, from: IpAddr, amount: usize, size: usize) -> Option<()> {
        while self.taken + amount > size {
            let own = self.by_address.get(&from).map_or(0, |share| share.taken);
            let (most, greediest) = self
                .by_address
                .iter()
                .map(|(address, share)| (share.taken, *address))
                .max_by_key(|(taken, _)| *taken)?;
            if most <= own + amount {
                return None;
            }
            let oldest = *self.by_address.get(&greediest)?.parts.first_key_value()?.0;
            self.free(greediest, oldest)?.cancel();
        }
        Some(())
    }

    /// Takes a part back, if that has not happened yet.
    fn free(&mut self, from: IpAddr, number: u64) -> Option<CancellationToken> {
        let share = self.by_address.get_mut(&from)?;
        let (amount, evicted) = share.parts.remove(&number)?;
        share.taken -= amount;
        self.taken -= amount;
        if share.parts.is_empty() {
            self.by_address.remove(&from);
        }
        Some(evicted)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.stock.lock().free(self.from, self.number);
        self.stock.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::{Guest, Stock, Taken};

    fn guest(number: u8) -> Guest {
        Guest { from: [10, 0, 0, number].into(), evicted: CancellationToken::new() }
    }

    fn take(stock: &Arc<Stock>, from: u8, amount: usize) -> Option<(Guest, Taken)> {
        let guest = guest(from);
        stock.try_take(&guest, amount).map(|taken| (guest, taken))
    }

    #[test]
    fn who_has_most_makes_room_for_others() {
        let stock = Stock::new(1000);
        let held: Vec<_> = (0..1001).map_while(|_| take(&stock, 1, 1)).collect();
        assert_eq!(held.len(), 1000, "one address may have all that nobody wants");
        let came: Vec<_> = (0..1001).map_while(|_| take(&stock, 2, 1)).collect();
        assert_eq!(came.len(), 500);
        let evicted = held.iter().filter(|(guest, _)| guest.evicted.is_cancelled()).count();
        assert_eq!(evicted, came.len());
        assert!(held[0].0.evicted.is_cancelled(), "the oldest goes first");
        assert!(came.iter().all(|(guest, _)| !guest.evicted.is_cancelled()));
        drop(held);
        assert!(take(&stock, 1, 1).is_some(), "what ends is free again");
        assert!(take(&stock, 1, 501).is_none(), "who came has half of it");
    }

    #[test]
    fn who_comes_from_many_addresses_leaves_a_share_to_others() {
        let stock = Stock::new(100);
        let greedy: Vec<_> = (1..=20).map_while(|from| take(&stock, from, 5)).collect();
        assert_eq!(greedy.len(), 20);
        assert!(take(&stock, 100, 5).is_none(), "it would have as much as they have");
        let modest: Vec<_> = (0..5).map_while(|_| take(&stock, 100, 1)).collect();
        assert_eq!(modest.len(), 5);
        assert!(modest.iter().all(|(guest, _)| !guest.evicted.is_cancelled()));
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_freed() {
        let stock = Stock::new(10);
        assert!(stock.take(&guest(1), 11).await.is_none());
        let held = stock.take(&guest(1), 10).await;
        let waiting = tokio::spawn({
            let stock = Arc::clone(&stock);
            async move { stock.take(&guest(1), 10).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
    }
}
