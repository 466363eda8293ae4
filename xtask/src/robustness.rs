//! `cargo xtask robustness --cycles N [--seed N]`: builds the store's harness in release mode, runs it, keeps its report.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

const REPORT: &str = "docs/robustness-store.md";

pub fn run(args: &[String]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--release", "--quiet", "--package", "store", "--bin", "store-robustness"]);
    command.args(["--features", "battery,etcd,face,failpoints,tokio/rt-multi-thread", "--"]).args(args);
    let out = command.stderr(Stdio::inherit()).output()?;
    if !out.status.success() {
        bail!("the store is not sound");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::write(root.join(REPORT), &out.stdout)?;
    println!("{REPORT}");
    Ok(())
}
