//! One exec or attach, whatever carries it: bytes from the client to stdin, output to the client, resizes,
//! and at last a status.

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// The process's ends of a session. What was not asked for is None.
#[derive(Debug, Default)]
pub struct Stdio {
    pub stdin: Option<pipe::Sender>,
    pub stdout: Option<pipe::Receiver>,
    pub stderr: Option<pipe::Receiver>,
}

/// What can be done to the process.
pub trait Control: Send + Sync + 'static {
    fn resize(&self, rows: u16, cols: u16) -> BoxFuture<'_, ()>;
    /// The client has gone before the end.
    fn abandoned(&self) -> BoxFuture<'_, ()>;
}

/// A process to talk to.
pub struct Process {
    pub stdio: Stdio,
    pub control: Box<dyn Control>,
    /// The exit status once it has ended; `None` where nobody asks (attach: over when the outputs are).
    pub ended: BoxFuture<'static, Result<Option<i32>, String>>,
    /// The session is over when the client has no more input (attach to a container whose stdin stays open).
    pub until_eof: bool,
}

/// From the client.
#[derive(Debug, PartialEq, Eq)]
pub enum FromClient {
    Stdin(Bytes),
    CloseStdin,
    Resize { rows: u16, cols: u16 },
}

/// To the client.
#[derive(Debug, PartialEq, Eq)]
pub enum ToClient {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The last message.
    Status(Outcome),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Exit(i32),
    Failure(String),
}

impl Outcome {
    /// As a `Status` object, for protocol version 4 and later.
    pub fn status(&self) -> String {
        match self {
            Outcome::Success => json!({ "metadata": {}, "status": "Success" }),
            Outcome::Exit(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "reason": "NonZeroExitCode",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Outcome::Failure(text) => json!({
                "metadata": {},
                "status": "Failure",
                "message": text,
                "reason": "InternalError",
                "details": { "causes": [{ "message": text }] },
                "code": 500,
            }),
        }
        .to_string()
    }

    /// As bare text, for older protocols; nothing for success.
    pub fn text(&self) -> String {
        match self {
            Outcome::Success => String::new(),
            Outcome::Exit(code) => format!("command terminated with non-zero exit code: exit status {code}"),
            Outcome::Failure(text) => text.clone(),
        }
    }
}

/// Output of an ended process that its children still hold open is waited for this long.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Carries the session until the process ends and its output is through, or the client goes (`from` ends).
pub async fn run(process: Process, from: mpsc::Receiver<FromClient>, to: mpsc::Sender<ToClient>) {
    let Process { stdio: Stdio { stdin, stdout, stderr }, control, ended: mut end, until_eof } = process;
    let outputs = async {
        tokio::join!(pump(stdout, &to, ToClient::Stdout), pump(stderr, &to, ToClient::Stderr));
    };
    let input = listen(from, stdin, &*control, until_eof);
    tokio::pin!(outputs, input);
    let mut outputs_done = false;
    let mut ended = None;
    let deadline = tokio::time::sleep(DRAIN);
    tokio::pin!(deadline);
    while !(outputs_done && ended.is_some()) {
        tokio::select! {
            () = &mut outputs, if !outputs_done => outputs_done = true,
            outcome = &mut end, if ended.is_none() => {
                ended = Some(outcome);
                deadline.as_mut().reset(tokio::time::Instant::now() + DRAIN);
            }
            () = &mut deadline, if matches!(ended, Some(Ok(Some(_)))) => break,
            left = &mut input => match left {
                Left::Client => return control.abandoned().await,
                Left::Input => break,
            },
        }
    }
    let outcome = match ended {
        Some(Ok(None | Some(0))) | None => Outcome::Success,
        Some(Ok(Some(code))) => Outcome::Exit(code),
        Some(Err(text)) => Outcome::Failure(text),
    };
    let _ = to.send(ToClient::Status(outcome)).await;
}

/// Who has gone from a session.
enum Left {
    Client,
    Input,
}

/// Takes what the client says until it has gone. A process that does not read holds up only this.
async fn listen(
    mut from: mpsc::Receiver<FromClient>,
    mut stdin: Option<pipe::Sender>,
    control: &dyn Control,
    until_eof: bool,
) -> Left {
    while let Some(message) = from.recv().await {
        match message {
            FromClient::Stdin(bytes) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            FromClient::CloseStdin if until_eof => return Left::Input,
            FromClient::CloseStdin => stdin = None,
            FromClient::Resize { rows, cols } => control.resize(rows, cols).await,
        }
    }
    Left::Client
}

async fn pump(from: Option<pipe::Receiver>, to: &mpsc::Sender<ToClient>, wrap: fn(Bytes) -> ToClient) {
    let Some(mut from) = from else { return };
    let mut buffer = BytesMut::with_capacity(32 << 10);
    loop {
        buffer.reserve(16 << 10);
        match from.read_buf(&mut buffer).await {
            Ok(n) if n > 0 => {
                if to.send(wrap(buffer.split().freeze())).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoControl;

    impl Control for NoControl {
        fn resize(&self, _: u16, _: u16) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
        fn abandoned(&self) -> BoxFuture<'_, ()> {
            panic!("the client is there");
        }
    }

    #[tokio::test]
    async fn an_attached_client_without_more_input_is_let_go() {
        let (say, from) = mpsc::channel(4);
        let (to, mut told) = mpsc::channel(4);
        let process = Process {
            stdio: Stdio::default(),
            control: Box::new(NoControl),
            ended: Box::pin(std::future::pending()),
            until_eof: true,
        };
        let running = tokio::spawn(run(process, from, to));
        say.send(FromClient::CloseStdin).await.unwrap();
        assert_eq!(told.recv().await, Some(ToClient::Status(Outcome::Success)));
        running.await.unwrap();
    }
}
