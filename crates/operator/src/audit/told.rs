//! What people were told of lately.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// How long a finding is no news: as long as the API server keeps events.
const LATELY: Duration = Duration::from_hours(1);
/// Objects that are remembered. Of more than these nothing is told, until some are forgotten.
const MAX: usize = 1024;

/// When people were told of which objects, by uid.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<String, Instant>);

impl Told {
    /// Forgets what is news again.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < LATELY);
    }

    /// Whether people should be told of an object.
    pub(super) fn is_news(&self, uid: &str) -> bool {
        self.0.len() < MAX && !self.0.contains_key(uid)
    }

    /// They are told.
    pub(super) fn insert(&mut self, uid: &str, now: Instant) {
        self.0.insert(uid.to_owned(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::{LATELY, MAX, Told};
    use tokio::time::Instant;

    #[test]
    fn the_same_is_told_once_an_hour_and_memory_is_bounded() {
        let (mut told, now) = (Told::default(), Instant::now());
        for uid in 0..MAX {
            assert!(told.is_news(&uid.to_string()));
            told.insert(&uid.to_string(), now);
            assert!(!told.is_news(&uid.to_string()));
        }
        assert!(!told.is_news("another"), "there is no room");
        told.forget(now + LATELY);
        assert!(told.is_news("another") && told.is_news("0"));
    }
}
