//! The HTTP side of streaming: tokens, upgrades, and which protocol serves which request.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;

use super::portforward::{self, Target};
use super::session::Process;
use super::websocket;

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

fn answer(mut request: http::Request<Incoming>, tokens: &Tokens) -> Answer {
    let token = request.uri().path().rsplit('/').next().unwrap_or("").to_owned();
    let headers = request.headers().clone();
    let has = |name: header::HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.to_lowercase().contains(word))
    };
    if !(has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")) {
        return plain(StatusCode::BAD_REQUEST, "you must specify at least 1 Upgrade header: websocket");
    }
    let Some(protocol) = websocket::choose(texts(&headers, header::SEC_WEBSOCKET_PROTOCOL)) else {
        return plain(StatusCode::FORBIDDEN, "none of the requested protocols is supported");
    };
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return plain(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key");
    };
    let taken = tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
    let Some((_, wanted)) = taken.filter(|(since, _)| since.elapsed() < TOKEN_LIFE) else {
        return plain(StatusCode::NOT_FOUND, "no such streaming request");
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = answer.headers_mut();
    out.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    out.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    if let Ok(accept) = header::HeaderValue::from_str(&websocket::accept_key(key.as_bytes())) {
        out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if !protocol.name.is_empty() {
        out.insert(header::SEC_WEBSOCKET_PROTOCOL, header::HeaderValue::from_static(protocol.name));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = upgrade.await else { return };
        let io = TokioIo::new(io);
        match wanted {
            Request::Process(begin) => websocket::serve(io, protocol, begin().await).await,
            Request::PortForward { target, ports } => portforward::serve(io, protocol, target, ports).await,
        }
    });
    answer
}

fn texts(headers: &HeaderMap, name: header::HeaderName) -> Vec<&str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}
