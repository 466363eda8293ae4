//! A whole cluster: the real binary on a [`Host`].

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Host;

/// How long a server may take to say that it is ready (debug builds on a busy machine).
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What a [`Cluster`] is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further flags of `r8s server`.
    pub flags: Vec<String>,
}

/// A running cluster. Dropping it kills the server and everything it left running, and removes its files.
pub struct Cluster {
    binary: PathBuf,
    options: Options,
    host: Host,
    root: TempDir,
    server: Option<Child>,
}

impl Cluster {
    /// Starts `binary server` (tests of the binary's crate know it as `env!("CARGO_BIN_EXE_r8s")`) and waits until it
    /// says that it is ready.
    pub fn start(binary: &str, options: Options) -> Result<Self> {
        Self::start_on(Host::new()?, binary, options)
    }

    /// The same on a host that is there.
    pub fn start_on(host: Host, binary: &str, options: Options) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("r8s-test-").tempdir()?;
        let mut cluster = Self { binary: PathBuf::from(binary), options, host, root, server: None };
        cluster.start_server()?;
        Ok(cluster)
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.root().join("etc/r8s/admin.kubeconfig")
    }

    /// What the server printed to standard error so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root().join("server.log")).unwrap_or_default()
    }

    /// A command of the r8s binary on this host.
    pub fn r8s(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(&self.binary.display().to_string());
        command.args(arguments);
        command
    }

    /// Runs kubectl (the host's own where installed) as the admin.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.r8s(&["kubectl"]);
        command.args(arguments).env("KUBECONFIG", self.kubeconfig());
        command.output().context("kubectl")
    }

    /// Standard output of a kubectl that must succeed.
    pub fn kubectl_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl(arguments)?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kubectl apply` of a manifest text.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let file = self.root().join("manifest.yaml");
        std::fs::write(&file, manifest)?;
        self.kubectl_ok(&["apply", "--server-side", "-f", &file.display().to_string()])
    }

    /// SIGKILL, as a crash would be.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the exit; containers keep running.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if let Some(pid) = Pid::from_raw(server.id().cast_signed()) {
            kill_process(pid, Signal::TERM)?;
        }
        let status = crate::wait_for("the server to stop", STOP_LIMIT, || match server.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("still running".into()),
            Err(error) => Err(error.to_string()),
        });
        if !status.success() {
            bail!("the server stopped with {status}: {}", self.log());
        }
        Ok(())
    }

    /// Starts the server again after [`Cluster::kill`] or [`Cluster::stop`].
    pub fn start_server(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.root().join("server.log"))?;
        let root = self.root().display().to_string();
        // A developer's nearly full disk is no reason to evict the tests' pods.
        let eviction = "--eviction-hard=memory.available<50Mi,nodefs.available<1%,imagefs.available<1%";
        let mut command = self.r8s(&["server", "--root", &root, "--node-name", "node-1", eviction]);
        command.args(&self.options.flags).stdout(Stdio::piped()).stderr(log);
        let mut server = command.spawn().context("cannot start the server")?;
        let stdout = server.stdout.take().context("stdout was piped")?;
        self.server = Some(server);
        let (send, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.starts_with("ready in ") {
                    let _ = send.send(());
                }
            }
        });
        // The channel closes when the server ends before it is ready.
        match ready.recv_timeout(START_LIMIT) {
            Ok(()) => Ok(()),
            Err(why) => bail!("the server is not ready ({why}): {}", self.log()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.kill();
        let root = self.root().display().to_string();
        // Pods outlive the server by design: `reset` ends those of this root directory.
        match self.r8s(&["reset", "--root", &root, "--yes"]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("{root} is not left clean: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("{root} is not left clean: {error}"),
        }
    }
}
