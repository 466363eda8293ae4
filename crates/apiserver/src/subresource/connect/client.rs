//! One HTTP/1.1 request to another server, with its answer or its upgraded connection handed through.

use std::sync::Arc;

use futures_util::StreamExt;
use http::header::{CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use machinery::Status;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Config;
use crate::front::body::{Body, BoxError, Incoming};
use crate::front::respond::Answer;

/// Where a request goes.
pub struct Target {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// Present the kubelet client certificate, and check the kubelet's against its CA.
    pub kubelet: bool,
    /// Path and query.
    pub path: String,
}

/// What is sent there.
pub struct Outgoing {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Incoming,
    /// The client's half of a connection that it asked to upgrade.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
}

/// A byte stream to a server, plain or in TLS.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

fn unreachable(error: impl std::fmt::Display) -> Status {
    Status::new(500, "", format!("error dialing backend: {error}"))
}

impl Target {
    /// `host:port`.
    pub fn address(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
}

/// Sends the request and gives its answer, whatever it is. The `Host` of the client stays, where it says one.
pub async fn forward(config: &Config, target: &Target, out: Outgoing) -> Result<Answer, Status> {
    let stream = dial(config, target).await?;
    let host = out.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    exchange(stream, &host.unwrap_or_else(|| target.address()), &target.path, out).await
}

/// The same over a connection that is there already.
pub async fn exchange(
    stream: Box<dyn Connection>,
    host: &str,
    path: &str,
    out: Outgoing,
) -> Result<Answer, Status> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    });
    let mut request = Request::new(out.body);
    *request.method_mut() = out.method;
    *request.uri_mut() = path.parse().map_err(|e| Status::bad_request(format!("{e}")))?;
    let upgrades = out.headers.get(UPGRADE).cloned();
    let mut headers = out.headers;
    strip(&mut headers);
    if let Some(protocol) = upgrades {
        headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    headers.insert(HOST, host.parse().map_err(|_| Status::bad_request("bad host"))?);
    *request.headers_mut() = headers;
    let mut response = sender.send_request(request).await.map_err(unreachable)?;
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        let ours = hyper::upgrade::on(&mut response);
        let Some(theirs) = out.upgrade else {
            return Err(Status::bad_request("Upgrade request required"));
        };
        tokio::spawn(async move {
            let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) else { return };
            let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
            // either side may simply go away
            let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
        });
        let (parts, _) = response.into_parts();
        return Ok(Answer::from_parts(parts, Body::empty()));
    }
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    // the sender lives as long as the body: dropping it early would end the connection
    let stream = body.into_data_stream().map(move |chunk| {
        let _ = &sender;
        chunk.map_err(BoxError::from)
    });
    Ok(Answer::from_parts(parts, Body::stream(stream)))
}

/// Headers that are about one connection only.
fn strip(headers: &mut HeaderMap) {
    const HOPS: [&str; 5] = ["keep-alive", "proxy-connection", "te", "trailer", "proxy-authorization"];
    for name in HOPS {
        headers.remove(name);
    }
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    headers.remove(TRANSFER_ENCODING);
}

async fn dial(config: &Config, target: &Target) -> Result<Box<dyn Connection>, Status> {
    let socket = TcpStream::connect((target.host.as_str(), target.port)).await;
    let address = format!("{}:{}", target.host, target.port);
    let socket = socket.map_err(|e| unreachable(format!("dial tcp {address}: {e}")))?;
    let _ = socket.set_nodelay(true);
    if !target.tls {
        return Ok(Box::new(socket));
    }
    let connector = TlsConnector::from(Arc::new(tls(config, target.kubelet).map_err(unreachable)?));
    let name = ServerName::try_from(target.host.clone()).map_err(unreachable)?;
    Ok(Box::new(connector.connect(name, socket).await.map_err(unreachable)?))
}

fn tls(config: &Config, kubelet: bool) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?;
    let builder = match config.kubelet_ca_pem.as_deref().filter(|_| kubelet) {
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
            }
            builder.with_root_certificates(roots)
        }
        // pods' certificates are their own affair, and so are kubelets' when there is no CA for them
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    let pair = (&config.kubelet_client_cert_pem, &config.kubelet_client_key_pem);
    match pair {
        (Some(chain), Some(key)) if kubelet => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| e.to_string())?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| e.to_string())?;
            builder.with_client_auth_cert(chain, key).map_err(|e| e.to_string())
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// Takes any certificate whose key the server holds.
#[derive(Debug)]
pub struct Anybody(pub Arc<rustls::crypto::CryptoProvider>);

impl Default for Anybody {
    fn default() -> Self {
        Self(Arc::new(rustls::crypto::ring::default_provider()))
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A JSON document for a server that a CA vouches for (an admission webhook).
pub struct Post<'a> {
    pub host: &'a str,
    pub port: u16,
    pub server_name: &'a str,
    /// PEM; empty for the CAs that this server itself trusts.
    pub ca_pem: &'a [u8],
    pub path: &'a str,
    pub body: &'a machinery::Value,
}

/// Why a document got no answer, in Go's words.
pub struct PostError {
    pub text: String,
    /// The server was reached and said so itself.
    pub from_server: bool,
}

/// Sends it and reads the JSON answer; anything but a 200 is an error.
pub async fn post_json(post: Post<'_>) -> Result<machinery::Value, PostError> {
    let text = |e: &dyn std::fmt::Display| PostError { text: e.to_string(), from_server: false };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = crate::remote::trust::Trust::new(post.ca_pem, true).map_err(|e| text(&e))?;
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| text(&e))?
        .dangerous()
        .with_custom_certificate_verifier(trust)
        .with_no_client_auth();
    let socket = TcpStream::connect((post.host, post.port)).await;
    let socket = socket.map_err(|e| text(&go_dial(&post, &e)))?;
    let name = ServerName::try_from(post.server_name.to_owned()).map_err(|e| text(&e))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, socket).await;
    let stream = stream.map_err(|e| text(&go_tls(&e)))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    tokio::spawn(connection);
    let body = serde_json::to_vec(post.body).map_err(|e| text(&e))?;
    let request = Request::post(post.path)
        .header(HOST, post.server_name)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(http_body_util::Full::new(bytes::Bytes::from(body)))
        .map_err(|e| text(&e))?;
    let response = sender.send_request(request).await.map_err(|e| text(&e))?;
    let status = response.status();
    let bytes = http_body_util::Limited::new(response.into_body(), 3 * 1024 * 1024)
        .collect()
        .await
        .map_err(|e| text(&e))?
        .to_bytes();
    let said = |text: String| PostError { text, from_server: true };
    if !status.is_success() {
        return Err(said(go_answer(status.as_u16(), &bytes)));
    }
    serde_json::from_slice(&bytes).map_err(|e| said(e.to_string()))
}

fn go_dial(post: &Post<'_>, error: &std::io::Error) -> String {
    let host = if post.host.contains(':') { format!("[{}]", post.host) } else { post.host.to_owned() };
    let at = format!("dial tcp {host}:{}", post.port);
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("{at}: connect: connection refused"),
        std::io::ErrorKind::NetworkUnreachable => format!("{at}: connect: network is unreachable"),
        std::io::ErrorKind::HostUnreachable => format!("{at}: connect: no route to host"),
        _ if error.raw_os_error().is_none() => format!("dial tcp: lookup {}: no such host", post.host),
        _ => format!("{at}: connect: {error}"),
    }
}

fn go_tls(error: &std::io::Error) -> String {
    let rustls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match rustls {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".into()
        }
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("tls: failed to verify certificate: x509: {why:?}")
        }
        _ => error.to_string(),
    }
}

/// What client-go makes of an answer that is no success.
fn go_answer(status: u16, body: &[u8]) -> String {
    let value: machinery::Value = serde_json::from_slice(body).unwrap_or_default();
    if value["kind"] == "Status"
        && let Some(message) = value["message"].as_str()
    {
        return message.to_owned();
    }
    let text = String::from_utf8_lossy(body);
    match status {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 => match text.trim() {
            "" => "forbidden: ".into(),
            text => text.to_owned(),
        },
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        409 => "the server reported a conflict".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request".into(),
        500.. => {
            let shown = machinery::field::go_quote(text.trim());
            format!("an error on the server ({shown}) has prevented the request from succeeding")
        }
        _ => "unknown".into(),
    }
}
