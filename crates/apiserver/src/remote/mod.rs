//! Servers that this one asks: webhooks of authentication, authorization and audit, OpenID providers. What to call is in a
//! kubeconfig file, as upstream's `--…-webhook-config-file` flags have it.

mod kubeconfig;
pub mod trust;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// No answer is larger than this.
const LARGEST: usize = 10 * 1024 * 1024;
/// Idle connections kept for the next question.
const IDLE: usize = 4;

/// What was answered, whatever its status.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Said by the other side, or on the way to it; asking again may help.
    #[error("{0}")]
    Transport(String),
    #[error("{message}")]
    Refused { status: u16, message: String },
}

impl Error {
    /// Upstream asks again after these: not when nobody listens, nor for every refusal.
    pub fn passes(&self) -> bool {
        match self {
            Error::Transport(why) => why.contains("connection reset") || why.contains("connection closed"),
            Error::Refused { status, .. } => matches!(status, 429 | 500 | 504),
        }
    }
}

/// What a client is made from.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub url: String,
    /// PEM; none for the authorities that the host trusts.
    pub ca_pem: Option<String>,
    /// PEM chain and key.
    pub identity: Option<(String, String)>,
    /// Value of the `Authorization` header.
    pub authorization: Option<String>,
    /// The name in the server's certificate, if not that of the URL.
    pub server_name: Option<String>,
    pub insecure: bool,
}

/// Asks one server. Connections are kept while idle.
pub struct Client {
    url: Uri,
    tls: Option<TlsConnector>,
    server_name: String,
    authorization: Option<HeaderValue>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

impl Client {
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let url: Uri = settings.url.parse().map_err(|e| format!("{}: {e}", settings.url))?;
        let host = url.host().ok_or_else(|| format!("{}: no host", settings.url))?;
        let server_name = match &settings.server_name {
            Some(name) => name.clone(),
            None => host.trim_matches(['[', ']']).to_owned(),
        };
        let tls = match url.scheme_str() {
            Some("https") => Some(TlsConnector::from(Arc::new(tls(settings)?))),
            Some("http") => None,
            _ => return Err(format!("{}: neither http nor https", settings.url)),
        };
        let authorization = settings.authorization.as_ref().map(|a| {
            let mut value = HeaderValue::from_str(a).map_err(|e| e.to_string())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        let authorization = authorization.transpose()?;
        Ok(Self { url, tls, server_name, authorization, idle: Mutex::default() })
    }

    /// From the current context of a kubeconfig file.
    pub fn from_kubeconfig(path: &std::path::Path) -> Result<Self, String> {
        Self::new(&kubeconfig::read(path)?).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// POSTs a JSON document to the client's URL; the answer must be a success.
    pub async fn post(&self, body: impl Into<Bytes>) -> Result<Bytes, Error> {
        let path = self.url.path_and_query().map_or("/", |p| p.as_str());
        self.send(Method::POST, path, body.into()).await
    }

    /// GETs the client's URL; the answer may be of any status.
    pub async fn fetch(&self) -> Result<Answer, Error> {
        let path = self.url.path_and_query().map_or("/", |p| p.as_str());
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let answer = self.exchange(method, path, body).await?;
        success(answer)
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Error> {
        let verb = if method == Method::POST { "Post" } else { "Get" };
        let host = self.url.authority().map_or("", |a| a.as_str());
        let scheme = self.url.scheme_str().unwrap_or("https");
        let wrong =
            |e: &dyn std::fmt::Display| Error::Transport(format!("{verb} \"{scheme}://{host}{path}\": {e}"));
        let kept = self.idle.lock().pop();
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
            && let Ok(answer) = self.ask(&mut sender, &method, path, &body).await
        {
            return Ok(self.finish(sender, answer));
        }
        // a kept connection may have been closed meanwhile: a fresh one decides
        let mut sender = self.connect().await.map_err(|e| wrong(&e))?;
        let answer = self.ask(&mut sender, &method, path, &body).await.map_err(|e| wrong(&e))?;
        Ok(self.finish(sender, answer))
    }

    fn finish(&self, sender: SendRequest<Full<Bytes>>, answer: Answer) -> Answer {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(sender);
        }
        answer
    }

    async fn ask(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Result<Answer, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.url.authority().map_or("", |a| a.as_str()))
            .header(USER_AGENT, "kube-apiserver")
            .header(ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body.clone())).map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|e| e.to_string())?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let host = self.url.host().unwrap_or("").trim_matches(['[', ']']);
        let port = self.url.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let dial = tokio::time::timeout(CONNECT, TcpStream::connect((host, port))).await;
        let socket = dial
            .map_err(|_| format!("dial tcp {host}:{port}: i/o timeout"))?
            .map_err(|e| format!("dial tcp {host}:{port}: {}", io_text(&e)))?;
        let _ = socket.set_nodelay(true);
        let stream: Box<dyn Connection> = match &self.tls {
            None => Box::new(socket),
            Some(connector) => {
                let name = ServerName::try_from(self.server_name.clone()).map_err(|e| e.to_string())?;
                let secured = tokio::time::timeout(CONNECT, connector.connect(name, socket)).await;
                let secured = secured.map_err(|_| "net/http: TLS handshake timeout".to_owned())?;
                Box::new(secured.map_err(|e| format!("tls: failed to verify certificate: {e}"))?)
            }
        };
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The body of an answer that is a success.
fn success(Answer { status, body, .. }: Answer) -> Result<Bytes, Error> {
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let said = said.as_ref().and_then(|v| v.get("message")).and_then(|m| m.as_str());
    let message = said.map_or_else(
        || match status {
            401 => "Unauthorized".to_owned(),
            403 => "forbidden".to_owned(),
            404 => "the server could not find the requested resource".to_owned(),
            500 => "an error on the server (\"\") has prevented the request from succeeding".to_owned(),
            _ => format!("the server rejected our request for an unknown reason ({status})"),
        },
        str::to_owned,
    );
    Err(Error::Refused { status, message })
}

/// As Go says it.
fn io_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

fn tls(settings: &Settings) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?;
    let builder = if settings.insecure {
        let anybody = Arc::new(crate::subresource::connect::Anybody::default());
        builder.dangerous().with_custom_certificate_verifier(anybody)
    } else {
        let pem = match &settings.ca_pem {
            Some(pem) => pem.clone(),
            None => host_authorities(),
        };
        // the host's bundle may hold what we do not understand
        let trust = trust::Trust::new(pem.as_bytes(), settings.ca_pem.is_some())?;
        builder.dangerous().with_custom_certificate_verifier(trust)
    };
    match &settings.identity {
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| e.to_string())?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| e.to_string())?;
            builder.with_client_auth_cert(chain, key).map_err(|e| e.to_string())
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// The certificate authorities that the host trusts, where distributions keep them.
fn host_authorities() -> String {
    const PLACES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    PLACES.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
}

/// Reads a YAML or JSON document.
pub fn document(text: &str) -> Result<machinery::Value, String> {
    let json = machinery::codec::yaml::to_json(text.as_bytes()).map_err(|e| e.to_string())?;
    serde_json::from_slice(&json.text).map_err(|e| e.to_string())
}

/// A Go duration in a configuration file (`5m`, `30s`).
pub fn duration(value: &machinery::Value) -> Option<Duration> {
    crate::front::query::go_duration(value.as_str()?).ok()
}
