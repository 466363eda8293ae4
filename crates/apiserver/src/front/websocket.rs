//! Answers over WebSocket, for clients that ask for an upgrade where others get a stream: logs (protocols
//! `binary.k8s.io` and `base64.binary.k8s.io`) and watches (an event a message).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use machinery::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, handshake};

use super::body::Body;
use super::respond::Answer;

const PROTOCOL: &str = "sec-websocket-protocol";

/// How blocks of an answer's body become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Binary,
    Base64,
    Text,
    /// Binary without the four bytes of length that each block begins with.
    Unprefixed,
}

impl Framing {
    fn message(self, block: Bytes) -> Message {
        match self {
            Self::Binary => Message::binary(block),
            Self::Base64 => Message::text(STANDARD.encode(block)),
            Self::Text => Message::text(String::from_utf8_lossy(&block).into_owned()),
            Self::Unprefixed => Message::binary(block.slice(block.len().min(4)..)),
        }
    }
}

/// Does a request ask for a WebSocket?
pub fn wanted(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|v: &HeaderValue| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(word))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(PROTOCOL).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|v| !v.is_empty())
}

/// The first of the client's protocols for plain streams, and how its messages look.
///
/// # Errors
/// None of them is known.
pub fn stream_protocol(headers: &HeaderMap) -> Result<(Option<&'static str>, Framing), Status> {
    let mut any = false;
    for name in offered(headers) {
        any = true;
        match name {
            "binary.k8s.io" => return Ok((Some("binary.k8s.io"), Framing::Binary)),
            "base64.binary.k8s.io" => return Ok((Some("base64.binary.k8s.io"), Framing::Base64)),
            _ => {}
        }
    }
    if any {
        let all: Vec<&str> = offered(headers).collect();
        return Err(Status::new(
            403,
            "Forbidden",
            format!("requested protocol(s) are not supported: [{}]", all.join(" ")),
        ));
    }
    Ok((None, Framing::Binary))
}

/// A watch speaks the one protocol that a client names, whatever it is.
pub fn watch_protocol(headers: &HeaderMap) -> Result<Option<String>, Status> {
    let mut all = offered(headers);
    let first = all.next().map(str::to_owned);
    match all.next() {
        None => Ok(first),
        Some(_) => Err(Status::bad_request("bad websocket protocol")),
    }
}

/// Hands an answer's body over as messages. `greet`: an empty message first, as upstream sends before logs.
pub fn answer(
    headers: &HeaderMap,
    extensions: &mut http::Extensions,
    protocol: Option<&str>,
    framing: Framing,
    greet: bool,
    plain: Answer,
) -> Result<Answer, Status> {
    let key = headers.get("sec-websocket-key");
    let (Some(key), Some(upgrade)) = (key, extensions.remove::<hyper::upgrade::OnUpgrade>()) else {
        return Err(Status::bad_request(
            "missing Sec-WebSocket-Key, or a connection that cannot be upgraded",
        ));
    };
    let mut out = Response::new(Body::empty());
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let set = out.headers_mut();
    set.insert(UPGRADE, HeaderValue::from_static("websocket"));
    set.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let accept = handshake::derive_accept_key(key.as_bytes());
    set.insert("sec-websocket-accept", accept.parse().map_err(|_| Status::bad_request("bad key"))?);
    if let Some(protocol) = protocol.and_then(|p| p.parse().ok()) {
        set.insert(PROTOCOL, protocol);
    }
    let body = plain.into_body();
    tokio::spawn(async move {
        let Ok(io) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
        let (mut sink, mut from) = socket.split();
        let send = async {
            if greet && sink.send(framing.message(Bytes::new())).await.is_err() {
                return;
            }
            let mut blocks = body.into_data_stream();
            while let Some(Ok(block)) = blocks.next().await {
                if sink.send(framing.message(block)).await.is_err() {
                    return;
                }
            }
            let _ = sink
                .send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })))
                .await;
            let _ = sink.close().await;
        };
        // what a client says is not listened to, but for that it goes
        let gone = async {
            while let Some(Ok(message)) = from.next().await
                && !matches!(message, Message::Close(_))
            {}
        };
        tokio::pin!(send);
        tokio::select! {
            () = &mut send => {}
            () = gone => {}
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_those_of_plain_streams() {
        let check = |text: &str, want: Option<(Option<&str>, Framing)>| {
            let mut headers = HeaderMap::new();
            if !text.is_empty() {
                headers.insert(PROTOCOL, text.parse().unwrap());
            }
            assert_eq!(stream_protocol(&headers).ok(), want, "{text}");
        };
        check("", Some((None, Framing::Binary)));
        check("x, base64.binary.k8s.io", Some((Some("base64.binary.k8s.io"), Framing::Base64)));
        check("binary.k8s.io", Some((Some("binary.k8s.io"), Framing::Binary)));
        check("v4.channel.k8s.io", None);
    }

    #[test]
    fn blocks_become_messages() {
        let block = Bytes::from_static(b"\0\0\0\x02hi");
        assert_eq!(Framing::Unprefixed.message(block), Message::binary(b"hi".to_vec()));
        assert_eq!(Framing::Base64.message(Bytes::from_static(b"hi")), Message::text("aGk="));
        assert_eq!(Framing::Unprefixed.message(Bytes::new()), Message::binary(Vec::new()));
    }

    #[test]
    fn an_upgrade_is_asked_for_by_two_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert!(!wanted(&headers));
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert!(wanted(&headers));
    }
}
