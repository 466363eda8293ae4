//! `cargo xtask bench …`: builds the benchmarks in release mode and runs them with the given arguments.

use std::process::Command;

use anyhow::{Result, bail};

pub fn run(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|name| name == "node") {
        // It runs the binary that users run, found beside itself.
        let mut build = Command::new(env!("CARGO"));
        if !build.args(["build", "--release", "--quiet", "--package", "r8s"]).status()?.success() {
            bail!("r8s does not build");
        }
    }
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--release", "--quiet", "--package", "bench", "--"]).args(args);
    if !command.status()?.success() {
        bail!("the benchmark failed");
    }
    Ok(())
}
