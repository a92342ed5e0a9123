//! The id under which a stream is written, and when to ask for another.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::backoff::Jitter;

/// An id is renewed at this share of its life: of a day, almost five hours are left for retries.
const RENEW_AT: f64 = 0.8;
/// Pause after a renewal that failed. The old id still works, so there is no haste.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// Id of a stream. Whoever has it may write the stream, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StreamId(Arc<str>);

impl StreamId {
    pub(crate) fn new(id: &str) -> Self {
        Self(id.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StreamId")
    }
}

/// What the service says of a stream that it was asked to create.
#[derive(Clone, Debug)]
pub(crate) struct NewId {
    pub(crate) id: StreamId,
    pub(crate) life: Duration,
    pub(crate) found: Found,
}

/// Whether the service knew the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Existing,
    /// It knows it now. Before that an answer was lost, which may have said that it is new.
    Unclear,
    New,
}

/// Counts the ids that a stream has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32);

/// The current id of a stream.
#[derive(Debug, Default)]
pub(super) struct Identity {
    id: Option<StreamId>,
    version: Version,
    /// Ids before this one wrote a stream that is gone: what they were told does not count.
    trusted: Version,
    renew: Option<Instant>,
    request: AskingFor,
    standing: Standing,
    creation: Creation,
    era: Era,
}

/// Counts how often the stream may have been lost without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Era(u32);

/// Whether the service may have created the stream anew without the answer arriving.
#[derive(Debug, Default, PartialEq, Eq)]
enum Creation {
    #[default]
    Certain,
    Doubtful,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum AskingFor {
    #[default]
    Nothing,
    Id,
}

/// Whether the current id has ever worked.
#[derive(Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Untried,
    Proven,
}

impl Identity {
    pub(super) fn current(&self) -> Option<(&StreamId, Version)> {
        self.id.as_ref().map(|id| (id, self.version))
    }

    pub(super) fn is_needed(&self, now: Instant) -> bool {
        self.request == AskingFor::Nothing
            && (self.id.is_none() || self.renew.is_some_and(|renew| renew <= now))
    }

    /// When to wake up for a renewal.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.renew.filter(|_| self.request == AskingFor::Nothing)
    }

    pub(super) fn asked(&mut self) {
        self.request = AskingFor::Id;
    }

    pub(super) fn got(&mut self, new: NewId, now: Instant) {
        if new.found == Found::Unclear {
            self.answer_lost();
        }
        self.request = AskingFor::Nothing;
        self.standing = Standing::Untried;
        self.version.0 += 1;
        if std::mem::take(&mut self.creation) == Creation::Doubtful {
            self.era.0 += 1;
            self.distrust_earlier();
        }
        self.renew = Some(now + new.life.mul_f64(RENEW_AT));
        self.id = Some(new.id);
    }

    /// The stream of all earlier ids is gone.
    pub(super) fn distrust_earlier(&mut self) {
        self.trusted = self.version;
    }

    pub(super) fn trusts(&self, version: Version) -> bool {
        version >= self.trusted
    }

    /// The answer to a creation is lost. Had it said that the stream is new, all before were gone.
    pub(super) fn answer_lost(&mut self) {
        if self.version > Version::default() {
            self.creation = Creation::Doubtful;
        }
    }

    /// What was settled in an earlier era may be gone.
    pub(super) fn era(&self) -> Era {
        self.era
    }

    /// Returns whether the stream is now without an id.
    pub(super) fn ask_failed(&mut self, now: Instant, jitter: Jitter) -> bool {
        self.request = AskingFor::Nothing;
        let share = f64::from(jitter) / f64::from(u32::MAX);
        self.renew = Some(now + RENEWAL_PAUSE.mul_f64(1.0 + share));
        self.id.is_none()
    }

    pub(super) fn worked(&mut self) {
        self.standing = Standing::Proven;
    }

    /// The service does not know this id. Returns whether the id never worked: then the service
    /// contradicts itself and is given time.
    pub(super) fn gone(&mut self, version: Version) -> bool {
        if version != self.version {
            return false;
        }
        self.id = None;
        self.standing == Standing::Untried
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Identity, NewId, RENEWAL_PAUSE, StreamId};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn an_id_is_renewed_at_four_fifths_of_its_life_and_works_until_the_new_one_is_there() {
        let (now, life) = (Instant::now(), Duration::from_secs(100));
        let mut identity = Identity::default();
        assert!(identity.is_needed(now));
        identity.asked();
        assert!(!identity.is_needed(now), "one request is enough");
        identity.got(NewId { id: StreamId::new("old"), life, found: Found::New }, now);
        let due = now + Duration::from_secs(80);
        assert_eq!(identity.wake(), Some(due));
        assert!(!identity.is_needed(due - Duration::from_millis(1)) && identity.is_needed(due));
        identity.asked();
        assert!(!identity.ask_failed(due, 0), "the old id still works");
        assert_eq!(identity.wake(), Some(due + RENEWAL_PAUSE));
        assert_eq!(identity.current().map(|(id, _)| id.as_str()), Some("old"));
        identity.asked();
        identity.got(NewId { id: StreamId::new("new"), life, found: Found::Existing }, due);
        assert_eq!(identity.current().map(|(id, _)| id.as_str()), Some("new"));
        assert_eq!(identity.wake(), Some(due + Duration::from_secs(80)));
    }
}
