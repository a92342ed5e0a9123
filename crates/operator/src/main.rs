//! Gives tenants their tools and wraps their pods.

use clap::Parser;
use relay_operator::config::{Command, Flags};

fn main() -> anyhow::Result<()> {
    match Flags::parse().command.unwrap_or(Command::Run) {
        Command::Run | Command::Crds => Ok(()),
    }
}
