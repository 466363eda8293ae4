//! Clients that are slow, silent, greedy or rude, and the server's end.

use std::time::{Duration, Instant};

use apiserver::Config;
use apiserver::config::{Access, Serving};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::wire::{Wire, until};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ADMIN: &str = "t0ken";

/// A server that takes a token of an administrator.
async fn server(config: Config) -> (Wire, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens.csv");
    std::fs::write(&tokens, format!("{ADMIN},admin,1,system:masters\n")).unwrap();
    let access = Access { token_auth_file: Some(tokens), ..config.access.clone() };
    (Wire::start(Config { access, ..config }).await, dir)
}

async fn with(serving: Serving) -> (Wire, tempfile::TempDir) {
    server(Config { serving, ..Config::default() }).await
}

/// All that comes until the connection ends.
async fn rest(stream: &mut TlsStream<TcpStream>) -> String {
    let mut all = Vec::new();
    // a connection may end without a word of TLS
    let _ =
        tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut all)).await.expect("an end");
    String::from_utf8_lossy(&all).into_owned()
}

fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n{more}\r\n")
}

async fn create(wire: &Wire, name: &str, size: usize) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"a": "x".repeat(size)}});
    let (code, answer) = wire.send(ADMIN, "POST", MAPS, map).await;
    assert_eq!(code, 201, "{answer}");
}

/// The server ends at once: no connection holds it.
async fn ends_at_once(wire: &mut Wire) {
    let began = Instant::now();
    wire.shutdown.cancel();
    wire.task.take().unwrap().await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "something held it for {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_come_in_time_or_not_at_all() {
    let header = Duration::from_millis(1500);
    let (wire, _dir) = with(Serving { header, ..Serving::default() }).await;
    let mut stream = wire.connect("http/1.1").await;
    for byte in head("GET", "/version", "Connection: close\r\n").bytes() {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"), "byte by byte is fast enough");
    let mut stream = wire.connect("http/1.1").await;
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: loc").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_idle_are_closed() {
    let idle = Duration::from_millis(1500);
    let (wire, _dir) = with(Serving { idle, ..Serving::default() }).await;
    let mut streams = Vec::new();
    for n in 0..120 {
        streams.push(wire.connect(if n % 2 == 0 { "http/1.1" } else { "h2" }).await);
    }
    // one that was used
    let mut used = wire.connect("http/1.1").await;
    used.write_all(head("GET", "/version", "").as_bytes()).await.unwrap();
    assert!(rest(&mut used).await.starts_with("HTTP/1.1 200 OK\r\n"));
    // one that is in use
    let mut watch = wire.connect("http/1.1").await;
    watch.write_all(head("GET", &format!("{MAPS}?watch=true"), "").as_bytes()).await.unwrap();
    for stream in &mut streams {
        rest(stream).await;
    }
    create(&wire, "late", 1).await;
    let mut seen = String::new();
    while !seen.contains("\"late\"") {
        let mut block = [0; 4096];
        let n = watch.read(&mut block).await.unwrap();
        assert!(n > 0, "the watch ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&block[..n]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_come_in_time_or_are_answered_without() {
    let (wire, _dir) =
        server(Config { request_timeout: Duration::from_millis(800), ..Config::default() }).await;
    let timeout = json!({"metadata": {}, "status": "Failure",
        "message": "Timeout: request did not complete within the allotted timeout", "reason": "Timeout",
        "details": {}, "code": 504});
    for query in ["", "?timeout=300ms", "?timeout=9h", "?timeout=0s"] {
        let mut stream = wire.connect("http/1.1").await;
        let more = "Content-Type: application/json\r\nContent-Length: 1000\r\nConnection: close\r\n";
        stream.write_all(head("POST", &format!("{MAPS}{query}"), more).as_bytes()).await.unwrap();
        stream.write_all(b"{\"kind\":").await.unwrap();
        stream.flush().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{query}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), timeout, "{query}");
    }
    let (code, answer) = wire.send(ADMIN, "GET", &format!("{MAPS}?timeout=5"), Value::Null).await;
    assert_eq!(
        (code, &answer["message"]),
        (400, &json!("invalid timeout specified in the request URL - time: missing unit in duration \"5\""))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_gone() {
    let stall = Duration::from_millis(500);
    let (mut wire, _dir) = with(Serving { stall, ..Serving::default() }).await;
    let watch = head("GET", &format!("{MAPS}?watch=true"), "");
    let mut silent = wire.connect("http/1.1").await;
    silent.write_all(watch.as_bytes()).await.unwrap();
    let mut reader = wire.connect("http/1.1").await;
    reader.write_all(watch.as_bytes()).await.unwrap();
    let reading = tokio::spawn(async move {
        let (mut tail, mut block) = (String::new(), vec![0; 1 << 20]);
        while !tail.contains("\"m29\"") {
            let n = reader.read(&mut block).await.unwrap();
            assert!(n > 0, "the watch that is read ended");
            tail = tail.split_off(tail.len().saturating_sub(300));
            tail.push_str(&String::from_utf8_lossy(&block[..n]));
        }
    });
    // more than sockets hold
    for n in 0..30 {
        create(&wire, &format!("m{n}"), 800_000).await;
    }
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the other one gets all").unwrap();
    let mut list = wire.connect("http/1.1").await;
    list.write_all(head("GET", MAPS, "").as_bytes()).await.unwrap();
    list.flush().await.unwrap();
    assert_eq!(wire.send(ADMIN, "GET", "/version", Value::Null).await.0, 200);
    ends_at_once(&mut wire).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused() {
    let (wire, _dir) = server(Config::default()).await;
    let mut stream = wire.connect("http/1.1").await;
    let _ = stream
        .write_all(head("GET", "/version", &format!("X: {}\r\n", "y".repeat(2 << 20))).as_bytes())
        .await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
    let mut stream = wire.connect("http/1.1").await;
    stream.write_all(head("GET", "/version", "Connection: close\r\n").as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200"));
    for kind in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
        let large = bytes::Bytes::from(vec![b' '; 3 * 1024 * 1024 + 1]);
        let request = http::Request::post(MAPS)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {ADMIN}"))
            .header("content-type", kind)
            .body(http_body_util::Full::new(large))
            .unwrap();
        let answer = wire.ask(request).await;
        let status: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        assert_eq!(answer.status(), 413, "{kind} {status}");
        assert_eq!(status["message"], "Request entity too large: limit is 3145728", "{kind}");
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// GET https://localhost/version
const HEADERS: &[u8] = b"\x82\x87\x04\x08/version\x41\x09localhost";

async fn rude(wire: &Wire) -> TlsStream<TcpStream> {
    let mut stream = wire.connect("h2").await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let (wire, _dir) = server(Config::default()).await;
    let (mut reading, mut writing) = tokio::io::split(rude(&wire).await);
    let sending = tokio::spawn(async move {
        for n in 0..200_000u32 {
            let stream = 2 * n + 1;
            let mut both = frame(1, 4 | 1, stream, HEADERS);
            both.extend(frame(3, 0, stream, &8u32.to_be_bytes()));
            if writing.write_all(&both).await.is_err() {
                return n;
            }
        }
        200_000
    });
    let mut all = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(60), reading.read_to_end(&mut all)).await.expect("an end");
    assert!(sending.await.unwrap() < 200_000);
    assert_eq!(wire.send(ADMIN, "GET", "/version", Value::Null).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_end_end_the_connection() {
    let (wire, _dir) = server(Config::default()).await;
    let (mut reading, mut writing) = tokio::io::split(rude(&wire).await);
    let sending = tokio::spawn(async move {
        let mut part = b"\x00\x01x\x7f\x81\x7d".to_vec();
        part.resize(6 + 127 + 16001, b'y');
        let mut sent = 0usize;
        let mut next = frame(1, 1, 1, HEADERS);
        while sent < 256 << 20 && writing.write_all(&next).await.is_ok() {
            sent += next.len();
            next = frame(9, 0, 1, &part);
        }
        sent
    });
    let mut all = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(60), reading.read_to_end(&mut all)).await.expect("an end");
    let sent = sending.await.unwrap();
    assert!(sent < 64 << 20, "{sent} bytes of headers were taken");
    assert_eq!(wire.send(ADMIN, "GET", "/version", Value::Null).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_sent_elsewhere_now_and_then() {
    let (wire, _dir) = with(Serving { goaway_chance: 1.0, ..Serving::default() }).await;
    let io = TokioIo::new(wire.connect("h2").await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(TokioExecutor::new(), io)
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/version").body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), connection).await.expect("an end").unwrap().unwrap();
    // not those of HTTP/1
    let mut stream = wire.connect("http/1.1").await;
    for _ in 0..2 {
        stream.write_all(head("HEAD", "/version", "").as_bytes()).await.unwrap();
        let mut block = [0; 4096];
        let n = stream.read(&mut block).await.unwrap();
        assert!(n > 0 && !String::from_utf8_lossy(&block[..n]).to_lowercase().contains("connection: close"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_announced_and_ends_watches() {
    let shutdown_delay = Duration::from_secs(2);
    let (mut wire, _dir) = with(Serving { shutdown_delay, ..Serving::default() }).await;
    let mut watch = wire.connect("http/1.1").await;
    watch.write_all(head("GET", &format!("{MAPS}?watch=true"), "").as_bytes()).await.unwrap();
    create(&wire, "a", 1).await;
    assert_eq!(wire.send(ADMIN, "GET", "/readyz", Value::Null).await.0, 200);
    let began = Instant::now();
    wire.shutdown.cancel();
    until("it is not ready any more", || async {
        let (code, text) = wire.send(ADMIN, "GET", "/readyz", Value::Null).await;
        let told = text.as_str().unwrap_or("").contains("[-]shutdown failed");
        if code == 500 && told { Ok(()) } else { Err(format!("{code} {text}")) }
    })
    .await;
    assert_eq!(wire.send(ADMIN, "GET", "/livez", Value::Null).await.0, 200);
    create(&wire, "b", 1).await;
    let seen = rest(&mut watch).await;
    assert!(began.elapsed() >= shutdown_delay, "requests are taken for a while");
    assert!(seen.contains("\"name\":\"b\"") && seen.ends_with("0\r\n\r\n"), "it ends in order: {seen}");
    ends_at_once(&mut wire).await;
    assert!(TcpStream::connect(wire.address).await.is_err());
}
