//! The command line as it is written.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use relay_protocol::{
    name::{
        ContainerName, Namespace, PodName, PodUid, RunName, StepName, StreamName, TriggerId,
        WorkflowName,
    },
    service_url::ServiceUrl,
};

const NAMESPACE: &str = "The namespace [default: local; in a cluster that of the context]";

/// Reads the logs that Relay keeps.
#[derive(Debug, Parser)]
#[command(name = "relay", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) service: ServiceArguments,
    #[command(subcommand)]
    pub(crate) command: CommandArguments,
}

/// Which service, and as whom.
#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// The log service.
    #[arg(
        long,
        help = "The log service: https://HOST[:PORT], http:// on loopback, or unix:/PATH/SOCKET. Without it kubectl relay looks for the service in the cluster, and relay asks http://127.0.0.1:8080",
        value_name = "URL",
        env = "RELAY_LOG_URL",
        global = true
    )]
    pub(crate) log_url: Option<ServiceUrl>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
    /// File with the access token.
    #[arg(long, value_name = "FILE", env = "RELAY_TOKEN_FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the certificates (PEM) that alone may vouch for the service.
    #[arg(long, value_name = "FILE", env = "RELAY_CA_FILE", global = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// When to print in colour.
    #[arg(
        long,
        help = "When to print in colour; auto: on a terminal, unless NO_COLOR is set",
        value_name = "WHEN",
        default_value = "auto",
        global = true
    )]
    pub(crate) color: Colour,
}

/// Which cluster, if the service is to be found in one.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ClusterArguments {
    /// File that says how to reach the cluster.
    #[arg(
        long,
        help = "File that says how to reach the cluster, in place of KUBECONFIG and ~/.kube/config",
        value_name = "FILE",
        global = true
    )]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of that file.
    #[arg(
        long,
        help = "Context of that file, in place of its current one",
        value_name = "NAME",
        global = true
    )]
    pub(crate) context: Option<String>,
    /// Where Relay is installed.
    #[arg(
        long,
        help = "Namespace of the cluster in which Relay is installed [default: relay-system]",
        value_name = "NAME",
        global = true
    )]
    pub(crate) relay_namespace: Option<Namespace>,
}

/// When to print in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal.
    Auto,
    /// As if stdout were a terminal.
    Always,
    /// Not at all; colours of the log are removed on a terminal.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum CommandArguments {
    /// Print the log of a pod, or of a trigger or a step of a workflow.
    Logs(LogsArguments),
    /// List the pods that have a log, or the streams of one.
    Ls(ListArguments),
    /// Make access tokens.
    #[command(subcommand)]
    Token(TokenArguments),
}

/// Flags of `relay logs`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags as kubectl has them; resolved in config.rs"
)]
pub(crate) struct LogsArguments {
    /// The pod.
    #[arg(value_name = "POD", value_parser = pod_name, required_unless_present = "workflow")]
    pub(crate) pod: Option<PodName>,
    /// The workflow whose trigger or step is meant: all of its pods together.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["pod", "previous"], requires = "part")]
    pub(crate) workflow: Option<WorkflowName>,
    /// A trigger of the workflow, which is followed for ever.
    #[arg(long, value_name = "ID", group = "part", requires = "workflow")]
    pub(crate) trigger: Option<TriggerId>,
    /// A run of the workflow.
    #[arg(long, value_name = "RUN", group = "part", requires_all = ["workflow", "step"])]
    pub(crate) run: Option<RunName>,
    /// The step of the run.
    #[arg(long, value_name = "NAME", requires = "run")]
    pub(crate) step: Option<StepName>,
    /// Its namespace.
    #[arg(short, long, env = "RELAY_NAMESPACE", help = NAMESPACE)]
    pub(crate) namespace: Option<Namespace>,
    /// One container; needed if a pod has several.
    #[arg(short, long)]
    pub(crate) container: Option<ContainerName>,
    /// Go on as the log grows, until it ends; may begin before the pod does.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// One stream: stdout, stderr or another.
    #[arg(long, required_if_eq("output", "raw"))]
    pub(crate) stream: Option<StreamName>,
    /// Only the last N lines; -1 for all.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..))]
    pub(crate) tail: Option<i64>,
    /// Only lines captured since then: a duration as 90s or 1h30m, or a time as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// The capture time before each line.
    #[arg(long)]
    pub(crate) timestamps: bool,
    /// The run of the container before the last.
    #[arg(short, long)]
    pub(crate) previous: bool,
    /// What to print.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: LogsOutput,
}

/// What `relay logs` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogsOutput {
    /// Lines. A pipe gets the captured bytes; a terminal text and colours only, stderr in red.
    Text,
    /// One record per line, as the service sends them.
    Json,
    /// The exact bytes of one stream, on a terminal too.
    Raw,
}

/// Flags of `relay ls`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// List the streams of this pod.
    #[arg(value_name = "POD", value_parser = pod_name)]
    pub(crate) pod: Option<PodName>,
    /// The namespace.
    #[arg(short, long, env = "RELAY_NAMESPACE", help = NAMESPACE)]
    pub(crate) namespace: Option<Namespace>,
    /// What to print.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: ListOutput,
}

/// What `relay ls` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListOutput {
    /// A table.
    Text,
    /// One object.
    Json,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenArguments {
    /// Make a token and print it. Needs the keys, not the service.
    Mint(MintArguments),
}

/// Flags of `relay token mint`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("access").required(true).args(["read", "write"])))]
#[expect(clippy::struct_excessive_bools, reason = "two flags, one of which must be given")]
pub(crate) struct MintArguments {
    /// Folder of the keys: files NUMBER.key with at least 32 random bytes, and `sign`, which holds
    /// the number of the one that signs and may be left out while there is one.
    #[arg(long, value_name = "DIR", env = "RELAY_KEY_DIR")]
    pub(crate) key_dir: PathBuf,
    /// The namespace that the token is good for.
    #[arg(short, long, env = "RELAY_NAMESPACE", default_value = "local")]
    pub(crate) namespace: Namespace,
    /// Allow to read the logs of the pod, or without --pod of the whole namespace.
    #[arg(long)]
    pub(crate) read: bool,
    /// Allow to write the logs of the pod.
    #[arg(long)]
    pub(crate) write: bool,
    /// The pod that the token is good for.
    #[arg(long, value_parser = pod_name)]
    pub(crate) pod: Option<PodName>,
    /// Its unique id.
    #[arg(long, value_name = "UID")]
    pub(crate) pod_uid: Option<PodUid>,
    /// How long the token is good for: a duration as 90s or 1h30m.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(crate) ttl: String,
}

/// A pod's name, also as kubectl prints it: `pod/NAME`.
fn pod_name(text: &str) -> Result<PodName, relay_protocol::name::NameError> {
    text.strip_prefix("pod/").or_else(|| text.strip_prefix("pods/")).unwrap_or(text).parse()
}
