//! SPDY/3.1, which kubectl and older clients speak for exec and attach, and for port-forward also inside a
//! WebSocket (KEP-4006).
//!
//! A stream says what it is for in its headers: `streamtype` stdin, stdout, stderr, error or resize; for
//! port-forward `data` and `error` with `port` and `requestid`.

mod dictionary;
mod frame;

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::portforward::Target;
use super::session::{FromClient, Outcome, Process, ToClient, run};
use frame::{Frame, Reader, Writer};

/// Versions of the exec protocol, best first.
const EXEC: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// The WebSocket subprotocol that carries SPDY for port-forward.
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// The version for exec and attach from those a client offers.
pub fn choose<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    let offered: Vec<&str> =
        offered.into_iter().flat_map(|header| header.split(',')).map(str::trim).collect();
    EXEC.into_iter().find(|version| offered.contains(version))
}

/// The connection's reading side: frames as they come, pings answered.
struct Incoming<R> {
    io: R,
    buffer: BytesMut,
    reader: Reader,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// `None`: the connection has ended or is beyond repair.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.reader.next(&mut self.buffer) {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "a SPDY connection is given up");
                    return None;
                }
            }
            self.buffer.reserve(16 << 10);
            match self.io.read_buf(&mut self.buffer).await {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
        }
    }
}

fn split<S>(io: S) -> (Incoming<tokio::io::ReadHalf<S>>, mpsc::Sender<Bytes>, tokio::task::JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, mut write) = tokio::io::split(io);
    let (say, mut frames) = mpsc::channel::<Bytes>(32);
    let writing = tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            if write.write_all(&frame).await.is_err() {
                return;
            }
        }
        let _ = write.flush().await;
        let _ = write.shutdown().await;
    });
    (Incoming { io: read, buffer: BytesMut::new(), reader: Reader::new() }, say, writing)
}

/// Serves exec or attach.
pub async fn serve<S>(io: S, version: &str, process: Result<Process, String>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut incoming, say, writing) = split(io);
    let mut writer = Writer::new();
    let (from_say, from) = mpsc::channel(16);
    let (to, mut outgoing) = mpsc::channel(16);
    let running = tokio::spawn(async move {
        match process {
            Ok(process) => run(process, from, to).await,
            Err(text) => drop(to.send(ToClient::Status(Outcome::Failure(text))).await),
        }
    });
    let mut streams: HashMap<u32, String> = HashMap::new();
    let mut resizes = Vec::new();
    // Output waits for its stream: clients open them one after another.
    let mut held: Vec<ToClient> = Vec::new();
    let mut from_say = Some(from_say);
    let mut last = 0;
    loop {
        let stream_of = |kind: &str| streams.iter().find(|(_, have)| *have == kind).map(|(id, _)| *id);
        tokio::select! {
            frame = incoming.next() => match frame {
                Some(Frame::Open { stream, headers, .. }) => {
                    last = last.max(stream);
                    streams.insert(stream, headers.get("streamtype").cloned().unwrap_or_default());
                    let _ = say.send(writer.reply(stream)).await;
                    let waiting = std::mem::take(&mut held);
                    let mut over = false;
                    for message in waiting {
                        over |= pass_on(message, version, &streams, &say, &mut held).await;
                    }
                    if over {
                        break;
                    }
                }
                Some(Frame::Data { stream, bytes, fin }) => {
                    let Some(from_client) = &from_say else { continue };
                    match streams.get(&stream).map(String::as_str) {
                        Some("stdin") => {
                            if !bytes.is_empty() {
                                let _ = from_client.send(FromClient::Stdin(bytes)).await;
                            }
                            if fin {
                                let _ = from_client.send(FromClient::CloseStdin).await;
                            }
                        }
                        Some("resize") => {
                            resizes.extend_from_slice(&bytes);
                            for message in take_sizes(&mut resizes) {
                                let _ = from_client.send(message).await;
                            }
                        }
                        _ => {}
                    }
                }
                Some(Frame::Reset { stream }) => {
                    if stream_of("stdin") == Some(stream) && let Some(from_client) = &from_say {
                        let _ = from_client.send(FromClient::CloseStdin).await;
                    }
                }
                Some(Frame::Ping { id }) => drop(say.send(frame::ping(id)).await),
                Some(Frame::Other) => {}
                Some(Frame::GoAway) | None => {
                    // The client has gone.
                    from_say = None;
                    break;
                }
            },
            message = outgoing.recv() => match message {
                Some(message) => if pass_on(message, version, &streams, &say, &mut held).await {
                    break;
                },
                None => break,
            },
        }
    }
    drop(from_say);
    let _ = say.send(frame::go_away(last)).await;
    drop((say, outgoing));
    let _ = writing.await;
    let _ = running.await;
}

/// Sends a message on its stream, or holds it until the client has opened that. True: it was the last.
async fn pass_on(
    message: ToClient,
    version: &str,
    streams: &HashMap<u32, String>,
    say: &mpsc::Sender<Bytes>,
    held: &mut Vec<ToClient>,
) -> bool {
    let kind = match &message {
        ToClient::Stdout(_) => "stdout",
        ToClient::Stderr(_) => "stderr",
        ToClient::Status(_) => "error",
    };
    let Some(stream) = streams.iter().find(|(_, have)| *have == kind).map(|(id, _)| *id) else {
        held.push(message);
        return false;
    };
    match message {
        ToClient::Stdout(bytes) | ToClient::Stderr(bytes) => {
            let _ = say.send(frame::data(stream, &bytes, false)).await;
            false
        }
        ToClient::Status(outcome) => {
            let text = if version == EXEC[0] { outcome.status() } else { outcome.text() };
            for (other, kind) in streams {
                if matches!(kind.as_str(), "stdout" | "stderr") {
                    let _ = say.send(frame::data(*other, b"", true)).await;
                }
            }
            let _ = say.send(frame::data(stream, text.as_bytes(), true)).await;
            true
        }
    }
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", alias = "width")]
    width: u16,
    #[serde(rename = "Height", alias = "height")]
    height: u16,
}

/// JSON objects one after another; what is not whole yet stays.
fn take_sizes(bytes: &mut Vec<u8>) -> Vec<FromClient> {
    let mut found = Vec::new();
    let mut objects = serde_json::Deserializer::from_slice(bytes).into_iter::<Size>();
    let mut taken = 0;
    let mut broken = false;
    loop {
        match objects.next() {
            Some(Ok(size)) => {
                taken = objects.byte_offset();
                found.push(FromClient::Resize { rows: size.height, cols: size.width });
            }
            Some(Err(error)) if !error.is_eof() => {
                broken = true;
                break;
            }
            _ => break,
        }
    }
    if broken || bytes.len() - taken > 1024 {
        bytes.clear();
    } else {
        bytes.drain(..taken);
    }
    found
}

/// Serves port-forward: each pair of streams with one `requestid` is a connection.
pub async fn port_forward<S>(io: S, target: Target)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut incoming, say, writing) = split(io);
    let mut writer = Writer::new();
    // By request id, the error stream; by data stream, where its bytes go.
    let mut errors: HashMap<String, u32> = HashMap::new();
    let mut inputs: HashMap<u32, mpsc::Sender<Option<Bytes>>> = HashMap::new();
    let mut last = 0;
    while let Some(frame) = incoming.next().await {
        match frame {
            Frame::Open { stream, headers, .. } => {
                last = last.max(stream);
                let _ = say.send(writer.reply(stream)).await;
                let text = |name: &str| headers.get(name).cloned().unwrap_or_default();
                let request = text("requestid");
                match text("streamtype").as_str() {
                    "error" => drop(errors.insert(request, stream)),
                    "data" => {
                        let error = errors.remove(&request);
                        let (input, from_client) = mpsc::channel(16);
                        inputs.insert(stream, input);
                        let port = text("port").parse::<u16>();
                        let (target, say) = (target.clone(), say.clone());
                        tokio::spawn(async move {
                            let outcome = match port {
                                Ok(port) => carry(&target, port, stream, from_client, &say).await,
                                Err(_) => Err("invalid port".to_owned()),
                            };
                            let _ = say.send(frame::data(stream, b"", true)).await;
                            if let Some(error) = error {
                                let text = outcome.err().unwrap_or_default();
                                let _ = say.send(frame::data(error, text.as_bytes(), true)).await;
                            }
                        });
                    }
                    _ => {}
                }
            }
            Frame::Data { stream, bytes, fin } => {
                if let Some(input) = inputs.get(&stream) {
                    if !bytes.is_empty() {
                        let _ = input.send(Some(bytes)).await;
                    }
                    if fin {
                        let _ = input.send(None).await;
                    }
                }
            }
            Frame::Reset { stream } => drop(inputs.remove(&stream)),
            Frame::Ping { id } => drop(say.send(frame::ping(id)).await),
            Frame::GoAway => break,
            Frame::Other => {}
        }
        inputs.retain(|_, input| !input.is_closed());
    }
    drop(inputs);
    let _ = say.send(frame::go_away(last)).await;
    drop(say);
    let _ = writing.await;
}

/// One forwarded connection, until the pod closes it or the client's stream is gone. `None` from the client:
/// it has no more to say.
async fn carry(
    target: &Target,
    port: u16,
    stream: u32,
    mut from_client: mpsc::Receiver<Option<Bytes>>,
    say: &mpsc::Sender<Bytes>,
) -> Result<(), String> {
    let connection =
        target.connect(port).await.map_err(|text| format!("error forwarding port {port} to pod: {text}"))?;
    let (mut read, mut write) = connection.into_split();
    let upload = async {
        while let Some(bytes) = from_client.recv().await {
            match bytes {
                Some(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                None => drop(write.shutdown().await),
            }
        }
    };
    let download = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n) = read.read(&mut buffer).await {
            if n == 0 || say.send(frame::data(stream, &buffer[..n], false)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = upload => {}, () = download => {} }
    Ok(())
}

/// SPDY inside the binary messages of a WebSocket.
pub async fn tunnelled_port_forward<S>(io: S, target: Target)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = super::websocket::socket(io).await.split();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(port_forward(theirs, target));
    let (mut read, mut write) = tokio::io::split(ours);
    let upload = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => match write.write_all(&bytes).await {
                    Ok(()) => {}
                    Err(_) => break,
                },
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    let download = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n) = read.read(&mut buffer).await {
            if n == 0 || sink.send(Message::binary(buffer[..n].to_vec())).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    };
    tokio::select! { () = upload => {}, () = download => {} }
    drop((read, write));
    let _ = serving.await;
}

#[cfg(test)]
mod tests;
