//! r8s: Kubernetes in one binary. This crate is argv, configuration, wiring and supervision; it knows no
//! Kubernetes semantics.

mod cli;
mod commands;
mod config;
mod control;
mod credentials;
mod host;
mod images;
mod instance;
mod offline;
mod paths;
mod supervise;
mod telemetry;
mod wiring;

use std::process::ExitCode;

/// Objects are trees of small maps and strings, made and dropped by the hundred for each write.
#[global_allocator]
static ALLOCATOR: kernel::allocator::Allocator = kernel::allocator::Allocator;

fn main() -> ExitCode {
    cli::run()
}
