//! The node's own API, over real TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use pki::{Authority, Usage};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, rustls};

use crate::harness::{Node, is_ready};

struct Door {
    authority: Authority,
    port: u16,
}

type Sender = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

impl Door {
    async fn connect(&self, user: Option<&str>) -> Sender {
        let mut roots = rustls::RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).unwrap();
        roots.add(der).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match user {
            None => builder.with_no_client_auth(),
            Some(user) => {
                let issued = issue(&self.authority, user, Usage::Client);
                let chain = vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    async fn get(&self, user: Option<&str>, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = Request::get(path).header("host", "node");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut sender = self.connect(user).await;
        let answer = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn issue(authority: &Authority, user: &str, usage: Usage) -> pki::Issued {
    authority
        .issue(&pki::Request {
            common_name: user,
            organization: None,
            dns_names: &[],
            addresses: &["127.0.0.1".parse().unwrap()],
            usage,
            life: Duration::from_secs(3600),
        })
        .unwrap()
}

async fn start() -> (Node, Door) {
    let (authority, _) = Authority::create("test").unwrap();
    let serving = issue(&authority, "node", Usage::Server);
    let server = kubelet::Server::from_pem(
        "127.0.0.1:0".parse().unwrap(),
        &serving.certificate_pem,
        &serving.key_pem,
        authority.certificate_pem(),
    )
    .unwrap();
    let node = Node::start_serving(server).await;
    node.wait_for("the announced port", || {
        let found = node.api.get("/api/v1/nodes", "node");
        found.is_some_and(|n| n["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64() > Some(0))
    })
    .await;
    let found = node.api.get("/api/v1/nodes", "node").unwrap();
    let port = found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap();
    (node, Door { authority, port: u16::try_from(port).unwrap() })
}

#[tokio::test]
async fn knows_who_asks_and_what_they_may() {
    let (node, door) = start().await;
    assert_eq!(door.get(None, "/healthz", None).await, (401, "Unauthorized".into()));
    assert_eq!(door.get(None, "/healthz", Some("wrong")).await.0, 401);
    assert_eq!(door.get(None, "/healthz", Some("good-token")).await, (200, "ok".into()));
    assert_eq!(door.get(Some("admin"), "/healthz", None).await, (200, "ok".into()));
    let (code, message) = door.get(Some("nobody"), "/pods", None).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "Forbidden (user=nobody, verb=get, resource=nodes, name=node, subresource=pods, subresource=proxy)"
    );
    assert_eq!(door.get(Some("admin"), "/nowhere", None).await.0, 404);
    node.stop().await;
}

#[tokio::test]
async fn logs_pods_and_figures() {
    let (node, door) = start().await;
    node.pod("p", json!({"containers": [{"name": "c", "image": "x:1"}]}));
    let pod = node.wait("p", "ready", is_ready).await;
    let admin = Some("admin");
    let (code, list) = door.get(admin, "/pods", None).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((code, list["items"][0]["status"]["phase"].as_str()), (200, Some("Running")));

    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let log = node.root.path().join(format!("logs/pods/ns_p_{uid}/c/0.log"));
    std::fs::write(&log, "2024-01-02T03:04:05Z stdout F one\n2024-01-02T03:04:06Z stderr F two\n").unwrap();
    let logs = "/containerLogs/ns/p/c";
    assert_eq!(door.get(admin, logs, None).await, (200, "one\ntwo\n".into()));
    assert_eq!(door.get(admin, &format!("{logs}?tailLines=1"), None).await.1, "two\n");
    assert_eq!(door.get(admin, &format!("{logs}?previous=true"), None).await.0, 400);
    assert_eq!(door.get(admin, "/containerLogs/ns/p/zz", None).await.0, 404);
    assert_eq!(
        door.get(admin, "/containerLogs/ns/zz/c", None).await,
        (404, "pod \"zz\" does not exist".into())
    );

    // Followed to the container's end.
    let mut sender = door.connect(admin).await;
    let request = Request::get(format!("{logs}?follow=true&tailLines=1"))
        .header("host", "n")
        .body(Empty::new())
        .unwrap();
    let mut answer = sender.send_request(request).await.unwrap();
    let piece =
        |frame: hyper::body::Frame<Bytes>| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
    assert_eq!(piece(answer.body_mut().frame().await.unwrap().unwrap()), "two\n");
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    std::io::Write::write_all(&mut file, b"2024-01-02T03:04:07Z stdout F three\n").unwrap();
    assert_eq!(piece(answer.body_mut().frame().await.unwrap().unwrap()), "three\n");
    node.cri.exit("c", 0);
    let rest = tokio::time::timeout(Duration::from_secs(10), answer.body_mut().frame()).await.unwrap();
    assert!(rest.is_none(), "the log ends with its container");

    let (code, summary) = door.get(admin, "/stats/summary", None).await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((code, summary["node"]["nodeName"].as_str()), (200, Some("node")));
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    let (_, metrics) = door.get(admin, "/metrics/resource", None).await;
    assert!(metrics.contains("node_cpu_usage_seconds_total ") && metrics.contains("resource_scrape_error 0"));
    node.stop().await;
}

#[tokio::test]
async fn exec_is_tunnelled_to_the_runtime() {
    let (node, door) = start().await;
    node.pod("p", json!({"containers": [{"name": "c", "image": "x:1"}]}));
    node.wait("p", "ready", is_ready).await;
    let mut sender = door.connect(Some("admin")).await;
    let request = Request::get("/exec/ns/p/c?command=echo&command=a%20b&input=1&output=1")
        .header("host", "n")
        .header("connection", "upgrade")
        .header("upgrade", "test-echo")
        .body(Empty::new())
        .unwrap();
    let mut answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["upgrade"], "test-echo");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
    assert!(node.cri.calls().contains(&"exec-stream echo|a b".to_owned()), "{:?}", node.cri.calls());
    assert_eq!(door.get(Some("admin"), "/exec/ns/p/zz?command=x&output=1", None).await.0, 404);
    assert_eq!(door.get(Some("admin"), "/exec/ns/p/c?command=x", None).await.0, 400);
    node.stop().await;
}
