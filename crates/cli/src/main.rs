//! Reads the logs that Relay keeps, from the command line.
//!
//! Arguments become a request ([`config`]), the [`client`] sends it, [`logs`] and [`list`] take the
//! answer in. What is printed is decided by [`render`] and [`terminal`], which are pure.

mod arguments;
mod client;
mod cluster;
mod config;
mod key_dir;
mod lines;
mod list;
mod logs;
mod output;
mod position;
mod record;
mod render;
mod service_url;
mod terminal;
mod token;

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use client::Client;
use config::{Command, Refusal};
use output::WriteError;

/// Statuses of a process that died of SIGINT and of SIGPIPE, as a shell shows them.
const INTERRUPTED: u8 = 130;
const READER_GONE: u8 = 141;

fn main() -> ExitCode {
    let command = match config::read() {
        Ok(command) => command,
        Err(Refusal::Arguments(error)) => {
            // Help goes to stdout, errors to stderr; if that fails nobody can be told.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        Err(Refusal::Cluster(error)) => return fail(&error.into()),
    };
    match run(command) {
        Ok(status) => status,
        Err(error) if is_reader_gone(&error) => ExitCode::from(READER_GONE),
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    drop(writeln!(std::io::stderr(), "relay: {error:#}"));
    ExitCode::FAILURE
}

/// Carries out a command until it ends or Ctrl-C.
fn run(command: Command) -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing else in this process installs one");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = execute(command) => result.map(|()| ExitCode::SUCCESS),
            signal = tokio::signal::ctrl_c() => {
                signal.context("failed to wait for Ctrl-C").map(|()| ExitCode::from(INTERRUPTED))
            }
        }
    });
    // A pipe that nobody reads must not keep the process.
    runtime.shutdown_background();
    result
}

async fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Logs { service, request, screen } => {
            logs::run(&Client::open(service).await?, &request, screen).await?;
        }
        Command::List { service, request } => {
            list::run(&Client::open(service).await?, &request).await?;
        }
        Command::Mint(request) => token::run(request).await?,
    }
    Ok(())
}

fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref::<WriteError>(), Some(WriteError::ReaderGone))
            || matches!(
                cause.downcast_ref::<logs::LogsError>(),
                Some(logs::LogsError::Output(WriteError::ReaderGone))
            )
            || matches!(
                cause.downcast_ref::<list::ListError>(),
                Some(list::ListError::Output(WriteError::ReaderGone))
            )
    })
}
