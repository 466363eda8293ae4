//! A whole node from outside: how soon it is Ready, how soon a pod runs, what it costs at rest and per pod. Every round
//! is a fresh cluster (`r8s server`) in a network namespace and a root directory of its own; the medians are printed.
//! Needs root and Debian's busybox-static (for the pods' image); the host stays untouched.

mod round;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::Host;

use crate::table;

pub use round::{RoundArgs, run as run_round};

#[derive(clap::Args)]
pub struct Args {
    /// The r8s binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Fresh clusters, one after the other
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Pods created at once
    #[arg(long, default_value_t = 50)]
    pods: usize,
    /// Seconds over which CPU time at rest is counted
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Rounds that count CPU time at rest (each takes twice `--idle`)
    #[arg(long, default_value_t = 1)]
    idle_rounds: usize,
    /// json
    #[arg(short, long)]
    output: Option<String>,
}

/// What is measured: key in a round's JSON, words, unit, target.
const FIGURES: &[(&str, &str, &str, Option<f64>)] = &[
    ("ready", "start to a Ready node", "ms", Some(1000.0)),
    ("firstPod", "start to the first pod Running", "ms", Some(2000.0)),
    ("serverRss", "server at rest, resident", "MB", Some(100.0)),
    ("serverPss", "server at rest, proportional", "MB", None),
    ("serverAnonymous", "of it not file pages", "MB", None),
    ("shimRss", "a pod's shim, resident", "MB", None),
    ("shimPss", "a pod's shim, proportional", "MB", None),
    ("allPss", "all processes at rest, proportional", "MB", Some(100.0)),
    ("idleCpu", "CPU at rest, server and shim", "% of a core", Some(1.0)),
    ("manyPods", "pods created until all are Running", "ms", None),
    ("manyPss", "all processes with them, proportional", "MB", None),
    ("perPod", "per pod: shim and the server's growth", "MB", Some(1.5)),
    ("perPodShim", "of it the shim", "MB", None),
    ("manyIdleCpu", "CPU at rest with them", "% of a core", None),
];

pub fn run(args: Args) -> Result<()> {
    let Args { binary, rounds, pods, idle, idle_rounds, output } = args;
    if !testkit::root_or_skip("bench node") {
        bail!("running containers needs root\nhint: run it with sudo");
    }
    let own = std::env::current_exe()?;
    let binary = match binary {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => own.with_file_name("r8s"),
    };
    let mut results = Vec::new();
    for round in 0..rounds.max(1) {
        let idle = if round < idle_rounds { idle } else { 0 };
        let result = one(&own, &binary, pods, idle).with_context(|| format!("round {}", round + 1))?;
        eprintln!("round {}: {result}", round + 1);
        results.push(result);
    }
    let medians: serde_json::Map<String, Value> = FIGURES
        .iter()
        .filter_map(|(key, ..)| Some(((*key).to_owned(), median(&results, key)?.into())))
        .collect();
    match output.as_deref() {
        Some("json") => {
            let all = json!({ "pods": pods, "idleSeconds": idle, "rounds": results, "median": medians });
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
        Some(other) => bail!("unknown output format {other:?}\nhint: json, or none for a table"),
        None => print(&results, pods),
    }
    Ok(())
}

/// One round, by this program inside a fresh network namespace; what it measured.
fn one(own: &Path, binary: &Path, pods: usize, idle: u64) -> Result<Value> {
    let host = Host::new()?;
    let root = tempfile::Builder::new().prefix("r8s-bench-").tempdir()?;
    let mut command = host.command(&own.display().to_string());
    command.arg("node-round").arg("--binary").arg(binary).arg("--root").arg(root.path());
    command.args(["--pods", &pods.to_string(), "--idle", &idle.to_string()]);
    let measured = command.stderr(Stdio::inherit()).output().context("cannot start the round");
    let mut reset = host.command(&binary.display().to_string());
    let reset = reset.args(["reset", "--yes", "--root"]).arg(root.path()).output()?;
    if !reset.status.success() {
        eprintln!("reset: {}", String::from_utf8_lossy(&reset.stderr).trim());
    }
    let measured = measured?;
    if !measured.status.success() {
        bail!("the round ended with {}", measured.status);
    }
    serde_json::from_slice(&measured.stdout).context("the round's figures")
}

fn values(results: &[Value], key: &str) -> Vec<f64> {
    let mut values: Vec<f64> = results.iter().filter_map(|round| round.get(key)?.as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(results: &[Value], key: &str) -> Option<f64> {
    let values = values(results, key);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

fn print(results: &[Value], pods: usize) {
    let rows: Vec<Vec<String>> = FIGURES
        .iter()
        .filter_map(|(key, words, unit, target)| {
            let values = values(results, key);
            let (least, most) = (values.first()?, values.last()?);
            let words = if *key == "manyPods" { format!("{pods} {words}") } else { (*words).to_owned() };
            let target = target.map(|limit| format!("< {}", table::number(limit))).unwrap_or_default();
            Some(vec![
                format!("{words} ({unit})"),
                table::number(median(results, key)?),
                table::number(*least),
                table::number(*most),
                target,
            ])
        })
        .collect();
    table::print(&["", "median", "least", "most", "target"], &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_skips_rounds_without_the_figure() {
        let results = [json!({"a": 3.0}), json!({"a": 1.0}), json!({}), json!({"a": 2.0})];
        assert_eq!(median(&results, "a"), Some(2.0));
        assert_eq!(median(&results[..2], "a"), Some(2.0));
        assert_eq!(median(&results, "b"), None);
    }
}
