//! What to do next, at a moment. Pure.

use super::{Authority, Held, Leaf, Moment, Names, Periods, Use, issue::SKEW};

/// One change to what is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This authority, by its name, has expired.
    Forget(String),
    /// There is none, or the newest is half over.
    Announce,
    /// Issue a certificate for a use, signed by the authority of this name.
    Issue(Use, String),
    /// Reviews are to be sent elsewhere, or it was made known long enough that they will be.
    ChangePaths,
}

/// The next step; `None` if all is well until later.
///
/// # Guarantees
///
/// - An authority signs only when it was announced long enough, unless no other is left.
/// - An authority that is valid is never forgotten.
/// - After each step another follows or none: repeating comes to an end.
#[must_use]
pub fn next(held: &Held, names: &Names, periods: &Periods, now: Moment) -> Option<Step> {
    let expired = held.authorities.iter().find(|authority| authority.ends <= now);
    if let Some(expired) = expired {
        return Some(Step::Forget(expired.name.clone()));
    }
    if held.authorities.last().is_none_or(|newest| is_half_over(newest.begins, newest.ends, now)) {
        return Some(Step::Announce);
    }
    let signer = signer(held, periods, now)?;
    let stale = |which: &Use| {
        held.leaves.get(which).is_none_or(|leaf| is_stale(leaf, signer, names.of(*which), now))
    };
    let stale = Use::ALL.into_iter().find(stale);
    let issue = stale.map(|which| Step::Issue(which, signer.name.clone()));
    issue.or_else(|| held.paths.is_due(now).then_some(Step::ChangePaths))
}

/// The newest authority that everybody knows.
fn signer<'held>(held: &'held Held, periods: &Periods, now: Moment) -> Option<&'held Authority> {
    let is_known =
        |authority: &&Authority| authority.begins.after(SKEW).after(periods.announcement) <= now;
    held.authorities.iter().rev().find(is_known).or(held.authorities.first())
}

fn is_stale(leaf: &Leaf, signer: &Authority, names: &[String], now: Moment) -> bool {
    leaf.signed_by != signer.name
        || leaf.names != names
        || is_half_over(leaf.begins, leaf.ends, now)
}

/// Also if it begins in the future: then a clock was wrong when it was issued.
fn is_half_over(begins: Moment, ends: Moment, now: Moment) -> bool {
    let issued = begins.after(SKEW);
    let life = ends.0.saturating_sub(issued.0);
    now < begins || now.0 >= issued.0.saturating_add(life / 2)
}
