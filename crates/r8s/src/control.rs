//! The control socket: how commands on this host reach the running server (`run/r8s/control.sock`, root only).
//! One JSON request a connection, one JSON answer.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Stream;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::images;

/// Requests are small; a longer one is refused.
const LONGEST: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
enum Answer {
    Ok(Vec<images::Image>),
    Error(String),
}

/// Asks the running server.
pub fn ask(socket: &Path, request: &images::Request) -> Result<Vec<images::Image>> {
    let mut stream = Stream::connect(socket).with_context(|| format!("cannot reach {}", socket.display()))?;
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match serde_json::from_slice(&answer).context("the server stopped in the middle of its answer")? {
        Answer::Ok(images) => Ok(images),
        Answer::Error(text) => Err(anyhow!(text)),
    }
}

/// Opens the socket, in place of what a dead server left.
pub fn open(socket: &Path) -> Result<UnixListener> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot open {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until shutdown.
pub async fn serve(listener: UnixListener, runtime: runtime::Runtime, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let runtime = runtime.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(stream, runtime).await {
                tracing::debug!(%error, "control connection");
            }
        });
    }
}

async fn converse(mut stream: UnixStream, runtime: runtime::Runtime) -> Result<()> {
    let mut request = Vec::new();
    (&mut stream).take(LONGEST).read_to_end(&mut request).await?;
    let request: images::Request = serde_json::from_slice(&request)?;
    let answer = match images::perform_with(&runtime, request).await {
        Ok(images) => Answer::Ok(images),
        Err(error) => Answer::Error(format!("{error:#}")),
    };
    stream.write_all(&serde_json::to_vec(&answer)?).await?;
    Ok(())
}
