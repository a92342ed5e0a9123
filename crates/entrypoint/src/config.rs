//! What Relay was asked to do, resolved: inside, nothing is left to decide.

mod duration;
mod flags;

use std::{
    ffi::{CString, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::Duration,
};

use relay_log_client::{ServiceUrl, Settings, UrlError};
use relay_protocol::{
    context::{ContextError, ContextFields},
    name::{ContainerName, NameError, Namespace, PodName},
};

use crate::{
    environment::Environment,
    exit::Status,
    install::Mode,
    platform::{self, PlatformError},
};
use flags::{Flags, Request};

pub(crate) use flags::{Copying, Recipient, USAGE};

/// Relay's own variables: the command does not see them, and sees all others.
pub(crate) const HIDDEN: [&str; 15] = [
    "RELAY_LOG_URL",
    "RELAY_TOKEN_FILE",
    "RELAY_CA_FILE",
    "RELAY_BLOCK_MAX",
    "RELAY_FLUSH_MAX",
    "RELAY_NAMESPACE",
    "RELAY_POD",
    "RELAY_CONTAINER",
    "RELAY_WORKFLOW",
    "RELAY_TRIGGER",
    "RELAY_RUN",
    "RELAY_STEP",
    "RELAY_GRACE",
    "RELAY_TERMINATION_LOG",
    "RELAY_RUN_DIR",
];

/// Bytes that wait for delivery, for both streams together: a service that answers after 100 ms takes
/// 40 MB/s from it, since half of it may be on the way.
const RING_BYTES: usize = 8 << 20;
/// What a job can wait without harm, and longer than a restart of the log service takes.
const BLOCK_MAX: Duration = Duration::from_mins(1);
/// Delivery after the command's end, without SIGTERM.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// No job should wait longer for its log than this.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);
/// Grace period of a pod, if Kubernetes is not told otherwise.
const GRACE: Duration = Duration::from_secs(30);
/// Where Kubernetes reads why a container ended.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Where the webhook gives a container a folder of its own that lives as long as the pod.
const RUN_DIR: &str = "/relay-run";
/// Longest pod name.
const MAX_POD_BYTES: usize = 253;

/// A command line or an environment that says nothing useful.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Wrong options.
    #[error("failed to read the options")]
    Options(#[source] lexopt::Error),
    /// Nothing to run.
    #[error("there is no command to run: write entrypoint [OPTIONS] -- COMMAND [ARGUMENTS...]")]
    NoCommand,
    /// Nothing to run here.
    #[error("failed to find the command in --platform-argv")]
    Platform(#[source] PlatformError),
    /// Not UTF-8 where text is needed.
    #[error("{} is not UTF-8: write it as text", named(.0))]
    NotText(&'static str),
    /// Not a duration.
    #[error("failed to read {}", named(.0))]
    Duration(&'static str, #[source] duration::DurationError),
    /// Delivery after the end would take too long.
    #[error("{} is too long with {given:?}: use at most {} s", named("RELAY_FLUSH_MAX"), FLUSH_LIMIT.as_secs())]
    FlushTooLong {
        /// The value.
        given: Duration,
    },
    /// Not a log service.
    #[error("failed to read {}", named("RELAY_LOG_URL"))]
    Url(#[source] UrlError),
    /// Nobody could vouch for the service.
    #[error("the log service uses TLS, but no file of CA certificates is given: use --ca-file")]
    NoCa,
    /// Not a name.
    #[error("failed to read {0}")]
    Name(&'static str, #[source] NameError),
    /// Names that name no part of a workflow.
    #[error("failed to read RELAY_WORKFLOW, RELAY_TRIGGER, RELAY_RUN and RELAY_STEP")]
    Context(#[source] ContextError),
    /// A relative path in a folder that is gone.
    #[error("failed to find the working directory")]
    Folder(#[source] io::Error),
}

impl ConfigError {
    /// The status to exit with.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Platform(PlatformError::NotHere { .. }) => Status::NOT_FOUND,
            _ => Status::RELAY_FAILED,
        }
    }
}

/// A variable with the option that wins over it: either may hold what is wrong.
fn named(variable: &str) -> String {
    let option = match variable {
        "RELAY_LOG_URL" => " (--log-url)",
        "RELAY_BLOCK_MAX" => " (--block-max)",
        "RELAY_FLUSH_MAX" => " (--flush-max)",
        _ => "",
    };
    format!("{variable}{option}")
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
    /// Put this program into a folder, or compare what is there with it.
    Install(PathBuf, Mode),
    /// Become the command of these words, of which there is one at least.
    Become(Vec<CString>),
    /// Run the command and keep its output.
    Keep(Vec<CString>, Box<Config>),
}

/// How output is kept.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where it goes and under which names.
    pub(crate) settings: Settings,
    /// Why the output is kept without the part of a workflow that was named: no reason not to run.
    pub(crate) trouble: Option<ConfigError>,
    /// How long delivery may take after the command's end.
    pub(crate) flush_max: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    /// Variables whose values are masked.
    pub(crate) masked: Vec<OsString>,
    /// Whether the container's own output gets a copy.
    pub(crate) copying: Copying,
    /// Who gets signals.
    pub(crate) recipient: Recipient,
    /// Where to say why a container failed.
    pub(crate) termination_log: PathBuf,
    /// A folder that outlives the container, if it is there.
    pub(crate) run_dir: PathBuf,
}

/// Decides what to do. Options win over variables; an empty variable is as none.
pub(crate) fn read(arguments: &[CString], environment: &Environment) -> Result<Plan, ConfigError> {
    let request = flags::read(arguments).map_err(ConfigError::Options)?;
    match request.ok_or(ConfigError::NoCommand)? {
        Request::Help => Ok(Plan::Help),
        Request::Version => Ok(Plan::Version),
        Request::Install(directory, mode) => Ok(Plan::Install(directory.into(), mode)),
        Request::Run(flags, at) => {
            let command = command(&flags, arguments.get(at..).unwrap_or_default())?;
            let host = rustix::system::uname();
            let sources = Sources { environment, host: host.nodename().to_bytes() };
            let config = sources.resolve(flags)?;
            Ok(match config {
                Some(config) => Plan::Keep(command, Box::new(config)),
                None => Plan::Become(command),
            })
        }
    }
}

/// The words of the command: those of this platform, if they differ, and those that follow.
fn command(flags: &Flags, words: &[CString]) -> Result<Vec<CString>, ConfigError> {
    let json = flags.platform_argv.as_ref().map(|json| json.as_bytes());
    let own = json.map(platform::pick).transpose().map_err(ConfigError::Platform)?;
    let command = [own.unwrap_or_default(), words.to_vec()].concat();
    if command.is_empty() { Err(ConfigError::NoCommand) } else { Ok(command) }
}

/// Where values come from that no option gives.
struct Sources<'run> {
    environment: &'run Environment,
    host: &'run [u8],
}

impl Sources<'_> {
    /// `None` without a log service.
    fn resolve(&self, flags: Flags) -> Result<Option<Config>, ConfigError> {
        let Some(url) = self.text(flags.log_url, "RELAY_LOG_URL")?.filter(|url| !url.is_empty())
        else {
            return Ok(None);
        };
        let url: ServiceUrl = url.parse().map_err(ConfigError::Url)?;
        let ca_file = self.path(flags.ca_file, "RELAY_CA_FILE")?;
        if ca_file.is_none() && url.is_remote() {
            return Err(ConfigError::NoCa);
        }
        let flush_max = self.duration(flags.flush_max, "RELAY_FLUSH_MAX", FLUSH_MAX)?;
        if flush_max > FLUSH_LIMIT {
            return Err(ConfigError::FlushTooLong { given: flush_max });
        }
        let container = self.name::<ContainerName>("RELAY_CONTAINER", || "main".to_owned())?;
        let (context, trouble) = match self.context(&container) {
            Ok(context) => (context, None),
            Err(error) => (ContextFields::default(), Some(error)),
        };
        let settings = Settings {
            url,
            token_file: self.path(flags.token_file, "RELAY_TOKEN_FILE")?,
            ca_file,
            namespace: self.name::<Namespace>("RELAY_NAMESPACE", || "local".to_owned())?,
            pod: self.name::<PodName>("RELAY_POD", || pod_name(self.host))?,
            container,
            context,
            block_max: self.duration(flags.block_max, "RELAY_BLOCK_MAX", BLOCK_MAX)?,
            ring_bytes: RING_BYTES,
        };
        Ok(Some(Config {
            settings,
            trouble,
            flush_max,
            grace: self.duration(None, "RELAY_GRACE", GRACE)?,
            masked: flags.mask_env,
            copying: flags.copying,
            recipient: flags.recipient,
            termination_log: self
                .path(None, "RELAY_TERMINATION_LOG")?
                .unwrap_or_else(|| TERMINATION_LOG.into()),
            run_dir: self.path(None, "RELAY_RUN_DIR")?.unwrap_or_else(|| RUN_DIR.into()),
        }))
    }

    fn context(&self, container: &ContainerName) -> Result<ContextFields, ConfigError> {
        let fields = ContextFields {
            workflow: self.optional_name("RELAY_WORKFLOW")?,
            trigger: self.optional_name("RELAY_TRIGGER")?,
            run: self.optional_name("RELAY_RUN")?,
            step: self.optional_name("RELAY_STEP")?,
        };
        let context = fields.resolve(container).map_err(ConfigError::Context)?;
        Ok(context.map(Into::into).unwrap_or_default())
    }

    fn value(&self, flag: Option<OsString>, variable: &str) -> Option<OsString> {
        let variable = || self.environment.get(variable.as_bytes()).filter(|text| !text.is_empty());
        flag.or_else(|| variable().map(|text| OsString::from_vec(text.to_vec())))
    }

    fn text(
        &self,
        flag: Option<OsString>,
        variable: &'static str,
    ) -> Result<Option<String>, ConfigError> {
        let value = self.value(flag, variable).map(OsString::into_string);
        value.transpose().map_err(|_| ConfigError::NotText(variable))
    }

    /// Made absolute, since Relay leaves the working directory and reads some files again.
    fn path(&self, flag: Option<OsString>, variable: &str) -> Result<Option<PathBuf>, ConfigError> {
        let value = self.value(flag, variable).filter(|text| !text.is_empty());
        let absolute = value.map(|text| std::path::absolute(Path::new(&text)));
        absolute.transpose().map_err(ConfigError::Folder)
    }

    fn duration(
        &self,
        flag: Option<OsString>,
        variable: &'static str,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = self.text(flag, variable)? else { return Ok(default) };
        duration::parse(&text).map_err(|source| ConfigError::Duration(variable, source))
    }

    fn name<Name: TryFrom<String, Error = NameError>>(
        &self,
        variable: &'static str,
        default: impl FnOnce() -> String,
    ) -> Result<Name, ConfigError> {
        let text = self.text(None, variable)?.unwrap_or_else(default);
        Name::try_from(text).map_err(|source| ConfigError::Name(variable, source))
    }

    fn optional_name<Name: TryFrom<String, Error = NameError>>(
        &self,
        variable: &'static str,
    ) -> Result<Option<Name>, ConfigError> {
        let name = self.text(None, variable)?.map(Name::try_from).transpose();
        name.map_err(|source| ConfigError::Name(variable, source))
    }
}

/// The host's name in the form of a pod's: what cannot stand in one becomes a dash.
fn pod_name(host: &[u8]) -> String {
    let plain = |byte: u8| match byte.to_ascii_lowercase() {
        byte @ (b'a'..=b'z' | b'0'..=b'9') => byte,
        _ => b'-',
    };
    let labels = host.split(|byte| *byte == b'.').filter_map(|label| {
        let label: String = label.iter().map(|byte| char::from(plain(*byte))).collect();
        Some(label.trim_matches('-').to_owned()).filter(|label| !label.is_empty())
    });
    let name = labels.collect::<Vec<_>>().join(".");
    let short: String = name.chars().take(MAX_POD_BYTES).collect();
    let short = short.trim_end_matches(['-', '.']);
    if short.is_empty() { "unnamed".to_owned() } else { short.to_owned() }
}

#[cfg(test)]
mod tests;
