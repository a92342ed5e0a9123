//! Which of several commands is meant here: what an image runs may differ between the platforms that it is made for.

use std::{
    collections::BTreeMap,
    ffi::{CString, NulError},
};

/// The platforms whose programs run here, the best first: the order in which containerd picks among images
/// (`platforms/compare.go`). Variants that say nothing are left out, as they are in its normal form.
const HERE: &[&str] = if cfg!(target_arch = "aarch64") {
    &[
        "linux/arm64",
        "linux/arm64/v8",
        "linux/arm/v8",
        "linux/arm/v7",
        "linux/arm",
        "linux/arm/v6",
        "linux/arm/v5",
    ]
} else {
    &["linux/amd64", "linux/386"]
};

/// No command for this platform.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlatformError {
    /// Not what the webhook writes.
    #[error("{0:?} is not an object with a list of words for each platform")]
    NotCommands(String, #[source] serde_json::Error),
    /// Made for others.
    #[error("the image has no command for {here}, only for {there}", here = HERE[0])]
    NotHere {
        /// What it is made for.
        there: String,
    },
    /// A word that no program can get.
    #[error("a word of the command has a NUL in it")]
    Nul(#[from] NulError),
}

/// The words for this platform, of JSON such as `{"linux/amd64": ["/app"], "linux/arm64": ["/app-arm"]}`.
pub(crate) fn pick(json: &[u8]) -> Result<Vec<CString>, PlatformError> {
    pick_of(json, HERE)
}

fn pick_of(json: &[u8], here: &[&str]) -> Result<Vec<CString>, PlatformError> {
    let text = || String::from_utf8_lossy(json).into_owned();
    let mut all: BTreeMap<String, Vec<String>> =
        serde_json::from_slice(json).map_err(|error| PlatformError::NotCommands(text(), error))?;
    let Some(words) = here.iter().find_map(|platform| all.remove(*platform)) else {
        let there: Vec<_> = all.into_keys().collect();
        return Err(PlatformError::NotHere { there: there.join(", ") });
    };
    words.into_iter().map(|word| CString::new(word).map_err(PlatformError::Nul)).collect()
}

#[cfg(test)]
mod tests {
    use super::{HERE, PlatformError, pick_of};
    use std::ffi::CString;

    fn words(json: &str, here: &[&str]) -> Vec<String> {
        let words: Vec<CString> = pick_of(json.as_bytes(), here).unwrap();
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_best_platform_wins_wherever_it_stands() {
        let json = r#"{"linux/386":["a"],"linux/amd64":["b","$"],"linux/arm64":["c"]}"#;
        assert_eq!(words(json, &["linux/amd64", "linux/386"]), ["b", "$"]);
        assert_eq!(words(json, &["linux/386"]), ["a"]);
    }

    #[test]
    fn what_cannot_be_picked_is_told() {
        let error = |json: &str| pick_of(json.as_bytes(), &["linux/amd64"]).unwrap_err();
        assert!(matches!(error("[]"), PlatformError::NotCommands(..)));
        assert!(matches!(error(r#"{"linux/amd64":"a"}"#), PlatformError::NotCommands(..)));
        assert!(matches!(error(r#"{"linux/amd64":["\u0000"]}"#), PlatformError::Nul(_)));
        let told = error(r#"{"linux/s390x":["a"],"linux/arm64":["a"]}"#).to_string();
        assert!(told.ends_with("only for linux/arm64, linux/s390x"), "{told}");
        assert!(told.contains(HERE[0]));
    }
}
