//! HTTP GET as probes and hooks make it: no reuse of connections, no check of certificates, redirects to the same host.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use std::sync::{Arc, LazyLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;

use super::port;

/// Of a body, what is shown of it in Events.
const BODY_LIMIT: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// A redirect to another host was not followed; this is where it led.
    pub redirected: Option<String>,
}

/// Where and how to ask.
#[derive(Clone, Debug)]
pub struct Target {
    pub uri: Uri,
    pub headers: Vec<(String, String)>,
}

/// What a spec's `httpGet` comes to for a pod with this address.
pub fn target(get: &HTTPGetAction, container: &Container, pod_ip: &str) -> Result<Target, String> {
    let number = port::resolve(&get.port, container)?;
    let host = get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = get.path.as_deref().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let uri: Uri =
        format!("{scheme}://{host}:{number}{path}").parse().map_err(|e| format!("invalid URL: {e}"))?;
    let headers = get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
    Ok(Target { uri, headers })
}

/// Asks once. Callers set the time limit.
pub async fn get(target: &Target) -> Result<Answer, String> {
    let first = target.uri.clone();
    let mut uri = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (answer, location) = once(&uri, &target.headers).await?;
        let Some(location) = location.filter(|_| (300..400).contains(&answer.status)) else {
            return Ok(answer);
        };
        let next = join(&uri, &location)?;
        if next.host() != first.host() {
            return Ok(Answer { redirected: Some(next.to_string()), ..answer });
        }
        uri = next;
    }
    Err(format!("Get {:?}: stopped after {MAX_REDIRECTS} redirects", first.to_string()))
}

fn join(base: &Uri, location: &str) -> Result<Uri, String> {
    if location.contains("://") {
        return location.parse().map_err(|e| format!("invalid redirect: {e}"));
    }
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map(|a| a.as_str()).unwrap_or_default();
    let path = if location.starts_with('/') { location.to_owned() } else { format!("/{location}") };
    format!("{scheme}://{authority}{path}").parse().map_err(|e| format!("invalid redirect: {e}"))
}

async fn once(uri: &Uri, headers: &[(String, String)]) -> Result<(Answer, Option<String>), String> {
    let fail = |e: &dyn std::fmt::Display| format!("Get {:?}: {e}", uri.to_string());
    let host = uri.host().ok_or("URL without a host")?.trim_matches(['[', ']']).to_owned();
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream =
        TcpStream::connect((host.as_str(), port)).await.map_err(|e| fail(&dial_error(&host, port, &e)))?;
    let request = request(uri, headers)?;
    if tls {
        let name = rustls::pki_types::ServerName::try_from(host).map_err(|e| fail(&e))?;
        let stream =
            TlsConnector::from(CLIENT_TLS.clone()).connect(name, stream).await.map_err(|e| fail(&e))?;
        exchange(stream, request).await.map_err(|e| fail(&e))
    } else {
        exchange(stream, request).await.map_err(|e| fail(&e))
    }
}

/// A failed connect in Go's words, which users grep for.
pub fn dial_error(host: &str, port: u16, error: &std::io::Error) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let what = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {host}:{port}: {what}")
}

fn request(uri: &Uri, headers: &[(String, String)]) -> Result<Request<Empty<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut host = uri.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
    let (mut agent, mut accept) = (Some("kube-probe/1.36".to_owned()), Some("*/*".to_owned()));
    let mut more: Vec<(HeaderName, HeaderValue)> = vec![];
    for (name, value) in headers {
        match name.to_lowercase().as_str() {
            "host" => host.clone_from(value),
            // An empty value takes the header away.
            "user-agent" => agent = Some(value.clone()).filter(|v| !v.is_empty()),
            "accept" => accept = Some(value.clone()).filter(|v| !v.is_empty()),
            lower => {
                let name = HeaderName::try_from(lower).map_err(|e| e.to_string())?;
                more.push((name, HeaderValue::try_from(value.as_str()).map_err(|e| e.to_string())?));
            }
        }
    }
    let mut builder = Request::get(path).header("host", host).header("connection", "close");
    if let Some(agent) = agent {
        builder = builder.header("user-agent", agent);
    }
    if let Some(accept) = accept {
        builder = builder.header("accept", accept);
    }
    let mut request = builder.body(Empty::new()).map_err(|e| e.to_string())?;
    for (name, value) in more {
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<(Answer, Option<String>), hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let talk = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let body = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).unwrap_or_default();
        Ok((Answer { status, body, redirected: None }, location))
    };
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        // The connection ends when the answer is complete, or fails with it.
        _ = connection => talk.await,
    }
}

static CLIENT_TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Arc::new(config)
});

/// Probes ask whether a server answers, not who it is.
#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn serve(answers: Vec<&'static str>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut seen = vec![];
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = vec![0; 4096];
                let n = stream.read(&mut buffer).await.unwrap();
                seen.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            seen
        });
        (port, task)
    }

    #[tokio::test]
    async fn asks_and_follows() {
        let (port, seen) = serve(vec![
            "HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        ])
        .await;
        let action: HTTPGetAction = serde_json::from_value(json!({"port": "web", "path": "a?x=1",
            "httpHeaders": [{"name": "Host", "value": "h"}, {"name": "X-A", "value": "1"}, {"name": "Accept", "value": ""}]}))
        .unwrap();
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": port}]}))
                .unwrap();
        let target = target(&action, &container, "127.0.0.1").unwrap();
        let answer = get(&target).await.unwrap();
        assert_eq!(answer, Answer { status: 200, body: "hi".into(), redirected: None });
        let seen = seen.await.unwrap();
        assert!(seen[0].starts_with("GET /a?x=1 HTTP/1.1\r\n"), "{}", seen[0]);
        assert!(seen[0].contains("host: h\r\n") && seen[0].contains("x-a: 1") && !seen[0].contains("accept"));
        assert!(seen[1].starts_with("GET /b "));
    }

    #[tokio::test]
    async fn other_hosts_are_not_asked() {
        let (port, _) =
            serve(vec!["HTTP/1.1 301 Moved\r\nlocation: http://192.0.2.1/x\r\ncontent-length: 0\r\n\r\n"])
                .await;
        let target = Target { uri: format!("http://127.0.0.1:{port}/").parse().unwrap(), headers: vec![] };
        let answer = get(&target).await.unwrap();
        assert_eq!((answer.status, answer.redirected.as_deref()), (301, Some("http://192.0.2.1/x")));
        let closed = Target { uri: "http://127.0.0.1:1/".parse().unwrap(), headers: vec![] };
        assert!(
            get(&closed).await.unwrap_err().contains("dial tcp 127.0.0.1:1: connect: connection refused")
        );
    }
}
