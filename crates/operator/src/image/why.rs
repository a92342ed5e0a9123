//! Why the command of an image is not known. Pure.

use std::{fmt, time::Duration};

use super::config::Platform;

/// Why the command of an image is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// containerd would not read the name either.
    BadName,
    /// The pod says that nodes have it already; what a registry has by that name may be something else.
    NeverPulled,
    /// No registry is ever asked here.
    NotAsked,
    /// Of one pod.
    TooMany {
        /// How many are looked up.
        most: usize,
    },
    /// The API server does not show the pod's pull secrets in time.
    NoSecrets,
    /// Neither any credential nor none is good enough.
    Refused {
        /// Who refuses.
        registry: String,
        /// Credentials that were tried.
        credentials: usize,
    },
    /// There is no such image.
    Missing {
        /// Who says so.
        registry: String,
    },
    /// 429.
    Busy {
        /// Who says so.
        registry: String,
        /// When to ask again, if it says that.
        retry_after: Option<Duration>,
    },
    /// A status that says nothing about the image.
    Failing {
        /// Whose.
        registry: String,
        /// The status.
        status: u16,
    },
    /// No connection, or one that broke.
    Unreachable {
        /// To whom.
        registry: String,
        /// What went wrong.
        cause: String,
    },
    /// The time is over.
    Slow {
        /// Who is waited for.
        registry: String,
    },
    /// It would be asked something that only this machine, or nobody, may be asked.
    Forbidden {
        /// Where it leads.
        host: String,
        /// What is wrong with that.
        because: &'static str,
    },
    /// An answer that is not what it should be.
    Wrong {
        /// Whose.
        registry: String,
        /// What is wrong.
        because: String,
    },
    /// It is an index, and has nothing for where the pod may run.
    NoPlatform {
        /// Where the pod may run.
        wanted: Vec<Platform>,
    },
    /// The namespace, or all together, look up too much at once.
    Crowded,
}

impl Why {
    /// Whether the same question may have another answer soon, so that an earlier answer still counts.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::Slow { .. }
            | Self::NoSecrets
            | Self::Crowded => true,
            Self::Failing { status, .. } => *status >= 500 || *status == 408,
            Self::BadName
            | Self::NeverPulled
            | Self::NotAsked
            | Self::TooMany { .. }
            | Self::Refused { .. }
            | Self::Missing { .. }
            | Self::Forbidden { .. }
            | Self::Wrong { .. }
            | Self::NoPlatform { .. } => false,
        }
    }

    /// For people. Where credentials are missing, it says which of the pod's secrets have none.
    pub(super) fn told(&self, unread: &[String]) -> String {
        match self {
            Self::Refused { .. } if !unread.is_empty() => {
                format!("{self}; no credentials are in Secret {}", unread.join(", "))
            }
            _ => self.to_string(),
        }
    }

    /// For counters.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::BadName => "bad-name",
            Self::NeverPulled | Self::NotAsked => "not-asked",
            Self::TooMany { .. } => "too-many",
            Self::NoSecrets => "no-secrets",
            Self::Refused { .. } => "refused",
            Self::Missing { .. } => "missing",
            Self::Busy { .. } => "busy",
            Self::Failing { .. } => "failing",
            Self::Unreachable { .. } => "unreachable",
            Self::Slow { .. } => "slow",
            Self::Forbidden { .. } => "forbidden",
            Self::Wrong { .. } => "wrong",
            Self::NoPlatform { .. } => "no-platform",
            Self::Crowded => "crowded",
        }
    }

    /// What a person can do about it, besides writing the command down.
    fn advice(&self) -> &'static str {
        match self {
            Self::BadName => "correct its name",
            Self::NeverPulled | Self::NotAsked => {
                "add it to the images of the operator's --images-config"
            }
            Self::TooMany { .. } => "use fewer",
            Self::Refused { .. } => "check the pull secrets of the pod and of its service account",
            Self::Missing { .. } => "push it, or correct its name",
            Self::Busy { .. }
            | Self::Failing { .. }
            | Self::Slow { .. }
            | Self::NoSecrets
            | Self::Crowded => "try again later",
            Self::Unreachable { .. } => "check that the operator can reach it",
            Self::Forbidden { .. } => {
                "say in the operator's --images-config where that registry is"
            }
            Self::Wrong { .. } => "push it anew",
            Self::NoPlatform { .. } => "build it for the cluster's nodes",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => formatter.write_str("the name of its image is not valid"),
            Self::NeverPulled => formatter.write_str(
                "its image is only on nodes (imagePullPolicy: Never), where Relay cannot look",
            ),
            Self::NotAsked => formatter.write_str("registries are not asked in this cluster"),
            Self::TooMany { most } => write!(formatter, "the pod has more than {most} images"),
            Self::Refused { registry, credentials } => {
                write!(formatter, "{registry} refuses its image, anonymously")?;
                match credentials {
                    0 => Ok(()),
                    _ => write!(formatter, " and with {credentials} credentials"),
                }
            }
            Self::Missing { registry } => write!(formatter, "{registry} does not have its image"),
            Self::Busy { registry, .. } => {
                write!(formatter, "{registry} has had too many requests (429)")
            }
            Self::Failing { registry, status } => {
                write!(formatter, "{registry} answers with status {status}")
            }
            Self::Unreachable { registry, cause } => {
                write!(formatter, "{registry} cannot be reached: {cause}")
            }
            Self::NoSecrets => {
                formatter.write_str("the API server does not show the pod's pull secrets in time")
            }
            Self::Slow { registry } => write!(formatter, "{registry} did not answer in time"),
            Self::Forbidden { host, because } => {
                write!(formatter, "{host} is not asked for its image, because {because}")
            }
            Self::Wrong { registry, because } => {
                write!(formatter, "{registry} gives an image that cannot be used: {because}")
            }
            Self::NoPlatform { wanted } => {
                let wanted: Vec<_> = wanted.iter().map(Platform::to_string).collect();
                write!(formatter, "its image is not made for {}", wanted.join(" or "))
            }
            Self::Crowded => {
                formatter.write_str("too many images are being looked up at the same time")
            }
        }?;
        write!(formatter, "; {}", self.advice())
    }
}
