//! Where reviews are sent: a path that nobody knows but the API server.
//!
//! Whoever may send a review learns what a tenant's image runs, looked up with the rights of that tenant. API servers show
//! webhooks nothing by which they could be told from others, so this one is told by what it knows: whoever may read the
//! webhook's configuration is no tenant.
//!
//! While no operator answers, the API server shows the path to whoever creates a pod. So each is replaced after a day:
//! the next one is known to all replicas for an hour before the configuration names it, and the one before is for an
//! hour after. The same way leads from the path of operators that had no other, in an upgrade.

use std::{fmt, fmt::Write, time::Duration};

use rustls::crypto::ring;
use subtle::{Choice, ConstantTimeEq};

use super::{IssueFailed, Moment};

/// What all paths begin with; alone it is that of operators of before.
pub const ROOT: &str = "/inject";
/// How long a path is named.
const LIFE: Duration = Duration::from_hours(24);
/// Longer than an upgrade takes to replace all operators, and than one is cut off from the API server while that sends it
/// reviews.
const OVERLAP: Duration = Duration::from_hours(1);
/// Nobody guesses 128 bits.
const RANDOM_BYTES: usize = 16;

/// A path, which is shown to nobody. By default that of operators of before.
#[derive(Clone, PartialEq, Eq)]
pub struct Path(String);

/// The paths that count.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// The API server may still use it.
    before: Option<Path>,
    /// The configuration names it, since that moment.
    named: Option<(Path, Moment)>,
    /// All replicas get to know it, from that moment on.
    next: Option<(Path, Moment)>,
    /// The configuration does not name what it has to. That is written down nowhere.
    is_held: bool,
}

impl PartialEq for Paths {
    /// By what is written down.
    fn eq(&self, other: &Self) -> bool {
        self.to_text() == other.to_text()
    }
}

impl Eq for Paths {}

impl Path {
    fn new() -> Result<Self, IssueFailed> {
        let mut random = [0; RANDOM_BYTES];
        let filled = ring::default_provider().secure_random.fill(&mut random);
        filled.map_err(|_| IssueFailed::NoRandomness)?;
        let mut path = format!("{ROOT}/");
        for byte in random {
            write!(path, "{byte:02x}").expect("text takes all that is written");
        }
        Ok(Self(path))
    }

    fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(ROOT)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| Self(text.to_owned()))
    }

    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let Self(text) = self;
        text
    }

    /// What comes after [`ROOT`]; nothing, or something that starts with a slash.
    #[must_use]
    pub fn end(&self) -> &str {
        self.as_str().strip_prefix(ROOT).unwrap_or_default()
    }
}

impl Default for Path {
    fn default() -> Self {
        Self(ROOT.to_owned())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Path")
    }
}

impl Paths {
    /// What counts where nobody has written paths down yet.
    pub(super) fn of_before() -> Self {
        Self { named: Some((Path::default(), Moment(0))), ..Self::default() }
    }

    /// What [`Self::to_text`] wrote. Lines that nobody can read are none.
    pub(super) fn read(text: &str) -> Self {
        let mut paths = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let (role, path) = (words.next(), words.next().and_then(Path::read));
            let since = words.next().and_then(|seconds| seconds.parse().ok()).map(Moment);
            match (role, path, since) {
                (Some("before"), path, _) => paths.before = path,
                (Some("named"), Some(path), Some(since)) => paths.named = Some((path, since)),
                (Some("next"), Some(path), Some(since)) => paths.next = Some((path, since)),
                _ => {}
            }
        }
        paths
    }

    pub(super) fn to_text(&self) -> String {
        let Self { before, named, next, is_held: _ } = self;
        let before = before.iter().map(|Path(path)| format!("before {path}\n"));
        let line = |role: &'static str| {
            move |(Path(path), Moment(since)): &(Path, Moment)| format!("{role} {path} {since}\n")
        };
        before.chain(named.iter().map(line("named"))).chain(next.iter().map(line("next"))).collect()
    }

    /// The one that the configuration has to name.
    #[must_use]
    pub fn named(&self) -> Option<&Path> {
        self.named.as_ref().map(|(path, _)| path)
    }

    /// Whether reviews may come at this path. How long that takes says nothing of the paths that count.
    #[must_use]
    pub fn accept(&self, asked: &str) -> bool {
        let Self { before, named, next, is_held: _ } = self;
        let dated = named.iter().chain(next).map(|(path, _)| path);
        let all = before.iter().chain(dated);
        let same = all.map(|Path(path)| path.as_bytes().ct_eq(asked.as_bytes()));
        same.fold(Choice::from(0), |one, another| one | another).into()
    }

    /// The configuration names this path. Until it is the one that it has to name, none is forgotten: it may be that others
    /// do not let it be changed.
    pub(super) fn configured(&mut self, path: Option<&Path>) {
        self.is_held = path != self.named();
    }

    /// Whether something has to change.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let Self { before, named, next, is_held } = self;
        let Some((_, named)) = named else { return true };
        if *is_held {
            return false;
        }
        let is_over = |since: &Moment, period| since.after(period) <= now;
        now < *named
            || next.as_ref().is_some_and(|(_, since)| now < *since)
            || before.is_some() && is_over(named, OVERLAP)
            || next.as_ref().map_or(is_over(named, LIFE), |(_, since)| is_over(since, OVERLAP))
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// Without randomness.
    pub(super) fn advance(&mut self, now: Moment) -> Result<(), IssueFailed> {
        let Some((_, named)) = &mut self.named else {
            *self = Self { named: Some((Path::new()?, now)), ..Self::default() };
            return Ok(());
        };
        // Whoever wrote a moment that is still to come had a wrong clock: the time begins anew.
        *named = (*named).min(now);
        let named = *named;
        if named.after(OVERLAP) <= now {
            self.before = None;
        }
        match self.next.take() {
            Some((path, since)) if since.after(OVERLAP) <= now => {
                self.before = self.named.replace((path, now)).map(|(path, _)| path);
            }
            Some((path, since)) => self.next = Some((path, since.min(now))),
            None if named.after(LIFE) <= now => self.next = Some((Path::new()?, now)),
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Moment, Paths, ROOT};

    const BEGIN: Moment = Moment(1_800_000_000);
    const MINUTE: Duration = Duration::from_mins(1);

    fn at(minutes: u32) -> Moment {
        BEGIN.after(MINUTE * minutes)
    }

    fn advanced(paths: &Paths, now: Moment) -> Paths {
        let mut paths = paths.clone();
        if paths.is_due(now) {
            paths.advance(now).unwrap();
        }
        assert!(!paths.is_due(now), "{paths:?}");
        assert_eq!(Paths::read(&paths.to_text()), paths, "a Secret holds all of it");
        paths
    }

    fn named(paths: &Paths) -> String {
        paths.named().unwrap().as_str().to_owned()
    }

    #[test]
    fn the_first_path_counts_at_once_and_is_hard_to_guess() {
        let (one, another) =
            (advanced(&Paths::default(), BEGIN), advanced(&Paths::default(), BEGIN));
        let path = named(&one);
        assert!(one.accept(&path) && !another.accept(&path));
        let digits = path.strip_prefix("/inject/").unwrap();
        assert!(digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(one.named().unwrap().end(), format!("/{digits}"));
        let (short, long) = (path.strip_suffix(|_| true).unwrap(), format!("{path}/"));
        for wrong in ["", "/", ROOT, "/inject/", short, long.as_str(), path.to_uppercase().as_str()]
        {
            assert!(!one.accept(wrong), "{wrong}");
        }
        assert!(!format!("{one:?}").contains(digits), "nobody prints it by accident");
    }

    #[test]
    fn a_path_is_replaced_after_a_day_and_both_count_for_an_hour_before_and_after() {
        let first = advanced(&Paths::default(), BEGIN);
        assert_eq!(advanced(&first, at(24 * 60 - 1)), first);
        let announced = advanced(&first, at(24 * 60));
        assert_eq!(named(&announced), named(&first));
        assert_eq!(advanced(&announced, at(25 * 60 - 1)), announced);
        let replaced = advanced(&announced, at(25 * 60));
        assert_ne!(named(&replaced), named(&first));
        assert!(announced.accept(&named(&replaced)), "all know it before it is named");
        assert!(replaced.accept(&named(&first)), "the API server may still use it");
        let forgotten = advanced(&replaced, at(26 * 60));
        assert_eq!(named(&forgotten), named(&replaced));
        assert!(!forgotten.accept(&named(&first)));
    }

    #[test]
    fn operators_of_before_are_asked_where_they_answer_until_they_are_replaced() {
        let before = Paths::of_before();
        let announced = advanced(&before, BEGIN);
        assert_eq!((named(&announced).as_str(), announced.accept(ROOT)), (ROOT, true));
        assert_eq!(advanced(&announced, at(59)), announced);
        let named_now = advanced(&announced, at(60));
        assert!(named(&named_now) != ROOT && named_now.accept(ROOT));
        assert!(!advanced(&named_now, at(120)).accept(ROOT));
    }

    #[test]
    fn no_path_is_forgotten_while_the_configuration_cannot_be_changed() {
        let mut first = advanced(&Paths::default(), BEGIN);
        let other = advanced(&Paths::default(), BEGIN);
        for wrong in [None, other.named()] {
            first.configured(wrong);
            assert_eq!(advanced(&first, at(1_000_000)), first);
        }
        let path = first.named().cloned();
        first.configured(path.as_ref());
        assert_ne!(advanced(&first, at(24 * 60)), first);
    }

    #[test]
    fn a_clock_that_was_wrong_keeps_no_path_for_ever() {
        let late = advanced(&Paths::default(), at(1_000_000));
        let healed = advanced(&late, BEGIN);
        assert_eq!(named(&healed), named(&late));
        assert!(healed.is_due(at(24 * 60)));
    }

    #[test]
    fn text_that_nobody_wrote_makes_no_path() {
        for text in
            ["", "named", "named /inject/a x", "named /other 0", "named /injected 0", "x /inject 0"]
        {
            assert_eq!(Paths::read(text), Paths::default(), "{text}");
        }
    }

    proptest! {
        /// Whoever is told of a change late, and names or uses a path of before, is answered all the same.
        #[test]
        fn whenever_the_leader_wakes_who_is_less_than_an_hour_late_is_answered(
            pauses in prop::collection::vec(0_u32..3_000, 1..40),
        ) {
            let mut now = 0;
            let mut all = vec![(0, advanced(&Paths::of_before(), BEGIN))];
            for pause in pauses {
                now += pause;
                let (_, last) = all.last().unwrap();
                all.push((now, advanced(last, at(now))));
            }
            for (index, (_, paths)) in all.iter().enumerate() {
                // What counted until less than an hour ago.
                let since = all[index].0.saturating_sub(59);
                let late = (0..index).rev().take_while(|&at| all[at + 1].0 >= since);
                for (_, before) in late.map(|at| &all[at]) {
                    prop_assert!(paths.accept(&named(before)), "the API server is late");
                    prop_assert!(before.accept(&named(paths)), "a replica is late");
                }
            }
        }
    }
}
