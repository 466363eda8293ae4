//! Load for API servers, one phase after the other, each phase on every server before the next begins. Per phase:
//! operations per second, p50 and p99 of the latency, the server's CPU time per operation and its resident memory.
//! CPU per operation is the figure that holds on a busy machine.

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
use crate::process::{self, Process};
use crate::table;

#[derive(clap::Args)]
pub struct Args {
    /// A server: NAME=KUBECONFIG=PID[,PID…] (the processes whose CPU and memory count). Several are measured in turns
    #[arg(long = "server", required = true, value_name = "NAME=KUBECONFIG=PIDS")]
    servers: Vec<String>,
    /// How many pods
    #[arg(long, default_value_t = 5000)]
    objects: usize,
    /// Connections that work at once
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// Watches for the fan-out
    #[arg(long, default_value_t = 100)]
    watches: usize,
}

/// A server under test.
struct Target {
    name: String,
    server: Server,
    processes: Vec<Process>,
    rows: Vec<Vec<String>>,
}

impl Target {
    fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('=').collect();
        let [name, kubeconfig, pids] = parts[..] else {
            bail!("--server {text:?}: want NAME=KUBECONFIG=PIDS")
        };
        let processes = pids
            .split(',')
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
    let phases = phases(&args);
    for phase in &phases {
        for target in &mut targets {
            let row = measure(target, phase, args.workers).await;
            let row = row.with_context(|| format!("{}: {}", target.name, phase.name))?;
            eprintln!("{:<10} {}", target.name, row.join("  "));
            target.rows.push(row);
        }
        if phase.name == "status" {
            for target in &mut targets {
                let row = watch::fan_out(&target.server, &target.processes, args.watches).await?;
                eprintln!("{:<10} {}", target.name, row.join("  "));
                target.rows.push(row);
            }
        }
    }
    for target in &targets {
        println!("\n{} ({} pods, {} workers)\n", target.name, args.objects, args.workers);
        table::print(
            &["operation", "per second", "p50 ms", "p99 ms", "CPU ms each", "resident MB"],
            &target.rows,
        );
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
    let all = args.objects;
    let some = all.min(2000);
    let phase =
        |name, count, workers, call: fn(usize) -> Call| Phase { name, count, workers, call: Box::new(call) };
    vec![
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
        phase("status", some, usize::MAX, |i| {
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
    ]
}

/// Runs a phase and makes its row. `deletecollection` counts the pods it deletes.
async fn measure(target: &Target, phase: &Phase, workers: usize) -> Result<Vec<String>> {
    let operations =
        if phase.name == "deletecollection" { pods::count(&target.server).await? } else { phase.count };
    let before = process::total(&target.processes)?;
    let started = Instant::now();
    let mut latencies = drive(&target.server, phase, workers.min(phase.workers)).await?;
    let elapsed = started.elapsed();
    let after = process::total(&target.processes)?;
    let cpu = (after.cpu_ms - before.cpu_ms) / operations.max(1) as f64;
    Ok(row(phase.name, operations, elapsed, &mut latencies, cpu, after.resident))
}

pub(crate) fn row(
    name: &str,
    operations: usize,
    elapsed: Duration,
    latencies: &mut [Duration],
    cpu_ms: f64,
    resident: u64,
) -> Vec<String> {
    latencies.sort();
    let at = |share: f64| {
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    };
    vec![
        name.to_owned(),
        table::number(operations as f64 / elapsed.as_secs_f64()),
        table::number(at(0.5)),
        table::number(at(0.99)),
        table::number(cpu_ms),
        table::number(resident as f64 / 1e6),
    ]
}

/// Calls of a phase spread over the workers, each on a connection of its own; every latency.
async fn drive(server: &Server, phase: &Phase, workers: usize) -> Result<Vec<Duration>> {
    let calls: Arc<Vec<Call>> = Arc::new((0..phase.count).map(|i| (phase.call)(i)).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::new();
    for _ in 0..workers.min(phase.count) {
        let mut connection = server.connect().await?;
        let (calls, next) = (calls.clone(), next.clone());
        running.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                let started = Instant::now();
                connection.call(call).await?;
                latencies.push(started.elapsed());
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut all = Vec::new();
    for worker in running {
        all.extend(worker.await??);
    }
    Ok(all)
}
