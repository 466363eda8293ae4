//! WebSocket with Kubernetes' channel protocols: each message begins with its channel's number.
//!
//! `v5.channel.k8s.io` (KEP-4006), `v4.channel.k8s.io`, their base64 variants and the unversioned ones.
//! Channels of exec and attach: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize; in v5 also 255 to close one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, handshake};

use super::session::{FromClient, Process, ToClient, run};

/// What was agreed on in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    base64: bool,
    /// Errors are `Status` objects (v4 on).
    status: bool,
    /// Channels can be closed (v5).
    close: bool,
}

const fn protocol(name: &'static str, base64: bool, status: bool, close: bool) -> Protocol {
    Protocol { name, base64, status, close }
}

/// Best first.
const PROTOCOLS: [Protocol; 5] = [
    protocol("v5.channel.k8s.io", false, true, true),
    protocol("v4.channel.k8s.io", false, true, false),
    protocol("v4.base64.channel.k8s.io", true, true, false),
    protocol("channel.k8s.io", false, false, false),
    protocol("base64.channel.k8s.io", true, false, false),
];
const NONE: Protocol = protocol("", false, false, false);

/// The first of the client's protocols that is known; a client that names none gets the oldest.
pub fn choose<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Protocol> {
    let mut any = false;
    for name in offered
        .into_iter()
        .flat_map(|header| header.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        any = true;
        if let Some(protocol) = PROTOCOLS.iter().find(|protocol| protocol.name == name) {
            return Some(*protocol);
        }
    }
    (!any).then_some(NONE)
}

/// The `Sec-WebSocket-Accept` of a `Sec-WebSocket-Key`.
pub fn accept_key(key: &[u8]) -> String {
    handshake::derive_accept_key(key)
}

pub async fn socket<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    WebSocketStream::from_raw_socket(io, Role::Server, None).await
}

impl Protocol {
    /// A message with its channel.
    pub fn encode(self, channel: u8, payload: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::with_capacity(payload.len() * 4 / 3 + 5);
            text.push(char::from(b'0' + channel));
            STANDARD.encode_string(payload, &mut text);
            return Message::text(text);
        }
        let mut bytes = BytesMut::with_capacity(payload.len() + 1);
        bytes.put_u8(channel);
        bytes.put_slice(payload);
        Message::binary(bytes.freeze())
    }

    /// Channel and bytes; `None` for what is not a channel's message.
    pub fn decode(self, message: Message) -> Option<(u8, Bytes)> {
        match message {
            Message::Text(text) if self.base64 => {
                let channel = text.as_bytes().first()?.checked_sub(b'0')?;
                Some((channel, STANDARD.decode(text.get(1..)?).ok()?.into()))
            }
            Message::Binary(bytes) => Some((*bytes.first()?, bytes.slice(1..))),
            Message::Text(text) => {
                let bytes = Bytes::copy_from_slice(text.as_bytes());
                Some((*bytes.first()?, bytes.slice(1..)))
            }
            _ => None,
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

fn read_message(protocol: Protocol, message: Message) -> Option<FromClient> {
    let (channel, bytes) = protocol.decode(message)?;
    match channel {
        0 => Some(FromClient::Stdin(bytes)),
        4 => {
            let size: Size = serde_json::from_slice(&bytes).ok()?;
            Some(FromClient::Resize { rows: size.height, cols: size.width })
        }
        255 if protocol.close && bytes.first() == Some(&0) => Some(FromClient::CloseStdin),
        _ => None,
    }
}

/// Serves exec or attach on an upgraded connection.
pub async fn serve<S>(io: S, protocol: Protocol, process: Result<Process, String>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = socket(io).await.split();
    let (say_from, from) = mpsc::channel(16);
    let (to, mut outgoing) = mpsc::channel(16);
    let reading = tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
            if let Some(message) = read_message(protocol, message)
                && say_from.send(message).await.is_err()
            {
                break;
            }
        }
    });
    let running = tokio::spawn(async move {
        match process {
            Ok(process) => run(process, from, to).await,
            Err(text) => drop(to.send(ToClient::Status(super::session::Outcome::Failure(text))).await),
        }
    });
    while let Some(message) = outgoing.recv().await {
        let message = match message {
            ToClient::Stdout(bytes) => protocol.encode(1, &bytes),
            ToClient::Stderr(bytes) => protocol.encode(2, &bytes),
            ToClient::Status(outcome) => {
                let text = if protocol.status { outcome.status() } else { outcome.text() };
                if !text.is_empty() {
                    let _ = sink.send(protocol.encode(3, text.as_bytes())).await;
                }
                break;
            }
        };
        if sink.send(message).await.is_err() {
            break;
        }
    }
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = sink.send(Message::Close(Some(frame))).await;
    let _ = sink.close().await;
    reading.abort();
    drop(outgoing);
    let _ = running.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_negotiated() {
        let check = |offered: &[&str], name: Option<&str>| {
            assert_eq!(choose(offered.iter().copied()).map(|p| p.name), name, "{offered:?}");
        };
        check(&["v5.channel.k8s.io, v4.channel.k8s.io"], Some("v5.channel.k8s.io"));
        check(&["unknown", "v4.base64.channel.k8s.io"], Some("v4.base64.channel.k8s.io"));
        check(&[], Some(""));
        check(&["unknown"], None);
    }

    #[test]
    fn messages_have_channels() {
        let [v5, _, base64, ..] = PROTOCOLS;
        assert_eq!(v5.encode(1, b"hi"), Message::binary(b"\x01hi".to_vec()));
        assert_eq!(base64.encode(1, b"hi"), Message::text("1aGk="));
        assert_eq!(base64.decode(Message::text("0aGk=")), Some((0, Bytes::from_static(b"hi"))));
        assert_eq!(v5.decode(Message::binary(Vec::new())), None);
        assert_eq!(base64.decode(Message::text("")), None);
        assert_eq!(read_message(v5, Message::binary(vec![255, 0])), Some(FromClient::CloseStdin));
        let resize = v5.encode(4, br#"{"Width":80,"Height":24}"#);
        assert_eq!(read_message(v5, resize), Some(FromClient::Resize { rows: 24, cols: 80 }));
        assert_eq!(read_message(v5, v5.encode(4, b"nonsense")), None);
    }
}
