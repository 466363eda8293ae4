//! What is asked for without gRPC: `/health`, `/version` and `/metrics`, as etcd has them on the same port
//! (<https://etcd.io/docs/v3.6/op-guide/monitoring/>).

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Face, VERSION};

impl Face {
    /// A connection that speaks HTTP/1.1.
    pub(super) async fn plain(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let shutdown = self.shutdown.clone();
        let face = &self;
        let service = service_fn(move |request: Request<Incoming>| async move {
            Ok::<_, Infallible>(face.page(request.uri().path()).await.map(Full::new))
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            result = connection => if let Err(error) = result {
                tracing::debug!(%error, "a connection ended");
            },
            () = shutdown.cancelled() => {}
        }
    }

    pub(super) async fn page(&self, path: &str) -> Response<Bytes> {
        let (status, kind, text) = match path {
            "/health" => {
                let (status, healthy, reason) = match self.store.status().await.map(|status| status.alarm) {
                    Ok(None) => (StatusCode::OK, "true", ""),
                    Ok(Some(_)) => (StatusCode::SERVICE_UNAVAILABLE, "false", "ALARM NOSPACE"),
                    Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "false", "RANGE ERROR"),
                };
                let text = format!(r#"{{"health":"{healthy}","reason":"{reason}"}}"#);
                (status, "application/json", text)
            }
            "/version" => {
                let text = format!(r#"{{"etcdserver":"{VERSION}","etcdcluster":"3.5.0"}}"#);
                (StatusCode::OK, "application/json", text)
            }
            "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", self.metrics().await),
            _ => (StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".to_owned()),
        };
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    /// What dashboards of etcd ask for and we have, under etcd's names.
    async fn metrics(&self) -> String {
        let status = self.store.status().await.unwrap_or_default();
        let mut text = String::new();
        for (name, value) in [
            ("etcd_server_has_leader", 1),
            ("etcd_mvcc_db_total_size_in_bytes", status.size),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", status.size_in_use),
            ("etcd_debugging_mvcc_keys_total", status.keys),
            ("etcd_debugging_mvcc_current_revision", status.revision.unsigned_abs()),
            ("etcd_debugging_mvcc_compact_revision", status.compact_revision.unsigned_abs()),
            ("process_resident_memory_bytes", resident()),
        ] {
            let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
        }
        text
    }
}

/// This process's memory in bytes; 0 where /proc does not tell.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = pages.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
