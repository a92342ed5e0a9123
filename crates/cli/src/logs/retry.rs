//! When to connect again.

use std::time::Duration;

use tokio::time::sleep;

const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Delays between attempts, doubling until something arrives.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
}

impl Retry {
    /// Something arrived.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits for the next attempt. The number of attempts since something arrived, from 1.
    pub(super) async fn wait(&mut self) -> u32 {
        sleep(self.delay()).await;
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    fn delay(&self) -> Duration {
        FIRST_DELAY.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::Retry;

    #[test]
    fn delays_double_up_to_five_seconds_and_begin_anew() {
        let delay = |failures| Retry { failures }.delay().as_millis();
        assert_eq!([0, 1, 4, 5, 99].map(delay), [250, 500, 4_000, 5_000, 5_000]);
        let mut retry = Retry { failures: 9 };
        retry.reset();
        assert_eq!(retry.delay().as_millis(), 250);
    }
}
