//! A webhook: an HTTPS server on loopback that answers every review by a function.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::{Authority, Request, Usage};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

pub struct Hook {
    port: u16,
    ca: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hook {
    /// `answer`: from path and review to the review to send back.
    pub async fn start(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let dir = std::env::temp_dir().join(format!("r8s-hook-{}-{:p}", std::process::id(), &answer));
        let authority = Authority::load_or_create(&dir, "ca", "hooks").unwrap();
        let request = Request {
            common_name: "hook",
            organization: None,
            dns_names: &["localhost".to_owned()],
            addresses: &[IpAddr::from(Ipv4Addr::LOCALHOST)],
            usage: Usage::Server,
            life: Duration::from_secs(3600),
        };
        let issued = authority.issue(&request).unwrap();
        let _ = std::fs::remove_dir_all(&dir);
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
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let answer = answer.clone();
                        async move {
                            let path = request.uri().path().to_owned();
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            let review: Value = serde_json::from_slice(&body).unwrap();
                            let body = answer(&path, &review).to_string();
                            let response = http::Response::new(Full::new(bytes::Bytes::from(body)));
                            Ok::<_, std::convert::Infallible>(response)
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { port, ca: authority.certificate_pem().to_owned(), task }
    }

    /// `clientConfig`.
    pub fn client(&self, path: &str) -> Value {
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        json!({"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": ca})
    }
}
