//! Commands in running containers.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::lifecycle::{Inner, new_id};
use super::state::{Container, Phase, lock};
use crate::cri::{self, Code, Error, v1};
use crate::image::chain;
use crate::shim::Exit;

/// More output of one ExecSync than this is cut, as containerd does.
const MAX_OUTPUT: u64 = 16 << 20;
/// How long output is waited for that a command's own children still hold open.
const DRAIN: Duration = Duration::from_secs(2);

/// A command that runs in a container.
pub struct Running {
    inner: Arc<Inner>,
    sandbox_id: String,
    id: String,
}

/// The end of a command, to be waited for.
pub struct End(oneshot::Receiver<Exit>);

impl End {
    /// The exit status, or 128 and the signal.
    pub async fn wait(self) -> cri::Result<i32> {
        let gone = |_| Error::new(Code::Unavailable, "the container's shim has gone");
        self.0.await.map(|exit| exit.code).map_err(gone)
    }
}

impl Running {
    pub async fn kill(&self) {
        self.signal(9).await;
    }

    pub async fn signal(&self, signal: i32) {
        let _ = self.inner.shim(&self.sandbox_id).signal(&self.id, signal).await;
    }

    pub async fn resize(&self, rows: u16, cols: u16) {
        let _ = self.inner.shim(&self.sandbox_id).resize(&self.id, rows, cols).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.inner.execs).remove(&self.id);
    }
}

impl Inner {
    pub fn running_container(&self, id: &str) -> cri::Result<Arc<Container>> {
        let container = self.container(id)?;
        let phase = container.state().phase;
        match phase {
            Phase::Running => Ok(container),
            other => {
                let state = super::container::phase_of(other).as_str_name();
                Err(Error::unknown(format!("container is in {state} state")))
            }
        }
    }

    /// Starts `command` in the container. `fds` are its stdin (if `stdin`), stdout and (without `tty`)
    /// stderr; with a terminal they are what the shim copies from and to.
    pub async fn begin_exec(
        self: &Arc<Self>,
        container: &Container,
        command: &[String],
        tty: bool,
        stdin: bool,
        fds: Vec<OwnedFd>,
    ) -> cri::Result<(Running, End)> {
        let failed = |error: io::Error| Error::unknown(format!("failed to exec in container: {error}"));
        let id = format!("exec-{}", &new_id()?[..16]);
        let process = container.run.join(format!("{id}.json"));
        let text = std::fs::read(container.run.join("config.json")).map_err(failed)?;
        let mut oci: Value =
            serde_json::from_slice(&text).map_err(|error| Error::internal(error.to_string()))?;
        let mut own = oci["process"].take();
        own["args"] = json!(command);
        own["terminal"] = json!(tty);
        if tty
            && let Some(env) = own["env"].as_array_mut()
            && !env.iter().any(|entry| entry.as_str().is_some_and(|entry| entry.starts_with("TERM=")))
        {
            env.push(json!("TERM=xterm"));
        }
        let (pid, cgroup) = {
            let state = container.state();
            (state.pid, state.cgroup.clone())
        };
        let entry = json!({ "process": own, "pid": pid, "container": container.id, "cgroup": cgroup });
        std::fs::write(&process, entry.to_string()).map_err(failed)?;
        let console = match tty {
            true => self.sandbox_run(&container.sandbox_id).join(format!("{id}.console")),
            false => PathBuf::new(),
        };
        let argv = self.helper_command("exec", &container.id, &process, &console);
        let flags = match (tty, stdin) {
            (true, true) => "ti",
            (true, false) => "t",
            (false, true) => "i",
            (false, false) => "",
        };
        let (say_ended, ended) = oneshot::channel();
        lock(&self.execs).insert(id.clone(), say_ended);
        let running =
            Running { inner: Arc::clone(self), sandbox_id: container.sandbox_id.clone(), id: id.clone() };
        let started = self.shim(&container.sandbox_id).run(&id, false, "", flags, &argv, &fds).await;
        let _ = std::fs::remove_file(&process);
        match started {
            Ok(_) => Ok((running, End(ended))),
            Err(error) => Err(Error::unknown(format!(
                "failed to exec in container: failed to start exec {id:?}: OCI runtime exec failed: {}",
                chain(&error)
            ))),
        }
    }

    pub async fn exec_sync(
        self: &Arc<Self>,
        request: v1::ExecSyncRequest,
    ) -> cri::Result<v1::ExecSyncResponse> {
        let container = self.running_container(&request.container_id)?;
        let failed = |error: io::Error| Error::unknown(format!("failed to exec in container: {error}"));
        let (out, say_out) = output_pipe().map_err(failed)?;
        let (err, say_err) = output_pipe().map_err(failed)?;
        let (running, end) =
            self.begin_exec(&container, &request.cmd, false, false, vec![say_out, say_err]).await?;
        let out = tokio::spawn(collect(out));
        let err = tokio::spawn(collect(err));
        let code = match u64::try_from(request.timeout) {
            Ok(seconds) if seconds > 0 => {
                match tokio::time::timeout(Duration::from_secs(seconds), end.wait()).await {
                    Ok(code) => code?,
                    Err(_) => {
                        running.kill().await;
                        let text = format!(
                            "failed to exec in container: timeout {seconds}s exceeded: context deadline exceeded"
                        );
                        return Err(Error::new(Code::DeadlineExceeded, text));
                    }
                }
            }
            _ => end.wait().await?,
        };
        let drained = |task: tokio::task::JoinHandle<(Vec<u8>, Vec<u8>)>| async move {
            task.await.unwrap_or_default().0
        };
        let abort = [out.abort_handle(), err.abort_handle()];
        let both = tokio::time::timeout(DRAIN, async { (drained(out).await, drained(err).await) }).await;
        let (stdout, stderr) = both.unwrap_or_else(|_| {
            abort.iter().for_each(tokio::task::AbortHandle::abort);
            Default::default()
        });
        Ok(v1::ExecSyncResponse { stdout, stderr, exit_code: code })
    }
}

/// A pipe to read a command's output from, and its end for the command.
pub fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = io::pipe()?;
    let read = OwnedFd::from(read);
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, OwnedFd::from(write)))
}

/// A pipe to write a command's input to, and its end for the command.
pub fn input_pipe() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (read, write) = io::pipe()?;
    let write = OwnedFd::from(write);
    rustix::io::ioctl_fionbio(&write, true)?;
    Ok((pipe::Sender::from_owned_fd(write)?, OwnedFd::from(read)))
}

/// All output up to the limit; the rest is read and dropped so that the command is not held up.
async fn collect(mut from: pipe::Receiver) -> (Vec<u8>, Vec<u8>) {
    let mut kept = Vec::new();
    let _ = (&mut from).take(MAX_OUTPUT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    (kept, Vec::new())
}
