//! Flags and environment, and what they mean.

use clap::{Parser, Subcommand};

/// Gives tenants their tools and wraps their pods.
#[derive(Clone, Debug, Parser)]
#[command(name = "relay-operator", version)]
pub struct Flags {
    /// What to do; to run is the default
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the controller and the webhook
    Run,
    /// Print the custom resource definitions as YAML
    Crds,
}
