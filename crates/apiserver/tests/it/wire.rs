//! A server on a socket of loopback, and clients that speak to it byte by byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Config};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::https::certificate;

pub struct Wire {
    _api: ApiServer,
    pub address: SocketAddr,
    ca: String,
    pub shutdown: CancellationToken,
    pub task: Option<tokio::task::JoinHandle<Result<(), apiserver::Error>>>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Wire {
    pub async fn start(config: Config) -> Self {
        let (authority, issued) = certificate();
        let config = Config {
            serving_cert_pem: Some(issued.certificate_pem),
            serving_key_pem: Some(issued.key_pem),
            ..config
        };
        let api = ApiServer::start(config, Arc::new(store::memory::Memory::new())).await.unwrap();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (server, end) = (api.clone(), shutdown.clone());
        let task = tokio::spawn(async move { server.serve(listener, end).await });
        Self { _api: api, address, ca: authority.certificate_pem().to_owned(), shutdown, task: Some(task) }
    }

    /// A TLS connection; `protocol`: `h2` or `http/1.1`.
    pub async fn connect(&self, protocol: &str) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        self.secure(socket, protocol).await
    }

    pub async fn secure(&self, socket: TcpStream, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(tls)).connect(name, socket).await.unwrap()
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let stream = self.connect("http/1.1").await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let task = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        task.abort();
        Response::from_parts(head, body)
    }

    /// With a bearer token and a JSON body (null: none).
    pub async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.header("content-type", "application/json").body(Full::new(body)).unwrap();
        let answer = self.ask(request).await;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

/// Tries until there is something, and gives that.
pub async fn until<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < end, "{what}: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
