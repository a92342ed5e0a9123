//! Gives tenants their tools and wraps their pods.

use std::{io::Write, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use relay_operator::{
    api,
    config::{Flags, Request},
    run,
};

/// Almost all time is spent waiting for the API server.
const THREADS: usize = 2;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One sentence with its causes: logging may not be set up yet.
            drop(writeln!(std::io::stderr(), "relay-operator: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    match Flags::parse().resolve()? {
        Request::Crds => {
            let text = api::definitions().context("failed to write the definitions as YAML")?;
            std::io::stdout().write_all(text.as_bytes()).context("failed to print")
        }
        Request::Run(config) => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(THREADS).enable_all();
            let runtime = runtime.build().context("failed to start threads")?;
            runtime.block_on(run::run(*config))
        }
    }
}
