//! The secrets of the command's environment.

use std::{ffi::OsString, os::unix::ffi::OsStrExt, sync::Arc};

use relay_masking::{Patterns, Reason};

use crate::environment::Environment;

/// Looks up the values of the named variables.
///
/// Also returns one sentence for each name whose value is not masked. None holds a value.
pub(crate) fn patterns(
    names: &[OsString],
    environment: &Environment,
) -> (Arc<Patterns>, Vec<String>) {
    let value = |name: &OsString| environment.get(name.as_bytes());
    let unset = names.iter().filter(|name| value(name).is_none());
    let mut warnings: Vec<_> = unset.map(|name| warning(name, "it is not set")).collect();
    let found: Vec<_> = names.iter().filter_map(|name| Some((name, value(name)?))).collect();
    let (patterns, rejected) = Patterns::new(found.iter().map(|(_, value)| value.to_vec()));
    warnings.extend(rejected.iter().filter_map(|rejected| {
        found.get(rejected.index).map(|(name, _)| warning(name, reason(rejected.reason)))
    }));
    (Arc::new(patterns), warnings)
}

fn warning(name: &OsString, reason: &str) -> String {
    format!("the value of {} is not masked: {reason}", name.to_string_lossy())
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::TooShort => "it is too short",
        Reason::TooLong => "it is too long",
        Reason::Blank => "it is blank",
        Reason::Full => "all secrets together are too long",
    }
}

#[cfg(test)]
mod tests {
    use super::patterns;
    use crate::environment::Environment;

    #[test]
    fn what_is_not_masked_is_told_by_name_and_never_by_value() {
        let entries = [c"A=hunter2hunter2", c"B=tiny", c"C=another-secret"];
        let environment = Environment::new(entries.map(ToOwned::to_owned).to_vec());
        let names = ["X", "B", "A", "C"].map(Into::into);
        let (found, warnings) = patterns(&names, &environment);
        assert_eq!(found.len(), 2);
        assert_eq!(
            warnings,
            [
                "the value of X is not masked: it is not set",
                "the value of B is not masked: it is too short",
            ]
        );
    }

    #[test]
    fn without_names_nothing_is_masked() {
        let (found, warnings) = patterns(&[], &Environment::default());
        assert!(found.is_empty() && warnings.is_empty());
    }
}
