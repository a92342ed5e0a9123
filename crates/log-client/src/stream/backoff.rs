//! When to ask a service again that did not take something.

use std::time::Duration;

use tokio::time::Instant;

use super::ring::Pace;

/// Shortest pause: most failures are gone after it.
const SHORTEST: Duration = Duration::from_millis(100);
/// Longest pause that is not the service's wish: a service that comes back is noticed within it.
const LONGEST: Duration = Duration::from_secs(10);
/// Longest such pause at exit: a service that comes back within a budget of 5 s is met.
const LONGEST_IN_HURRY: Duration = Duration::from_secs(1);
/// A wish for more than this is an error of the service.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// A random number, uniform over all values. Passed in, so that what is decided can be repeated.
pub(crate) type Jitter = u32;

/// Full jitter, exponential, never less than the service asked for.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// End of the pause of our own.
    pause: Option<Instant>,
    /// End of the pause that the service asked for.
    retry_after: Option<Instant>,
}

impl Backoff {
    /// Before this time nothing is sent; `None` if something may be sent now.
    pub(super) fn gate(&self, now: Instant) -> Option<Instant> {
        self.pause.max(self.retry_after).filter(|gate| *gate > now)
    }

    /// Several requests that fail at the same time count once.
    pub(super) fn failed(&mut self, now: Instant, jitter: Jitter, pace: Pace) {
        if self.pause.is_some_and(|pause| pause > now) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let longest = if pace == Pace::Hurry { LONGEST_IN_HURRY } else { LONGEST };
        let ceiling = SHORTEST.saturating_mul(1 << self.failures.min(10)).min(longest);
        let share = f64::from(jitter) / f64::from(u32::MAX);
        self.pause = Some(now + SHORTEST + ceiling.saturating_sub(SHORTEST).mul_f64(share));
    }

    pub(super) fn asked_to_wait(&mut self, now: Instant, delay: Option<Duration>) {
        let until = delay.map(|delay| now + delay.min(LONGEST_RETRY_AFTER));
        self.retry_after = self.retry_after.max(until);
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Ends a pause of our own. What the service asked for stays.
    pub(super) fn hurry(&mut self) {
        self.pause = None;
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration, Instant, LONGEST, Pace, SHORTEST};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pause_is_between_a_tenth_of_a_second_and_ten(failures in 1..40_u32, jitter: u32) {
            let mut now = Instant::now();
            let mut backoff = Backoff::default();
            for _ in 0..failures {
                backoff.failed(now, jitter, Pace::Normal);
                let pause = backoff.gate(now).unwrap() - now;
                prop_assert!((SHORTEST..=LONGEST).contains(&pause), "{pause:?}");
                now += pause;
                prop_assert_eq!(backoff.gate(now), None);
            }
        }
    }

    #[test]
    fn pauses_grow_and_success_makes_them_short_again() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        let mut pause = || {
            backoff.failed(now, u32::MAX, Pace::Normal);
            let pause = backoff.gate(now).unwrap() - now;
            now += pause;
            pause
        };
        assert_eq!(pause(), Duration::from_millis(200));
        assert_eq!(pause(), Duration::from_millis(400));
        assert_eq!((0..9).map(|_| pause()).last(), Some(LONGEST));
        backoff.succeeded();
        backoff.failed(now, u32::MAX, Pace::Normal);
        assert_eq!(backoff.gate(now), Some(now + Duration::from_millis(200)));
    }

    #[test]
    fn what_the_service_asks_for_holds_also_in_a_hurry() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.failed(now, 0, Pace::Normal);
        backoff.asked_to_wait(now, Some(Duration::from_secs(30)));
        backoff.asked_to_wait(now, Some(Duration::from_secs(1)));
        backoff.hurry();
        assert_eq!(backoff.gate(now), Some(now + Duration::from_secs(30)));
        backoff.asked_to_wait(now, Some(Duration::MAX));
        assert!(backoff.gate(now).is_some());
    }
}
