//! What provisioners say when they do not provide a claim. Each has its own words.

use super::{choice::Unfit, trouble::CLASS_FIELD, verdict::quote};

/// What a provisioner complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The mode in which the claim is to be shared.
    Access,
    /// That it may be shared like this only if it begins as a copy.
    Content,
    /// That it is to begin as a copy.
    Cloning,
    /// Something else, which may pass.
    Else,
}

/// Words about sharing.
const ACCESS: [&str; 6] =
    ["access mode", "accessmode", "readonlymany", "readwriteonce", "reader_only", "read only"];
/// Words about a volume that begins as a copy.
const CONTENT: [&str; 2] = ["volumecontentsource", "content source"];
/// More of them.
const CLONING: [&str; 5] = ["clone", "cloning", "datasource", "data source", "populat"];

/// What the provisioner of an empty claim means.
pub(super) fn of_claim(warning: &str) -> About {
    let says = says(warning);
    if says(&CONTENT) {
        About::Content
    } else if says(&ACCESS) {
        About::Access
    } else {
        About::Else
    }
}

/// What the provisioner of a clone means.
pub(super) fn of_clone(warning: &str) -> About {
    let says = says(warning);
    if says(&CONTENT) || says(&CLONING) {
        About::Cloning
    } else if says(&ACCESS) {
        About::Access
    } else {
        About::Else
    }
}

fn says(warning: &str) -> impl Fn(&[&str]) -> bool {
    let warning = warning.to_ascii_lowercase();
    move |words| words.iter().any(|word| warning.contains(word))
}

/// Why a class does not do.
pub(super) fn unfit(about: About, class: &str, warning: &str) -> Unfit {
    let said = quote(warning);
    let another = format!("name another class in {CLASS_FIELD}");
    let shared = format!(
        "name a class of shared storage, such as NFS, CephFS, EFS, Filestore or Azure Files, in {CLASS_FIELD}"
    );
    let cannot = || format!("storage class {class} cannot provide a ReadOnlyMany claim ({said})");
    match about {
        About::Access => Unfit { reason: "NoReadOnlyMany", why: cannot(), remedy: shared },
        About::Content => Unfit {
            reason: "NoReadOnlyMany",
            why: cannot(),
            remedy: format!("write Clone in spec.entrypointInjection.fill, or {shared}"),
        },
        About::Cloning => Unfit {
            reason: "NoClone",
            why: format!("storage class {class} cannot clone a claim ({said})"),
            remedy: format!("write Direct in spec.entrypointInjection.fill, or {another}"),
        },
        About::Else => Unfit {
            reason: "ProvisioningFailed",
            why: format!("storage class {class} has not provided the claim ({said})"),
            remedy: format!("mend that, or {another}"),
        },
    }
}
