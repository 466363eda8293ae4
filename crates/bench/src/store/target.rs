//! What is measured: an etcd, our server of its API, our engine in this process. Each is a [`Store`].

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::store::{Store, embedded, etcd};
use anyhow::{Context, Result, bail};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Etcd,
    Face,
    InProcess,
}

pub const KINDS: [Kind; 3] = [Kind::Etcd, Kind::Face, Kind::InProcess];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Etcd => "etcd",
            Self::Face => "r8s-etcd",
            Self::InProcess => "in-process",
        })
    }
}

/// A running store, ended when dropped.
pub struct Target {
    kind: Kind,
    dir: PathBuf,
    process: Option<Child>,
    address: String,
    engine: Option<Arc<dyn Store>>,
}

impl Target {
    /// Starts a store in a directory, as it is found there; returns once it answers.
    pub async fn start(kind: Kind, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("http://127.0.0.1:{port}");
        let mut target = Self { kind, dir: dir.to_owned(), process: None, address, engine: None };
        let data = dir.join("data");
        match kind {
            Kind::InProcess => target.engine = Some(embedded::open(&data, embedded::Options::default())?),
            Kind::Etcd => {
                let peer = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                let peer = format!("http://127.0.0.1:{peer}");
                let mut command = Command::new("etcd");
                command
                    .arg("--data-dir")
                    .arg(&data)
                    .args(["--quota-backend-bytes=8589934592", "--log-level=error"]);
                command.args([
                    "--listen-client-urls",
                    &target.address,
                    "--advertise-client-urls",
                    &target.address,
                ]);
                command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
                command.args(["--initial-cluster", &format!("default={peer}"), "--logger=zap"]);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                target.process = Some(command.spawn().context("cannot run etcd: is it installed?")?);
            }
            Kind::Face => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["store", "--serve"]).arg(&data).env("BENCH_PORT", port.to_string());
                target.process = Some(command.spawn()?);
            }
        }
        let start = Instant::now();
        while target.engine.is_none()
            && std::net::TcpStream::connect(target.address.trim_start_matches("http://")).is_err()
        {
            if start.elapsed() > Duration::from_secs(60) {
                bail!("{kind} does not start");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        target.connect().await?.status().await?;
        Ok(target)
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<Arc<dyn Store>> {
        match &self.engine {
            Some(engine) => Ok(engine.clone()),
            None => {
                let config = etcd::Config {
                    request_timeout: Duration::from_secs(60),
                    retry_for: Duration::from_secs(60),
                    ..etcd::Config::new([&self.address])
                };
                Ok(etcd::connect(config).await?)
            }
        }
    }

    /// Where it is served; the engine in this process is not.
    pub fn address(&self) -> Option<&str> {
        self.engine.is_none().then_some(&self.address)
    }

    /// Resident memory, and of this what is not file pages, in MB.
    pub fn memory(&self) -> Option<(f64, f64)> {
        let pid = self.process.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1024.0)
        };
        Some((field("VmRSS:")?, field("RssAnon:")?))
    }

    /// Kills it and starts it again on what it left; how long it took to answer.
    pub async fn crash_and_open(self) -> Result<(Self, Duration)> {
        let (kind, dir) = (self.kind, self.dir.clone());
        drop(self);
        let start = Instant::now();
        let target = Self::start(kind, &dir).await?;
        Ok((target, start.elapsed()))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The process behind [`Kind::Face`].
pub async fn serve(dir: &Path) -> Result<()> {
    let port: u16 = std::env::var("BENCH_PORT")?.parse()?;
    let store = embedded::open(dir, embedded::Options::default())?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    ::store::face::serve(listener, None, store, ::store::face::Options::default(), CancellationToken::new())
        .await?;
    Ok(())
}
