//! `cargo xtask bench …`: builds the benchmarks in release mode and runs them with the given arguments.

use std::process::Command;

use anyhow::{Result, bail};

pub fn run(args: &[String]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--release", "--quiet", "--package", "bench", "--"]).args(args);
    if !command.status()?.success() {
        bail!("the benchmark failed");
    }
    Ok(())
}
