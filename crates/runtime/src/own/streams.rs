//! Exec, attach and port-forward by URL: what runs behind the streaming server's tokens.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::exec::{Running, input_pipe, output_pipe};
use super::lifecycle::{Inner, new_id};
use super::state::Container;
use crate::cri::v1::{self, NamespaceMode};
use crate::cri::{self, Code, Error};
use crate::image::chain;
use crate::streaming::{Control, Process, Request, Stdio, Target};

/// The ends of a process's stdio: ours, and the process's in the order the shim takes them.
struct Ends {
    ours: Stdio,
    theirs: Vec<OwnedFd>,
}

fn ends(stdin: bool, stderr: bool) -> std::io::Result<Ends> {
    let mut ends = Ends { ours: Stdio::default(), theirs: Vec::new() };
    if stdin {
        let (ours, theirs) = input_pipe()?;
        ends.ours.stdin = Some(ours);
        ends.theirs.push(theirs);
    }
    let (ours, theirs) = output_pipe()?;
    ends.ours.stdout = Some(ours);
    ends.theirs.push(theirs);
    if stderr {
        let (ours, theirs) = output_pipe()?;
        ends.ours.stderr = Some(ours);
        ends.theirs.push(theirs);
    }
    Ok(ends)
}

struct ExecControl {
    running: Running,
    tty: bool,
}

impl Control for ExecControl {
    fn resize(&self, rows: u16, cols: u16) -> BoxFuture<'_, ()> {
        Box::pin(self.running.resize(rows, cols))
    }
    fn abandoned(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // A terminal hangs up; without one the closed pipes tell.
            if self.tty {
                self.running.signal(1).await;
            }
        })
    }
}

struct AttachControl {
    inner: Arc<Inner>,
    container: Arc<Container>,
}

impl Control for AttachControl {
    fn resize(&self, rows: u16, cols: u16) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _ = self.inner.shim(&self.container.sandbox_id).resize(&self.container.id, rows, cols).await;
        })
    }
    fn abandoned(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Inner {
    fn offer(&self, kind: &str, request: Request) -> cri::Result<String> {
        let offered = self.streaming.offer(kind, new_id()?, request);
        offered.ok_or_else(|| {
            Error::new(Code::ResourceExhausted, "maximum number of in-flight requests exceeded")
        })
    }

    pub fn exec_url(self: &Arc<Self>, request: v1::ExecRequest) -> cri::Result<String> {
        let container = self.running_container(&request.container_id)?;
        if request.tty && request.stderr {
            return Err(Error::invalid("tty and stderr cannot both be true"));
        }
        if !(request.stdin || request.stdout || request.stderr) {
            return Err(Error::invalid("one of stdin, stdout, or stderr must be set"));
        }
        let inner = Arc::clone(self);
        let begin = move || -> BoxFuture<'static, Result<Process, String>> {
            Box::pin(async move {
                let ends = ends(request.stdin, !request.tty).map_err(|error| error.to_string())?;
                let begun =
                    inner.begin_exec(&container, &request.cmd, request.tty, request.stdin, ends.theirs).await;
                let (running, end) = begun.map_err(|error| error.to_string())?;
                let control = Box::new(ExecControl { running, tty: request.tty });
                let ended = Box::pin(async { end.wait().await.map(Some).map_err(|error| error.message) });
                Ok(Process { stdio: ends.ours, control, ended, until_eof: false })
            })
        };
        self.offer("exec", Request::Process(Box::new(begin)))
    }

    pub fn attach_url(self: &Arc<Self>, request: v1::AttachRequest) -> cri::Result<String> {
        let container = self.running_container(&request.container_id)?;
        if !(request.stdin || request.stdout || request.stderr) {
            return Err(Error::invalid("one of stdin, stdout, or stderr must be set"));
        }
        let inner = Arc::clone(self);
        let begin = move || -> BoxFuture<'static, Result<Process, String>> {
            Box::pin(async move {
                let stdin = request.stdin && container.config.stdin;
                let stderr = !container.config.tty;
                let ends = ends(stdin, stderr).map_err(|error| error.to_string())?;
                let flags =
                    [("i", stdin), ("e", stderr)].into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag);
                let flags: String = flags.collect();
                let shim = inner.shim(&container.sandbox_id);
                shim.attach(&container.id, &flags, &ends.theirs).await.map_err(|error| chain(&error))?;
                // with `stdinOnce` the container's own input ends, and its output is waited for
                let until_eof = stdin && !(container.config.stdin_once && !container.config.tty);
                let control = Box::new(AttachControl { inner, container });
                let ended = Box::pin(std::future::ready(Ok(None)));
                Ok(Process { stdio: ends.ours, control, ended, until_eof })
            })
        };
        self.offer("attach", Request::Process(Box::new(begin)))
    }

    pub fn port_forward_url(&self, request: &v1::PortForwardRequest) -> cri::Result<String> {
        let sandbox = self.ready_sandbox(&request.pod_sandbox_id)?;
        let own = sandbox.namespace_options().network() != NamespaceMode::Node;
        let target = Target { sandbox: sandbox.id.clone(), netns: own.then(|| sandbox.netns()) };
        let ports = request.port.iter().filter_map(|port| u16::try_from(*port).ok()).collect();
        self.offer("portforward", Request::PortForward { target, ports })
    }
}
