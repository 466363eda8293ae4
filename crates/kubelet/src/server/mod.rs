//! The node's own API over HTTPS: logs, exec, attach, port-forward, pods, statistics, health.
//!
//! Who asks is known by client certificate or bearer token (TokenReview), what they may do by SubjectAccessReview.
//! It does not know how a command is run: exec and the like are tunnelled to the runtime's streaming server.

mod access;
mod container_logs;
mod metrics;
mod query;
mod route;
mod stats;
mod stream;
mod tls;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

use crate::agent::Agent;
use access::{Access, Caller};
pub use tls::TlsError;

pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BodyError>>;

/// Serves until the agent stops.
pub(crate) async fn serve(agent: Arc<Agent>, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let access = Arc::new(Access::new(agent.client.clone(), agent.config.node_name.clone()));
    loop {
        let accepted = tokio::select! {
            () = agent.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(agent.clone(), access.clone(), acceptor.clone(), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(agent: Arc<Agent>, access: Arc<Access>, acceptor: TlsAcceptor, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let shutdown = agent.shutdown.clone();
    let handshake = tokio::time::timeout(std::time::Duration::from_secs(10), acceptor.accept(stream)).await;
    let Ok(Ok(stream)) = handshake else { return };
    let caller = Caller::of_certificates(stream.get_ref().1.peer_certificates());
    let service = service_fn(move |request: Request<Incoming>| {
        let (agent, access, caller) = (agent.clone(), access.clone(), caller.clone());
        async move { Ok::<_, std::convert::Infallible>(handle(agent, access, caller, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = connection => {}
    }
}

async fn handle(
    agent: Arc<Agent>,
    access: Arc<Access>,
    caller: Option<Caller>,
    request: Request<Incoming>,
) -> Answer {
    match access.admit(caller, &request).await {
        Ok(()) => route::route(agent, request).await,
        Err((code, message)) => text(code, message),
    }
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, BodyError> {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn with_type(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

pub(crate) fn text(code: StatusCode, message: impl Into<String>) -> Answer {
    with_type(code, "text/plain; charset=utf-8", message.into())
}

pub(crate) fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => with_type(StatusCode::OK, "application/json", body),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}
