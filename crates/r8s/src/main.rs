//! r8s: Kubernetes in one binary. This crate is argv, configuration, wiring and supervision; it knows no
//! Kubernetes semantics.

mod cli;
mod commands;
mod config;
mod credentials;
mod host;
mod paths;
mod supervise;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
