use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use tokio::time::{advance, timeout};

use super::{PATIENCE, Place, Places, STALLED, Use};
use crate::server::stall::Piece;

async fn has_left(place: &Place) -> bool {
    timeout(Duration::ZERO, place.left()).await.is_ok()
}

fn piece(place: &Place) -> Piece {
    Piece::new(Bytes::from_static(b"an answer"), &place.unsent)
}

fn assert_empty(places: &Places) {
    let state = places.lock();
    assert!(state.connections.is_empty());
    for room in [&state.all, &state.spare] {
        assert!(room.idle.is_empty());
        assert_eq!((room.taken, room.leaving), (0, 0));
    }
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
async fn only_one_leaves_for_one_that_comes() {
    let places = Places::new(3, 1);
    let taken = [places.take().await, places.take().await, places.take().await];
    let newcomer = tokio::spawn({
        let places = Arc::clone(&places);
        async move { places.take().await }
    });
    for _ in 0..10 {
        // Requests come and go before the first one has left; each wakes the newcomer.
        drop(taken[2].begin());
        tokio::task::yield_now().await;
    }
    assert!(has_left(&taken[0]).await && !has_left(&taken[1]).await && !has_left(&taken[2]).await);
    let [first, second, third] = taken;
    drop(first);
    let newcomer = newcomer.await.unwrap();
    assert_eq!(newcomer.answers, Use::Everything);
    drop((newcomer, second, third));
    assert_empty(&places);
}

#[tokio::test(start_paused = true)]
async fn who_is_answered_stays_unless_it_takes_nothing_for_long() {
    let places = Places::new(1, 0);
    let first = places.take().await;
    let busy = first.begin();
    advance(STALLED).await;
    assert!(places.try_take().is_none() && !has_left(&first).await, "it has nothing to take");
    let mut unsent = piece(&first);
    advance(STALLED / 2).await;
    unsent.advance(1);
    advance(STALLED / 2).await;
    assert!(places.try_take().is_none() && !has_left(&first).await, "it took a byte");
    advance(STALLED / 2).await;
    assert!(places.try_take().is_none() && has_left(&first).await);
    drop((unsent, busy, first));
    drop(places.try_take().unwrap());
    assert_empty(&places);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_answer_that_is_on_its_way_is_not_cut_off() {
    let places = Places::new(1, 0);
    let first = places.take().await;
    let busy = first.begin();
    let unsent = piece(&first);
    // All of the answer was handed out; some of it waits.
    drop(busy);
    assert!(places.try_take().is_none() && !has_left(&first).await);
    advance(STALLED).await;
    assert!(places.try_take().is_none() && has_left(&first).await);
    drop((unsent, first));
    assert_empty(&places);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_for_minutes_leaves_though_nobody_needs_its_place() {
    let places = Places::new(9, 0);
    let (reader, follower) = (places.take().await, places.take().await);
    let _following = follower.begin();
    let mut unsent = piece(&reader);
    let nearly = Duration::from_secs(299);
    assert!(timeout(nearly, reader.left()).await.is_err());
    unsent.advance(1);
    assert!(timeout(nearly, reader.left()).await.is_err());
    assert!(timeout(Duration::from_secs(2), reader.left()).await.is_ok());
    assert!(timeout(PATIENCE * 2, follower.left()).await.is_err());
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

#[tokio::test(start_paused = true)]
async fn spare_places_of_those_who_ask_for_nothing_go_to_those_who_come() {
    let places = Places::new(1, 2);
    let first = places.take().await;
    let busy = first.begin();
    let (asks, silent) = (places.take().await, places.take().await);
    let asking = asks.begin();
    assert!(places.try_take().is_none() && places.try_take().is_none());
    assert!(has_left(&silent).await && !has_left(&asks).await);
    drop(silent);
    assert_eq!(places.try_take().unwrap().answers, Use::ProbesOnly);
    drop((asking, asks, busy, first));
    assert_empty(&places);
}
