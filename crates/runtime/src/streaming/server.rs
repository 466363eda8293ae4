//! The HTTP side of streaming: tokens, upgrades, and which protocol serves which request.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;

use super::portforward::{self, Target};
use super::session::Process;
use super::{spdy, websocket};

/// Starts the process when the client has come.
pub type Begin = Box<dyn FnOnce() -> BoxFuture<'static, Result<Process, String>> + Send>;

/// What a token stands for.
pub enum Request {
    /// Exec or attach.
    Process(Begin),
    PortForward {
        target: Target,
        ports: Vec<u16>,
    },
}

const TOKEN_LIFE: Duration = Duration::from_secs(60);
const MAX_TOKENS: usize = 1000;

type Tokens = Arc<Mutex<HashMap<String, (Instant, Request)>>>;

/// The streaming server. Dropping it stops taking connections; sessions go on.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    tokens: TokensDebug,
    accepting: tokio::task::JoinHandle<()>,
}

struct TokensDebug(Tokens);

impl std::fmt::Debug for TokensDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tokens")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Server> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let tokens = Tokens::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&tokens)));
        Ok(Server { address, tokens: TokensDebug(tokens), accepting })
    }

    /// A URL at which `request` is served once, within a minute. `kind` is the path's first part. `None`:
    /// too many URLs wait to be used.
    pub fn offer(&self, kind: &str, token: String, request: Request) -> Option<String> {
        let mut tokens = self.tokens.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (since, _)| since.elapsed() < TOKEN_LIFE);
        if tokens.len() >= MAX_TOKENS {
            return None;
        }
        let url = format!("http://{}/{kind}/{token}", self.address);
        tokens.insert(token, (Instant::now(), request));
        Some(url)
    }
}

async fn accept(listener: tokio::net::TcpListener, tokens: Tokens) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: not a reason to spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let tokens = Arc::clone(&tokens);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let tokens = Arc::clone(&tokens);
                async move { Ok::<_, Infallible>(answer(request, &tokens)) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "streaming connection ended");
            }
        });
    }
}

type Answer = Response<Full<Bytes>>;

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *answer.status_mut() = status;
    answer
}

/// How a request is carried.
enum Carrier {
    WebSocket(websocket::Protocol),
    /// SPDY for port-forward, inside WebSocket messages.
    Tunnel,
    Spdy(&'static str),
}

fn answer(mut request: http::Request<Incoming>, tokens: &Tokens) -> Answer {
    let path = request.uri().path().to_owned();
    let token = path.rsplit('/').next().unwrap_or("").to_owned();
    let is_forward = path.starts_with("/portforward/");
    let carrier = match carrier(request.headers(), is_forward) {
        Ok(carrier) => carrier,
        Err((status, text)) => return plain(status, text),
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = answer.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    match &carrier {
        Carrier::Spdy(version) => {
            out.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            out.insert(STREAM_VERSION, HeaderValue::from_static(version));
        }
        Carrier::WebSocket(_) | Carrier::Tunnel => {
            let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
                return plain(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key");
            };
            out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            if let Ok(accept) = HeaderValue::from_str(&websocket::accept_key(key.as_bytes())) {
                out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
            let name = if let Carrier::WebSocket(protocol) = &carrier { protocol.name } else { spdy::TUNNEL };
            if !name.is_empty() {
                out.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
            }
        }
    }
    let taken = tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
    let Some((_, wanted)) = taken.filter(|(since, _)| since.elapsed() < TOKEN_LIFE) else {
        return plain(StatusCode::NOT_FOUND, "no such streaming request");
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = upgrade.await else { return };
        let io = TokioIo::new(io);
        match (wanted, carrier) {
            (Request::Process(begin), Carrier::WebSocket(protocol)) => {
                websocket::serve(io, protocol, begin().await).await
            }
            (Request::Process(begin), Carrier::Spdy(version)) => {
                spdy::serve(io, version, begin().await).await
            }
            (Request::Process(_), Carrier::Tunnel) => {}
            (Request::PortForward { target, ports }, Carrier::WebSocket(protocol)) => {
                portforward::serve(io, protocol, target, ports).await;
            }
            (Request::PortForward { target, .. }, Carrier::Spdy(_)) => spdy::port_forward(io, target).await,
            (Request::PortForward { target, .. }, Carrier::Tunnel) => {
                spdy::tunnelled_port_forward(io, target).await
            }
        }
    });
    answer
}

const STREAM_VERSION: &str = "x-stream-protocol-version";

fn carrier(headers: &HeaderMap, is_forward: bool) -> Result<Carrier, (StatusCode, &'static str)> {
    let has = |name: header::HeaderName, word: &str| {
        texts(headers, name).iter().any(|text| text.to_lowercase().contains(word))
    };
    let upgrade = has(header::CONNECTION, "upgrade");
    let refused = (StatusCode::FORBIDDEN, "none of the requested protocols is supported");
    if upgrade && has(header::UPGRADE, "spdy/3.1") {
        let offered = headers.get_all(STREAM_VERSION).iter().filter_map(|value| value.to_str().ok());
        let version = if is_forward { Some(spdy::PORT_FORWARD) } else { spdy::choose(offered) };
        return version.map(Carrier::Spdy).ok_or(refused);
    }
    if upgrade && has(header::UPGRADE, "websocket") {
        let offered = texts(headers, header::SEC_WEBSOCKET_PROTOCOL);
        if is_forward
            && offered.iter().flat_map(|text| text.split(',')).any(|name| name.trim() == spdy::TUNNEL)
        {
            return Ok(Carrier::Tunnel);
        }
        return websocket::choose(offered).map(Carrier::WebSocket).ok_or(refused);
    }
    Err((StatusCode::BAD_REQUEST, "you must specify at least 1 Upgrade header: websocket or SPDY/3.1"))
}

fn texts(headers: &HeaderMap, name: header::HeaderName) -> Vec<&str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}
