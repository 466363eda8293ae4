//! One round: a fresh cluster, measured, and stopped. Runs inside the round's network namespace and prints JSON.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::connection::{Call, Connection, Server};
use crate::process::{self, Memory, Process};

const IMAGE: &str = "example.org/bench:1";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Creating pods at once is done by this many connections.
const WRITERS: usize = 4;
const LIMIT: Duration = Duration::from_secs(120);
/// How long things settle before memory and CPU at rest are read.
const SETTLE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct RoundArgs {
    #[arg(long)]
    binary: PathBuf,
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    pods: usize,
    #[arg(long)]
    idle: u64,
}

pub async fn run(args: RoundArgs) -> Result<()> {
    let RoundArgs { binary, root, pods, idle } = args;
    image(&binary, &root)?;
    let started = Instant::now();
    let mut cluster = Cluster::start(&binary, &root)?;
    let figures = measure(&mut cluster, &root, pods, idle, started).await;
    cluster.stop()?;
    println!("{}", figures?);
    Ok(())
}

async fn measure(
    cluster: &mut Cluster,
    root: &Path,
    pods: usize,
    idle: u64,
    started: Instant,
) -> Result<Value> {
    cluster.said("apiserver up").await?;
    let server = Server::from_kubeconfig(&root.join("etc/r8s/admin.kubeconfig"))?;
    let mut watch = Watch::open(&server).await?;
    let mut connection = server.connect().await?;
    create(&mut connection, "first").await?;
    let running = timeout(LIMIT, watch.running(1)).await.context("the first pod does not run")??;
    let ready = cluster.said("ready in ").await?;

    tokio::time::sleep(SETTLE).await;
    let own = Process(cluster.child.id());
    let alone = State::of(&own, root)?;
    let idle_cpu = cpu_at_rest(&own, root, idle).await?;

    let began = Instant::now();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut connection = server.connect().await?;
        writers.push(tokio::spawn(async move {
            for number in (writer..pods).step_by(WRITERS) {
                create(&mut connection, &format!("pod-{number}")).await?;
            }
            anyhow::Ok(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    let all = timeout(LIMIT, watch.running(pods + 1)).await.context("the pods do not all run")??;
    tokio::time::sleep(SETTLE).await;
    let crowded = State::of(&own, root)?;
    let many_idle_cpu = cpu_at_rest(&own, root, idle).await?;

    let shims = crowded.shims.len().max(1) as f64;
    let per_shim =
        |read: fn(&Memory) -> u64| crowded.shims.iter().map(read).sum::<u64>() as f64 / shims / 1e6;
    let growth = (crowded.total() - alone.total()) / pods.max(1) as f64;
    let mut figures = json!({
        "ready": milliseconds(ready - started),
        "firstPod": milliseconds(running - started),
        "serverRss": alone.server.resident as f64 / 1e6,
        "serverPss": alone.server.proportional as f64 / 1e6,
        "serverAnonymous": alone.server.anonymous as f64 / 1e6,
        "shimRss": per_shim(|m| m.resident),
        "shimPss": per_shim(|m| m.proportional),
        "allPss": alone.total(),
        "manyPods": milliseconds(all - began),
        "manyPss": crowded.total(),
        "perPod": growth,
        "perPodShim": per_shim(|m| m.proportional),
    });
    for (key, value) in [("idleCpu", idle_cpu), ("manyIdleCpu", many_idle_cpu)] {
        if let Some(percent) = value {
            figures[key] = percent.into();
        }
    }
    Ok(figures)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Memory of the server and of the pods' shims.
struct State {
    server: Memory,
    shims: Vec<Memory>,
}

impl State {
    fn of(server: &Process, root: &Path) -> Result<Self> {
        let shims = shims(root)?.iter().map(Process::memory).collect::<Result<_>>()?;
        Ok(Self { server: server.memory()?, shims })
    }

    /// Proportional sizes, MB.
    fn total(&self) -> f64 {
        let all = self.shims.iter().chain([&self.server]);
        all.map(|memory| memory.proportional).sum::<u64>() as f64 / 1e6
    }
}

/// The processes (shims) that were started with a directory of this cluster.
fn shims(root: &Path) -> Result<Vec<Process>> {
    let word = format!("dir={}", root.display());
    process::with_argument(|argument| argument.starts_with(&word))
}

/// Per cent of a core that server and shims use over `seconds`; `None` for 0.
async fn cpu_at_rest(server: &Process, root: &Path, seconds: u64) -> Result<Option<f64>> {
    if seconds == 0 {
        return Ok(None);
    }
    let mut all = shims(root)?;
    all.push(server.clone());
    let before = process::total(&all)?.unwrap_or_default().cpu_ms;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(Some((process::total(&all)?.unwrap_or_default().cpu_ms - before) / (seconds as f64 * 10.0)))
}

/// Creates a pod; waits for what a young cluster lacks (the namespace's service account).
async fn create(connection: &mut Connection, name: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/busybox", "sleep", "1000000"]}],
        },
    });
    let call = Call::with_body(Method::POST, PODS, "application/json", &pod);
    let deadline = Instant::now() + LIMIT;
    loop {
        match connection.call(&call).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// A watch on the namespace's pods.
struct Watch {
    body: hyper::body::Incoming,
    rest: Vec<u8>,
    running: std::collections::BTreeSet<String>,
    _connection: Connection,
}

impl Watch {
    async fn open(server: &Server) -> Result<Self> {
        let mut connection = server.connect().await?;
        let answer = connection.open(&Call::get(format!("{PODS}?watch=true"))).await?;
        if !answer.status().is_success() {
            bail!("watch: {}", answer.status());
        }
        Ok(Self {
            body: answer.into_body(),
            rest: Vec::new(),
            running: Default::default(),
            _connection: connection,
        })
    }

    /// When this many pods were Running.
    async fn running(&mut self, count: usize) -> Result<Instant> {
        while self.running.len() < count {
            let frame = self.body.frame().await.context("the watch ended")??;
            let now = Instant::now();
            let Ok(data) = frame.into_data() else { continue };
            self.rest.extend_from_slice(&data);
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line)?;
                let object = &event["object"];
                if object["status"]["phase"] == "Running" {
                    self.running.insert(object["metadata"]["name"].as_str().unwrap_or_default().to_owned());
                }
                if self.running.len() == count {
                    return Ok(now);
                }
            }
        }
        Ok(Instant::now())
    }
}

/// The server process and what it says.
struct Cluster {
    child: Child,
    lines: mpsc::UnboundedReceiver<(Instant, String)>,
}

impl Cluster {
    fn start(binary: &Path, root: &Path) -> Result<Self> {
        let log = std::fs::File::create(root.join("server.log"))?;
        let eviction = "--eviction-hard=memory.available<50Mi,nodefs.available<1%,imagefs.available<1%";
        let mut child = Command::new(binary)
            .args(["server", "--node-name", "node-1", eviction, "--root"])
            .arg(root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| binary.display().to_string())?;
        let (send, lines) = mpsc::unbounded_channel();
        let stdout = child.stdout.take().context("stdout is piped")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// When it said a line that begins like this.
    async fn said(&mut self, words: &str) -> Result<Instant> {
        loop {
            let line = timeout(LIMIT, self.lines.recv()).await.ok().flatten();
            let (when, line) = line.with_context(|| format!("the server did not say {words:?}"))?;
            if line.starts_with(words) {
                return Ok(when);
            }
        }
    }

    fn stop(&mut self) -> Result<()> {
        // Nothing is asked of how it stops: a new root directory is used each time.
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Makes the pods' image: busybox alone.
fn image(binary: &Path, root: &Path) -> Result<()> {
    let folder = root.join("image");
    std::fs::create_dir(&folder)?;
    std::fs::copy("/bin/busybox", folder.join("busybox")).context("busybox-static is not installed")?;
    let output = Command::new(binary)
        .args(["image", "--root"])
        .arg(root)
        .arg("build")
        .arg(&folder)
        .args(["--name", IMAGE])
        .output()
        .with_context(|| binary.display().to_string())?;
    if !output.status.success() {
        bail!("r8s image build: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
