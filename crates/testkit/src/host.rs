//! A network namespace that looks like a machine.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

/// The address of the only network card of a [`Host`].
pub const ADDRESS: &str = "192.0.2.10";

/// A network namespace with loopback and one card that leads nowhere; gone when dropped.
pub struct Host {
    name: String,
}

impl Host {
    pub fn new() -> Result<Self> {
        let host = Self::offline()?;
        // A veth pair with both ends here: a card that is up, without a way out (there is no dummy driver everywhere).
        host.sh(&format!(
            "ip link set lo up && ip link add eth0 type veth peer name eth0-far && ip link set eth0-far up && \
             ip addr add {ADDRESS}/24 dev eth0 && ip link set eth0 up && ip route add default dev eth0"
        ))?;
        Ok(host)
    }

    /// A machine that has no network at all.
    pub fn offline() -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("r8s-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name])?;
        Ok(Self { name })
    }

    /// Runs a line of shell on this host.
    pub fn sh(&self, line: &str) -> Result<()> {
        let status = self.command("sh").args(["-c", line]).status().context("nsenter")?;
        if !status.success() {
            bail!("in the network namespace {}: {line}: {status}", self.name);
        }
        Ok(())
    }

    /// A command that will run on this host: its network, everybody's files.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace().display())).arg("--").arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Where the namespace is pinned.
    pub fn namespace(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "delete", &self.name]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
