//! Starts and stops a Kubernetes node of this machine's own: `relay-cluster up | down | run COMMAND…`.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use relay_tests::{
    cluster::{
        config,
        folder::Folder,
        node::run_node,
        start::{Lifetime, init, obstacle, start, stop},
    },
    program::workspace,
};

fn main() -> ExitCode {
    drop(rustls::crypto::ring::default_provider().install_default());
    let words: Vec<_> = env::args_os().skip(1).collect();
    let done = match words.first().and_then(|word| word.to_str()) {
        Some("up") => up(),
        Some("down") => down(),
        Some("run") => run(words.get(1..).unwrap_or_default()),
        Some("node") => words.get(1).context("a folder").and_then(|folder| {
            run_node(Path::new(folder))?;
            Ok(ExitCode::SUCCESS)
        }),
        _ => Err(anyhow::anyhow!("usage: relay-cluster up | down | run COMMAND…")),
    };
    done.unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "relay-cluster: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Starts the node unless it runs, and says how clients find it.
fn up() -> Result<ExitCode> {
    let folder = Folder::at(&config::folder())?;
    start(&folder, Lifetime::UntilStopped)?;
    writeln!(io::stdout(), "export KUBECONFIG={}", folder.kubeconfig().display())?;
    Ok(ExitCode::SUCCESS)
}

/// Stops it and removes what it left.
fn down() -> Result<ExitCode> {
    let folder = Folder::at(&config::folder())?;
    stop(&folder)?;
    remove(&folder)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that finds a cluster by `RELAY_TEST_KUBECONFIG`: the one that is given, otherwise
/// a node that lives as long as the command. Where no node can run, says so and succeeds.
fn run(words: &[OsString]) -> Result<ExitCode> {
    let Some((program, arguments)) = words.split_first() else {
        bail!("run what?");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if config::given_kubeconfig().is_some() {
        return finish(&mut command);
    }
    if let Some(obstacle) = obstacle() {
        writeln!(
            io::stderr(),
            "cluster tests do not run here: {obstacle}, or set RELAY_TEST_KUBECONFIG"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = own_folder()?;
    if config::keeps_namespaces() {
        return run_and_keep(&mut command, &folder);
    }
    start(&folder, Lifetime::OfThisProcess)?;
    let ended = finish(command.env("RELAY_TEST_KUBECONFIG", folder.kubeconfig()));
    stop(&folder)?;
    if matches!(&ended, Ok(code) if *code == ExitCode::SUCCESS) {
        remove(&folder)?;
    } else {
        folder.remove(Some("logs"))?;
        writeln!(io::stderr(), "logs of the node are in {}", folder.path("logs").display())?;
    }
    ended
}

/// The same with a node that stays, for whoever wants to look at what tests leave with `RELAY_KEEP`.
fn run_and_keep(command: &mut Command, folder: &Folder) -> Result<ExitCode> {
    start(folder, Lifetime::UntilStopped)?;
    let ended = finish(command.env("RELAY_TEST_KUBECONFIG", folder.kubeconfig()));
    let root = folder.root().display();
    writeln!(io::stderr(), "the node is kept: export KUBECONFIG={root}/kubeconfig")?;
    writeln!(io::stderr(), "remove it with: RELAY_CLUSTER_DIR={root} make cluster-down")?;
    ended
}

/// A folder for this run alone: no other process has its number. What killed runs left is removed.
fn own_folder() -> Result<Folder> {
    let parent = workspace().join(".relay");
    fs::create_dir_all(&parent)?;
    for entry in fs::read_dir(&parent)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("cluster-").and_then(|owner| owner.parse::<u32>().ok());
        let Some(owner) = owner else {
            continue;
        };
        let folder = Folder::at(&entry.path())?;
        if !Path::new(&format!("/proc/{owner}")).exists() && init(&folder).is_none() {
            stop(&folder)?;
            remove(&folder)?;
        }
    }
    Folder::at(&parent.join(format!("cluster-{}", std::process::id())))
}

/// Removes a folder whose node is stopped.
fn remove(folder: &Folder) -> Result<()> {
    folder.remove(None)?;
    drop(fs::remove_file(folder.root().with_extension("lock")));
    Ok(())
}

fn finish(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("failed to start {command:?}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
