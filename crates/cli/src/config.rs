//! From arguments and environment to requests.

use std::{ffi::OsString, io::IsTerminal, path::Path, time::Duration};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};
use jiff::{SignedDuration, Timestamp};
use relay_protocol::{
    capability::Access,
    context::{Context, Part},
    name::Namespace,
};

use crate::{
    arguments::{
        Arguments, ClusterArguments, Colour, CommandArguments, ListArguments, ListOutput,
        LogsArguments, LogsOutput, MintArguments, ServiceArguments, TokenArguments,
    },
    client::{Place, Service},
    cluster::{Cluster, ClusterError},
    list,
    logs::{self, Print, Runs, Since, Subject},
    position::Selection,
    render::{Form, Screen},
    terminal::Styles,
    token,
};

/// Where `relay` looks for the service, as the README starts it.
const LOOPBACK: &str = "http://127.0.0.1:8080";
/// The namespace of logs that were written outside of a cluster.
const LOCAL: &str = "local";
/// Where the chart installs Relay.
const RELAY_NAMESPACE: &str = "relay-system";

/// What to do, with nothing left to decide.
#[derive(Debug)]
pub(crate) enum Command {
    Logs { service: Service, request: logs::Request, screen: Screen },
    List { service: Service, request: list::Request },
    Mint(token::Request),
}

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The arguments are wrong, or ask for help.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// They are right, and the cluster that they mean is not known.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Reads the process's arguments and environment, and the kubeconfig if that is needed.
///
/// # Errors
///
/// What the user should read: what is wrong with them, or the help that was asked for.
pub(crate) fn read() -> Result<Command, Refusal> {
    let environment = Environment {
        now: Timestamp::now(),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        #[expect(clippy::disallowed_methods, reason = "this is config.rs")]
        colours: match std::env::var_os("NO_COLOR").filter(|value| !value.is_empty()) {
            Some(_) => Styles::Drop,
            None => Styles::Keep,
        },
    };
    let (name, arguments) = parse(std::env::args_os())?;
    resolve(arguments, name, &environment)
}

/// As what the program was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Relay,
    /// `kubectl-relay`, which kubectl runs for `kubectl relay`.
    Plugin,
}

/// What else the process was given.
#[derive(Debug)]
struct Environment {
    now: Timestamp,
    stdout_is_terminal: bool,
    colours: Styles,
}

/// As a plugin of kubectl, help speaks of `kubectl relay`.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<(Name, Arguments), clap::Error> {
    let arguments: Vec<OsString> = arguments.collect();
    let program = arguments.first().and_then(|program| Path::new(program).file_stem());
    let mut command = Arguments::command();
    let mut name = Name::Relay;
    if program.is_some_and(|program| program == "kubectl-relay") {
        command = command.bin_name("kubectl relay").display_name("kubectl relay");
        name = Name::Plugin;
    }
    let arguments = Arguments::from_arg_matches(&command.try_get_matches_from(arguments)?)?;
    Ok((name, arguments))
}

fn resolve(
    arguments: Arguments,
    name: Name,
    environment: &Environment,
) -> Result<Command, Refusal> {
    let Arguments { service, command } = arguments;
    let screen = screen(service.color, environment);
    Ok(match command {
        CommandArguments::Logs(mut arguments) => {
            let (service, namespace) = find(service, name, arguments.namespace.take())?;
            let request = logs_request(arguments, namespace, environment.now)?;
            Command::Logs { service, request, screen }
        }
        CommandArguments::Ls(ListArguments { pod, namespace, output }) => {
            let (service, namespace) = find(service, name, namespace)?;
            let form = match output {
                ListOutput::Text => list::Form::Table,
                ListOutput::Json => list::Form::Json,
            };
            Command::List { service, request: list::Request { namespace, pod, form } }
        }
        CommandArguments::Token(TokenArguments::Mint(arguments)) => {
            Command::Mint(mint_request(arguments)?)
        }
    })
}

/// Which service is meant, and which namespace.
fn find(
    arguments: ServiceArguments,
    name: Name,
    namespace: Option<Namespace>,
) -> Result<(Service, Namespace), Refusal> {
    let ServiceArguments { log_url, token_file, ca_file, cluster, color: _ } = arguments;
    let ClusterArguments { kubeconfig, context, relay_namespace } = cluster;
    let is_asked = kubeconfig.is_some() || context.is_some() || relay_namespace.is_some();
    if is_asked && log_url.is_some() {
        let message = "--kubeconfig, --context and --relay-namespace are to find the service in a cluster: leave them out, or --log-url and RELAY_LOG_URL";
        return Err(wrong(ErrorKind::ArgumentConflict, message).into());
    }
    let (place, default) = if log_url.is_none() && (is_asked || name == Name::Plugin) {
        let install =
            relay_namespace.map_or_else(|| RELAY_NAMESPACE.into(), |name| name.to_string());
        let cluster = Cluster::read(kubeconfig.as_deref(), context.as_deref(), install)?;
        let default = cluster.default_namespace().to_owned();
        (Place::Cluster(Box::new(cluster)), default)
    } else {
        let loopback = || LOOPBACK.parse().expect("it is the address of a service");
        (Place::Url(log_url.unwrap_or_else(loopback)), LOCAL.to_owned())
    };
    let namespace = match namespace {
        Some(namespace) => namespace,
        None => default.parse().map_err(|error| wrong(ErrorKind::ValueValidation, error))?,
    };
    Ok((Service { place, token_file, ca_file }, namespace))
}

fn screen(colour: Colour, environment: &Environment) -> Screen {
    match (colour, environment.stdout_is_terminal) {
        (Colour::Always, _) => Screen::Terminal(Styles::Keep),
        (_, false) => Screen::Pipe,
        (Colour::Auto, true) => Screen::Terminal(environment.colours),
        (Colour::Never, true) => Screen::Terminal(Styles::Drop),
    }
}

fn logs_request(
    arguments: LogsArguments,
    namespace: Namespace,
    now: Timestamp,
) -> Result<logs::Request, clap::Error> {
    let print = match (arguments.output, arguments.timestamps) {
        (LogsOutput::Raw, true) => {
            let message = "exact bytes have no --timestamps: leave out one of both";
            return Err(wrong(ErrorKind::ArgumentConflict, message));
        }
        (LogsOutput::Raw, false) => Print::Raw,
        (LogsOutput::Json, _) => Print::Records(Form::Json),
        (LogsOutput::Text, true) => Print::Records(Form::Timestamps),
        (LogsOutput::Text, false) => Print::Records(Form::Bytes),
    };
    let part = match (arguments.trigger, arguments.run, arguments.step) {
        (Some(trigger), ..) => Some(Part::Trigger(trigger)),
        (None, Some(run), Some(step)) => Some(Part::Step { run, step }),
        (None, ..) => None,
    };
    let subject = match (arguments.workflow, part, arguments.pod) {
        (Some(workflow), Some(part), _) => Subject::Part(Context { workflow, part }),
        (_, _, Some(pod)) => Subject::Pod(pod),
        (_, _, None) => {
            let message = "name a pod, or a workflow with a trigger, or with a run and a step";
            return Err(wrong(ErrorKind::MissingRequiredArgument, message));
        }
    };
    Ok(logs::Request {
        namespace,
        subject,
        selection: Selection { container: arguments.container, stream: arguments.stream },
        runs: if arguments.previous { Runs::BeforeLast } else { Runs::All },
        follow: arguments.follow,
        tail: arguments.tail.and_then(|lines| u64::try_from(lines).ok()),
        since: arguments.since.map(|text| since(text, now)).transpose()?,
        print,
    })
}

fn since(text: String, now: Timestamp) -> Result<Since, clap::Error> {
    let time = match text.parse::<Timestamp>() {
        Ok(time) => Some(time),
        Err(_) => duration(&text).and_then(|duration| now.checked_sub(duration).ok()),
    };
    let Some(time) = time else {
        let message = format!(
            "--since {text:?} is neither a duration as 90s or 1h30m nor a time as 2026-01-31T12:00:00Z"
        );
        return Err(wrong(ErrorKind::ValueValidation, message));
    };
    Ok(Since { text, time })
}

fn mint_request(arguments: MintArguments) -> Result<token::Request, clap::Error> {
    let Some(life) = duration(&arguments.ttl).filter(|life| !life.is_zero()) else {
        let message = format!("--ttl {:?} is not a duration as 90s or 1h30m", arguments.ttl);
        return Err(wrong(ErrorKind::ValueValidation, message));
    };
    let missing = |what| Err(wrong(ErrorKind::MissingRequiredArgument, what));
    let access = match (arguments.write, arguments.pod, arguments.pod_uid) {
        (true, Some(pod), uid) => Access::Write(pod, uid),
        (true, None, _) => return missing("--write needs --pod"),
        (false, _, Some(_)) => return missing("--pod-uid needs --write"),
        (false, pod, None) => Access::Read(pod),
    };
    Ok(token::Request { key_dir: arguments.key_dir, namespace: arguments.namespace, access, life })
}

/// As Go and kubectl write them: `90s`, `1h30m`, `1.5h`.
fn duration(text: &str) -> Option<Duration> {
    let duration = text.parse::<SignedDuration>().ok()?;
    Duration::try_from(duration).ok()
}

fn wrong(kind: ErrorKind, message: impl std::fmt::Display) -> clap::Error {
    Arguments::command().error(kind, message)
}

#[cfg(test)]
mod tests {
    use super::{Command, Environment, Refusal, parse, resolve};
    use crate::{
        logs,
        logs::Print,
        render::{Form, Screen},
        terminal::Styles,
    };
    use jiff::Timestamp;

    const TERMINAL: Environment =
        Environment { now: Timestamp::UNIX_EPOCH, stdout_is_terminal: true, colours: Styles::Keep };

    fn command(line: &str) -> Result<Command, Refusal> {
        let words = line.split(' ').map(Into::into);
        let (name, arguments) = parse(words)?;
        resolve(arguments, name, &TERMINAL)
    }

    fn logs(line: &str) -> logs::Request {
        match command(line).unwrap() {
            Command::Logs { request, .. } => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_mean_what_they_mean_to_kubectl() {
        let request =
            logs("relay logs -n team -f pod/web-0 -c app -p --tail=20 --since=1h --timestamps");
        let what = request.subject.to_string();
        assert_eq!((request.namespace.as_str(), what.as_str()), ("team", "pod web-0"));
        assert_eq!(
            (request.follow, request.runs, request.tail),
            (true, logs::Runs::BeforeLast, Some(20))
        );
        assert_eq!(request.print, Print::Records(Form::Timestamps));
        assert_eq!(request.since.unwrap().time.to_string(), "1969-12-31T23:00:00Z");
        assert_eq!(logs("relay logs web-0 --tail -1").tail, None);
        let since = logs("relay logs web-0 --since 2026-01-31T12:00:00Z").since.unwrap();
        assert_eq!(since.time.to_string(), since.text);
    }

    #[test]
    fn the_part_of_a_workflow_is_named_by_its_parts() {
        let subject = |line: &str| logs(line).subject.to_string();
        let step = subject("relay logs -f --workflow deploy --run 7 --step build");
        assert_eq!(step, "step build of run 7 of workflow deploy");
        let trigger = subject("relay logs --trigger push --workflow deploy -c main");
        assert_eq!(trigger, "trigger push of workflow deploy");
    }

    #[test]
    fn wrong_arguments_are_refused_with_what_is_wrong() {
        for (line, message) in [
            ("relay logs Web", "is not a pod name"),
            ("relay logs web -o raw", "--stream"),
            ("relay logs", "<POD>"),
            ("relay logs --workflow w", "--trigger <ID>|--run <RUN>"),
            ("relay logs --workflow w --run 7", "--step <NAME>"),
            ("relay logs --workflow w --step s", "--trigger <ID>|--run <RUN>"),
            ("relay logs --trigger t", "--workflow <NAME>"),
            ("relay logs --workflow w --trigger t --run 7 --step s", "cannot be used with"),
            ("relay logs web --workflow w --trigger t", "cannot be used with"),
            ("relay logs -p --workflow w --trigger t", "cannot be used with"),
            ("relay logs --workflow a/b --trigger t", "is not a workflow name"),
            (
                "relay logs web -o raw --stream stdout --timestamps",
                "exact bytes have no --timestamps",
            ),
            ("relay logs web --tail -2", "-2 is not in -1.."),
            ("relay logs web --since yesterday", "--since \"yesterday\" is neither a duration"),
            ("relay logs web --since=-1h", "--since \"-1h\" is neither a duration"),
            ("relay logs web --log-url http://logs.example", "in the clear"),
            ("relay token mint --key-dir d", "--read|--write"),
            ("relay token mint --key-dir d --read --write --pod p", "cannot be used with"),
            ("relay token mint --key-dir d --write", "--pod"),
            ("relay token mint --key-dir d --read --ttl 0s", "--ttl \"0s\" is not a duration"),
            ("relay token mint --key-dir d --read --pod p --pod-uid u", "--write"),
        ] {
            let error = command(line).unwrap_err().to_string();
            assert!(error.contains(message), "{line}: {error}");
        }
    }

    #[test]
    fn colours_are_for_terminals_unless_asked_for() {
        let screen = |line: &str, stdout_is_terminal, colours| {
            let environment = Environment { stdout_is_terminal, colours, ..TERMINAL };
            let (name, arguments) = parse(line.split(' ').map(Into::into)).unwrap();
            match resolve(arguments, name, &environment).unwrap() {
                Command::Logs { screen, .. } => screen,
                other => panic!("{other:?}"),
            }
        };
        let (keep, drop) = (Screen::Terminal(Styles::Keep), Screen::Terminal(Styles::Drop));
        assert_eq!(screen("relay logs a", true, Styles::Keep), keep);
        assert_eq!(screen("relay logs a", true, Styles::Drop), drop);
        assert_eq!(screen("relay logs a", false, Styles::Keep), Screen::Pipe);
        assert_eq!(screen("relay logs a --color never", true, Styles::Keep), drop);
        assert_eq!(screen("relay --color always logs a", false, Styles::Drop), keep);
    }

    #[test]
    fn an_address_and_a_cluster_are_one_too_many() {
        let error = command("relay ls --log-url https://logs --context c").unwrap_err();
        assert!(error.to_string().contains("leave them out, or --log-url"), "{error}");
    }

    #[test]
    fn as_a_plugin_it_speaks_of_kubectl() {
        let help = parse(["/usr/bin/kubectl-relay", "logs", "--help"].map(Into::into).into_iter());
        assert!(help.unwrap_err().to_string().contains("Usage: kubectl relay logs"));
    }
}
