//! Load for API servers, one phase after the other, each phase on every server before the next begins. Per phase:
//! operations per second, p50 and p99 of the latency, the server's CPU time per operation and its resident memory.
//! CPU per operation is the figure that holds on a busy machine.

mod nodes;
mod pods;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::json;

use crate::connection::{Call, Server};
use crate::process::{self, Process, Usage};
use crate::table;

#[derive(clap::Args)]
pub struct Args {
    /// A server: NAME=KUBECONFIG[=PID[,PID…]] (the processes whose CPU and memory count). Several are measured in
    /// turns; the first is what the others are compared with
    #[arg(long = "server", required = true, value_name = "NAME=KUBECONFIG[=PIDS]")]
    servers: Vec<String>,
    /// Also write the table, as Markdown, to this file
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Leave the pods where they are: no delete, no deletecollection
    #[arg(long)]
    keep: bool,
    /// How many pods
    #[arg(long, default_value_t = 5000)]
    pods: usize,
    /// How many nodes are created and listed before the pods; they stay
    #[arg(long, default_value_t = 0)]
    nodes: usize,
    /// Only these operations, of `create`, `get`, `patch`, …; what they work on must be there
    #[arg(long, value_delimiter = ',', value_name = "OPERATION,…")]
    only: Vec<String>,
    /// Connections that work at once
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// Watches for the fan-out
    #[arg(long, default_value_t = 100)]
    watches: usize,
}

impl Args {
    fn wants(&self, operation: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == operation)
    }
}

/// Watches are measured after it: every pod is as large as it gets.
const LAST_WRITE: &str = "status";

/// A server under test.
struct Target {
    name: String,
    server: Server,
    processes: Vec<Process>,
    rows: Vec<Row>,
}

/// What one kind of operation came to on one server.
pub(crate) struct Row {
    pub name: &'static str,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the server's processes; none if they are not known.
    cpu_ms: Option<f64>,
    resident: Option<u64>,
    /// Bytes of the last answer's body.
    bytes: usize,
}

impl Row {
    /// The cells after the names; CPU time is compared with that of the first server.
    fn cells(&self, first: &Row) -> Vec<String> {
        let known = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), table::number);
        let share =
            self.cpu_ms.zip(first.cpu_ms).filter(|(_, first)| *first > 0.0).map(|(cpu, first)| cpu / first);
        vec![
            table::number(self.per_second),
            table::number(self.p50_ms),
            table::number(self.p99_ms),
            known(self.cpu_ms),
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            known(self.resident.map(|bytes| bytes as f64 / 1e6)),
            known(Some(self.bytes as f64 / 1e3)),
        ]
    }
}

impl Target {
    fn add(&mut self, row: Row) {
        eprintln!("{:<16} {:<24} {}", self.name, row.name, row.cells(&row).join("  "));
        self.rows.push(row);
    }

    fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('=').collect();
        let (name, kubeconfig, pids) = match parts[..] {
            [name, kubeconfig] => (name, kubeconfig, ""),
            [name, kubeconfig, pids] => (name, kubeconfig, pids),
            _ => bail!("--server {text:?}: want NAME=KUBECONFIG[=PIDS]"),
        };
        let processes = pids
            .split(',')
            .filter(|pid| !pid.is_empty())
            .map(|pid| pid.parse().map(Process).context("a process id"))
            .collect::<Result<_>>()?;
        let server = Server::from_kubeconfig(&PathBuf::from(kubeconfig))?;
        Ok(Self { name: name.to_owned(), server, processes, rows: Vec::new() })
    }
}

pub async fn run(args: Args) -> Result<()> {
    let mut targets: Vec<Target> = args.servers.iter().map(|s| Target::parse(s)).collect::<Result<_>>()?;
    for target in &targets {
        pods::prepare(&target.server).await.with_context(|| target.name.clone())?;
    }
    for phase in &phases(&args) {
        for target in targets.iter_mut().filter(|_| args.wants(phase.name)) {
            let row = measure(target, phase, args.workers).await;
            target.add(row.with_context(|| phase.name)?);
        }
        if phase.name == LAST_WRITE && args.wants(watch::NAME) {
            for target in &mut targets {
                let row = watch::fan_out(&target.server, &target.processes, args.watches).await;
                target.add(row.context("watch")?);
            }
        }
    }
    let mut rows = Vec::new();
    for at in 0..targets[0].rows.len() {
        let first = &targets[0].rows[at];
        for target in &targets {
            let row = &target.rows[at];
            rows.push([vec![row.name.to_owned(), target.name.clone()], row.cells(first)].concat());
        }
    }
    let compared = format!("CPU of {}'s", targets[0].name);
    let header = [
        "operation",
        "server",
        "per second",
        "p50 ms",
        "p99 ms",
        "CPU ms each",
        &compared,
        "resident MB",
        "answer KB",
    ];
    let named = |name| targets[0].rows.iter().find(|row| row.name == name);
    let size = named("get").or_else(|| named("create")).map_or(0, |row| row.bytes);
    let text = format!(
        "{} pods of {:.1} KB, {} workers, {} watches\n\n{}",
        args.pods,
        size as f64 / 1e3,
        args.workers,
        args.watches,
        table::markdown(&header, &rows)
    );
    println!("{text}");
    if let Some(path) = &args.markdown {
        std::fs::write(path, &text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// One kind of operation, done `count` times.
struct Phase {
    name: &'static str,
    count: usize,
    /// At most this many at once.
    workers: usize,
    call: Box<dyn Fn(usize) -> Call + Send + Sync>,
}

fn phases(args: &Args) -> Vec<Phase> {
    let all = args.pods;
    let some = all.min(2000);
    let phase =
        |name, count, workers, call: fn(usize) -> Call| Phase { name, count, workers, call: Box::new(call) };
    let mut phases = vec![
        phase("create nodes", args.nodes, usize::MAX, |i| {
            Call::with_body(Method::POST, nodes::COLLECTION, "application/json", &nodes::node(i))
        }),
        phase("list nodes (JSON)", 10, 2, |_| Call::get(nodes::COLLECTION)),
        phase("create", all, usize::MAX, |i| {
            Call::with_body(Method::POST, pods::COLLECTION, "application/json", &pods::pod(i))
        }),
        phase("get", all, usize::MAX, |i| Call::get(pods::path(i))),
        phase("list (JSON)", 20, 2, |_| Call::get(pods::COLLECTION)),
        phase("list (protobuf)", 20, 2, |_| Call {
            accept: "application/vnd.kubernetes.protobuf",
            ..Call::get(pods::COLLECTION)
        }),
        phase("list (page of 500)", 50, 2, |_| Call::get(format!("{}?limit=500", pods::COLLECTION))),
        phase("list (labels)", 50, 2, |_| Call::get(format!("{}?labelSelector=shard%3D7", pods::COLLECTION))),
        phase("list (field)", 50, 2, |_| {
            Call::get(format!("{}?fieldSelector=spec.nodeName%3Dnode-7", pods::COLLECTION))
        }),
        phase("patch", some, usize::MAX, |i| {
            let patch = json!({"metadata": {"annotations": {"patched": "yes"}}});
            Call::with_body(Method::PATCH, pods::path(i), "application/merge-patch+json", &patch)
        }),
        phase("apply", some, usize::MAX, |i| {
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pods::name(i), "labels": {"applied": "yes"}}});
            let path = format!("{}?fieldManager=bench-apply", pods::path(i));
            Call::with_body(Method::PATCH, path, "application/apply-patch+yaml", &object)
        }),
        phase(LAST_WRITE, some, usize::MAX, |i| {
            let status =
                json!({"status": {"phase": "Running", "podIP": format!("10.1.{}.{}", i / 250, i % 250)}});
            let path = format!("{}/status", pods::path(i));
            Call::with_body(Method::PATCH, path, "application/strategic-merge-patch+json", &status)
        }),
        phase("delete", all / 2, usize::MAX, |i| {
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
            Call::with_body(Method::DELETE, pods::path(i), "application/json", &options)
        }),
        phase("deletecollection", 1, 1, |_| {
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
            Call::with_body(Method::DELETE, pods::COLLECTION, "application/json", &options)
        }),
    ];
    if args.nodes == 0 {
        phases.retain(|phase| !phase.name.contains("nodes"));
    }
    if args.keep {
        phases.retain(|phase| !phase.name.starts_with("delete"));
    }
    phases
}

/// Runs a phase and makes its row. `deletecollection` counts the pods it deletes.
async fn measure(target: &Target, phase: &Phase, workers: usize) -> Result<Row> {
    let operations =
        if phase.name == "deletecollection" { pods::count(&target.server).await? } else { phase.count };
    let before = process::total(&target.processes)?;
    let started = Instant::now();
    let (mut latencies, bytes) = drive(&target.server, phase, workers.min(phase.workers)).await?;
    let measured = Measured {
        operations,
        elapsed: started.elapsed(),
        before,
        after: process::total(&target.processes)?,
    };
    Ok(Row { bytes, ..measured.row(phase.name, &mut latencies) })
}

/// A stretch of time and what the server's processes used before and after it.
pub(crate) struct Measured {
    pub operations: usize,
    pub elapsed: Duration,
    pub before: Option<Usage>,
    pub after: Option<Usage>,
}

impl Measured {
    pub fn row(&self, name: &'static str, latencies: &mut [Duration]) -> Row {
        latencies.sort();
        let at = |share: f64| {
            let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
            latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        let each = self.operations.max(1) as f64;
        Row {
            name,
            per_second: self.operations as f64 / self.elapsed.as_secs_f64(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            cpu_ms: self.before.zip(self.after).map(|(before, after)| (after.cpu_ms - before.cpu_ms) / each),
            resident: self.after.map(|usage| usage.resident),
            bytes: 0,
        }
    }
}

/// Calls of a phase spread over the workers, each on a connection of its own; every latency, and the size of an answer.
async fn drive(server: &Server, phase: &Phase, workers: usize) -> Result<(Vec<Duration>, usize)> {
    let calls: Arc<Vec<Call>> = Arc::new((0..phase.count).map(|i| (phase.call)(i)).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::new();
    for _ in 0..workers.min(phase.count) {
        let mut connection = server.connect().await?;
        let (calls, next) = (calls.clone(), next.clone());
        running.push(tokio::spawn(async move {
            let (mut latencies, mut bytes) = (Vec::new(), 0);
            while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                let started = Instant::now();
                bytes = connection.call_unread(call).await?;
                latencies.push(started.elapsed());
            }
            anyhow::Ok((latencies, bytes))
        }));
    }
    let (mut all, mut bytes) = (Vec::new(), 0);
    for worker in running {
        let (latencies, last) = worker.await??;
        all.extend(latencies);
        bytes = last.max(bytes);
    }
    Ok((all, bytes))
}
