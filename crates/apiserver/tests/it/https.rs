//! An HTTPS server on loopback with an authority of its own, answering by a function.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::{Authority, Issued, Usage};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

type Answer = Arc<dyn Fn(Request<Bytes>) -> Response<String> + Send + Sync>;

pub struct Https {
    pub port: u16,
    /// PEM.
    pub ca: String,
    acceptor: TlsAcceptor,
    answer: Answer,
    /// None while it is down.
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Https {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An authority and a certificate for loopback that it issued.
pub fn certificate() -> (Authority, Issued) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path(), "ca", "tests").unwrap();
    let request = pki::Request {
        common_name: "server",
        organization: None,
        dns_names: &["localhost".to_owned()],
        addresses: &[IpAddr::from(Ipv4Addr::LOCALHOST)],
        usage: Usage::Server,
        life: Duration::from_secs(3600),
    };
    let issued = authority.issue(&request).unwrap();
    (authority, issued)
}

impl Https {
    pub async fn start(answer: impl Fn(Request<Bytes>) -> Response<String> + Send + Sync + 'static) -> Self {
        let (authority, issued) = certificate();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let mut server = Self {
            port: 0,
            ca: authority.certificate_pem().to_owned(),
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            answer: Arc::new(answer),
            task: None,
        };
        server.go().await;
        server
    }

    /// Ends it and all its connections.
    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Starts it, again at the same port.
    pub async fn go(&mut self) {
        let listener =
            tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let (acceptor, answer) = (self.acceptor.clone(), self.answer.clone());
        self.task = Some(tokio::spawn(async move {
            // ends them with the task
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(connection(socket, acceptor.clone(), answer.clone()));
            }
        }));
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self, path: &str) -> String {
        use base64::Engine;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{}', \
             certificate-authority-data: {ca}}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             users: [{{name: u, user: {{}}}}]\ncurrent-context: c\n",
            self.url(path)
        )
    }
}

async fn connection(socket: tokio::net::TcpStream, acceptor: TlsAcceptor, answer: Answer) {
    let Ok(stream) = acceptor.accept(socket).await else { return };
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let answer = answer(Request::from_parts(head, body));
            Ok::<_, hyper::Error>(answer.map(|text| Full::new(Bytes::from(text))))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
