//! What people were told of lately.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::Finding;

/// How long a finding is no news: as long as the API server keeps events.
const LATELY: Duration = Duration::from_hours(1);
/// Objects that are remembered. Of more than these nothing is told, until some are forgotten.
const MAX: usize = 1024;

/// When people were told of which objects.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<String, Instant>);

impl Told {
    /// Whether people should be told, which they then are.
    pub(super) fn is_news(&mut self, finding: &Finding, now: Instant) -> bool {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < LATELY);
        let is_news = self.0.len() < MAX && !self.0.contains_key(finding.key());
        if is_news {
            self.0.insert(finding.key().to_owned(), now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, LATELY, MAX, Told};
    use serde_json::json;
    use tokio::time::Instant;

    fn finding(uid: usize) -> Finding {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "uid": uid.to_string() },
            "spec": { "containers": [{ "name": "main" }] },
        });
        Finding::of(&pod, "acme").unwrap()
    }

    #[test]
    fn the_same_is_told_once_an_hour_and_memory_is_bounded() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_news(&finding(0), now));
        assert!(!told.is_news(&finding(0), now));
        for uid in 1..MAX {
            assert!(told.is_news(&finding(uid), now));
        }
        assert!(!told.is_news(&finding(MAX), now), "there is no room");
        assert!(told.is_news(&finding(MAX), now + LATELY));
        assert!(told.is_news(&finding(0), now + LATELY));
    }
}
