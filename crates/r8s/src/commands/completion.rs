//! `r8s completion SHELL`.

use std::process::ExitCode;

use anyhow::Result;
use clap_complete::Shell;

#[derive(clap::Args)]
pub struct Args {
    shell: Shell,
}

pub fn run(args: Args, command: &mut clap::Command) -> Result<ExitCode> {
    clap_complete::generate(args.shell, command, "r8s", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
