//! The gRPC health check, `grpc.health.v1.Health/Check`, without TLS.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Serving,
    /// Why not, in words for an Event.
    Not(String),
}

/// Asks once. Callers set the time limit.
pub async fn check(host: &str, port: u16, service: &str) -> Health {
    match ask(host, port, service).await {
        Ok(1) => Health::Serving,
        Ok(code) => {
            let name = match code {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                _ => "SERVICE_UNKNOWN",
            };
            Health::Not(format!("service unhealthy (responded with {name:?})"))
        }
        Err(e) => Health::Not(e),
    }
}

async fn ask(host: &str, port: u16, service: &str) -> Result<u64, String> {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let connect = |e: String| format!("error: failed to connect service at {authority:?}: {e}");
    let stream = TcpStream::connect((host, port)).await.map_err(|e| connect(e.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| connect(e.to_string()))?;
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(message(service)))
        .map_err(|e| e.to_string())?;
    let rpc = |e: String| format!("error: health rpc probe failed: {e}");
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| rpc(e.to_string()))?;
        let early = response.headers().get("grpc-status").cloned();
        let body =
            Limited::new(response.into_body(), 4096).collect().await.map_err(|e| rpc(e.to_string()))?;
        let status = early.or_else(|| body.trailers().and_then(|t| t.get("grpc-status")).cloned());
        match status.as_ref().and_then(|s| s.to_str().ok()) {
            Some("0") => Ok(status_of(&body.to_bytes())),
            Some("12") => {
                Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                    .into())
            }
            other => Err(rpc(format!("gRPC status {}", other.unwrap_or("missing")))),
        }
    }
    .await;
    driver.abort();
    answer
}

/// `HealthCheckRequest { string service = 1 }` in a gRPC frame.
fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() {
        body.put_u8(0x0a);
        let mut n = service.len();
        while n >= 0x80 {
            body.put_u8(u8::try_from(n & 0x7f).unwrap_or(0) | 0x80);
            n >>= 7;
        }
        body.put_u8(u8::try_from(n).unwrap_or(0));
        body.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(0));
    frame.put_slice(&body);
    frame.freeze()
}

/// `HealthCheckResponse { ServingStatus status = 1 }`; 0 where it is not set.
fn status_of(frame: &[u8]) -> u64 {
    match frame.get(5..) {
        Some([0x08, value, ..]) => u64::from(*value),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_and_failures() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status_of(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(status_of(&[0, 0, 0, 0, 0]), 0);
        assert!(matches!(check("127.0.0.1", 1, "").await, Health::Not(e) if e.contains("failed to connect")));
    }
}
