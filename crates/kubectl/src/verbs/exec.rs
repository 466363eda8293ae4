//! `kubectl exec`, over WebSockets.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, TerminalSize};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};

use super::Session;
use super::logs::{default_container, pod_of};
use crate::error::{Error, Result};

#[derive(clap::Args)]
pub struct Arguments {
    /// POD or TYPE/NAME
    name: String,
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Standard input is a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// The command, behind --
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let pod = pod_of(session, &arguments.name).await?;
    let container = match arguments.container {
        Some(container) => container,
        None => default_container(session, &pod).await?,
    };
    let stdin = rustix::stdio::stdin();
    let tty = arguments.tty && isatty(stdin);
    if arguments.tty && !tty {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let raw = if tty { Raw::enter() } else { None };
    let parameters = AttachParams::default()
        .container(container)
        .stdin(arguments.stdin)
        .stdout(true)
        .stderr(!tty)
        .tty(tty);
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let mut process = pods.exec(&pod, &arguments.command, &parameters).await?;
    let status = process.take_status();

    if let Some(mut input) = process.stdin() {
        tokio::spawn(async move {
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
            let _ = input.shutdown().await;
        });
    }
    if let Some(mut sizes) = process.terminal_size() {
        let mut changes = signal(SignalKind::window_change())?;
        tokio::spawn(async move {
            use futures_util::SinkExt;
            loop {
                if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
                    let size = TerminalSize { height: size.ws_row, width: size.ws_col };
                    if sizes.send(size).await.is_err() {
                        return;
                    }
                }
                if changes.recv().await.is_none() {
                    return;
                }
            }
        });
    }
    let (mut out, mut err) = (process.stdout(), process.stderr());
    let copy_out = async {
        if let Some(from) = &mut out {
            let mut to = tokio::io::stdout();
            let _ = tokio::io::copy(from, &mut to).await;
            let _ = to.flush().await;
        }
    };
    let copy_err = async {
        if let Some(from) = &mut err {
            let mut to = tokio::io::stderr();
            let _ = tokio::io::copy(from, &mut to).await;
            let _ = to.flush().await;
        }
    };
    tokio::join!(copy_out, copy_err);
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    drop(raw);
    let Some(status) = status else { return Ok(0) };
    if status.status.as_deref() != Some("Failure") {
        return Ok(0);
    }
    let causes = status.details.and_then(|d| d.causes).unwrap_or_default();
    let exit =
        causes.iter().find(|c| c.reason.as_deref() == Some("ExitCode")).and_then(|c| c.message.as_deref());
    match exit.and_then(|code| code.parse::<u8>().ok()) {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Ok(code)
        }
        None => Err(Error::Usage(status.message.unwrap_or_else(|| "the command failed".into()))),
    }
}

/// The terminal in raw mode; as it was before when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}
