//! One HTTP/1.1 connection over TLS with a client certificate, as a kubeconfig describes it. Lean on purpose: the load
//! must cost less than what it loads.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A server as a kubeconfig names it.
#[derive(Clone)]
pub struct Server {
    pub host: String,
    pub port: u16,
    tls: TlsConnector,
}

impl Server {
    /// Reads the current context of a kubeconfig with embedded or referenced certificates.
    pub fn from_kubeconfig(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let config: Value = serde_saphyr::from_str(&text).map_err(|e| anyhow!("{}: {e}", path.display()))?;
        let context = named(&config["contexts"], config["current-context"].as_str())?;
        let cluster = &named(&config["clusters"], context["context"]["cluster"].as_str())?["cluster"];
        let user = &named(&config["users"], context["context"]["user"].as_str())?["user"];
        let server = cluster["server"].as_str().context("the cluster has no server")?;
        let address =
            server.strip_prefix("https://").context("the server is not https")?.trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));

        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem(cluster, "certificate-authority")?) {
            roots.add(certificate?)?;
        }
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&pem(user, "client-certificate")?).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&pem(user, "client-key")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { host: host.to_owned(), port: port.parse()?, tls: TlsConnector::from(Arc::new(tls)) })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, host: format!("{}:{}", self.host, self.port) })
    }
}

fn named<'a>(list: &'a Value, name: Option<&str>) -> Result<&'a Value> {
    let name = name.context("the kubeconfig lacks a name")?;
    let mut items = list.as_array().into_iter().flatten();
    items.find(|item| item["name"] == name).with_context(|| format!("the kubeconfig has no {name:?}"))
}

/// `KEY-data` (base64) or the file that `KEY` names.
fn pem(section: &Value, key: &str) -> Result<Vec<u8>> {
    if let Some(data) = section[format!("{key}-data").as_str()].as_str() {
        return Ok(STANDARD.decode(data)?);
    }
    let path = section[key].as_str().with_context(|| format!("the kubeconfig has no {key}"))?;
    std::fs::read(path).with_context(|| path.to_owned())
}

/// A keep-alive connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

/// What is sent.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub accept: &'static str,
    pub content: &'static str,
    pub body: Bytes,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Self {
        let path = path.into();
        Self { method: Method::GET, path, accept: "application/json", content: "", body: Bytes::new() }
    }

    pub fn with_body(method: Method, path: impl Into<String>, content: &'static str, body: &Value) -> Self {
        let body = Bytes::from(body.to_string());
        Self { method, path: path.into(), accept: "application/json", content, body }
    }
}

impl Connection {
    /// Sends, and reads the whole answer; an answer that is not a success is an error.
    pub async fn call(&mut self, call: &Call) -> Result<Bytes> {
        let answer = self.open(call).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
            bail!("{} {}: {status}: {text}", call.method, call.path);
        }
        Ok(body)
    }

    /// The same, but only counts the bytes of the body: the load must cost less than what it loads.
    pub async fn call_unread(&mut self, call: &Call) -> Result<usize> {
        let answer = self.open(call).await?;
        let status = answer.status();
        let (mut body, mut bytes, mut head) = (answer.into_body(), 0, Vec::new());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                bytes += data.len();
                if !status.is_success() {
                    head.extend_from_slice(&data);
                }
            }
        }
        if !status.is_success() {
            let text = String::from_utf8_lossy(&head[..head.len().min(500)]).into_owned();
            bail!("{} {}: {status}: {text}", call.method, call.path);
        }
        Ok(bytes)
    }

    /// Sends, and returns when the answer begins.
    pub async fn open(&mut self, call: &Call) -> Result<http::Response<Incoming>> {
        self.sender.ready().await?;
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.path)
            .header("host", &self.host)
            .header("user-agent", "bench/1.0")
            .header("accept", call.accept);
        if !call.content.is_empty() {
            request = request.header("content-type", call.content);
        }
        Ok(self.sender.send_request(request.body(Full::new(call.body.clone()))?).await?)
    }
}
