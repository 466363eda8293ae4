//! Exec, attach and port-forward through the streaming server, as a client sees them.

use futures_util::{SinkExt, StreamExt};
use runtime::cri::{RuntimeService, v1};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::world::{World, shell};

async fn connect(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let mut request = url.replacen("http://", "ws://", 1).into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    let address = format!("{}:{}", request.uri().host().unwrap(), request.uri().port_u16().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

fn frame(channel: u8, bytes: &[u8]) -> Message {
    Message::binary([&[channel], bytes].concat())
}

/// All that comes until the end, by channel.
async fn collect(mut socket: WebSocketStream<TcpStream>) -> [String; 4] {
    let mut all: [Vec<u8>; 4] = Default::default();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message {
            all[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
    }
    all.map(|bytes| bytes.into_iter().map(char::from).collect())
}

async fn exec(world: &World, id: &str, line: &str, tty: bool) -> String {
    let request = v1::ExecRequest {
        container_id: id.to_owned(),
        cmd: vec!["sh".into(), "-c".into(), line.into()],
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    world.runtime.exec(request).await.unwrap().url
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_a_websocket() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("exec").await;
    let id = world.run(&sandbox, shell("main", "sleep 1000")).await;

    let url = exec(&world, &id, "cat; echo err >&2; exit 3", false).await;
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    // More than all pipes hold, so that reading and writing must go on at once.
    let big = "x".repeat(1_000_000) + "\n";
    socket.send(frame(0, big.as_bytes())).await.unwrap();
    socket.send(frame(255, &[0])).await.unwrap();
    let [_, out, err, status] = collect(socket).await;
    assert_eq!((out.len(), err.as_str()), (big.len(), "err\n"));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");

    let url = exec(&world, &id, "stty size; tty; read x; stty size; echo got $x", true).await;
    let mut socket = connect(&url, "v4.channel.k8s.io").await;
    socket.send(frame(4, br#"{"Width":101,"Height":33}"#)).await.unwrap();
    socket.send(frame(0, b"word\n")).await.unwrap();
    let [_, out, _, status] = collect(socket).await;
    assert!(
        out.contains("33 101") && out.contains("/dev/pts/0") && out.contains("got word"),
        "{out} {status}"
    );
    assert!(status.contains("Success"), "{status}");

    // Good once only.
    let address = url.replacen("http://", "", 1);
    let (address, path) = address.split_once('/').unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let request = format!("ws://{address}/{path}").into_client_request().unwrap();
    assert!(tokio_tungstenite::client_async(request, stream).await.is_err());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_to_a_container() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("attach").await;
    let config = v1::ContainerConfig {
        stdin: true,
        stdin_once: true,
        ..shell("main", "while read line; do echo heard $line; done; echo over >&2")
    };
    let id = world.run(&sandbox, config).await;
    let request =
        v1::AttachRequest { container_id: id.clone(), stdin: true, stdout: true, stderr: true, tty: false };
    let url = world.runtime.attach(request).await.unwrap().url;
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    socket.send(frame(0, b"one\ntwo\n")).await.unwrap();
    socket.send(frame(255, &[0])).await.unwrap();
    let [_, out, err, _] = collect(socket).await;
    assert_eq!((out.as_str(), err.as_str()), ("heard one\nheard two\n", "over\n"));
    assert_eq!(world.ended(&id).await.exit_code, 0);
    assert!(world.log(&id).await.contains("stdout F heard two"));

    let config =
        v1::ContainerConfig { stdin: true, tty: true, ..shell("tty", "tty; read x; echo tty-$x; sleep 0.2") };
    let id = world.run(&sandbox, config).await;
    let request =
        v1::AttachRequest { container_id: id.clone(), stdin: true, stdout: true, stderr: false, tty: true };
    let url = world.runtime.attach(request).await.unwrap().url;
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    socket.send(frame(0, b"hello\n")).await.unwrap();
    let [_, out, ..] = collect(socket).await;
    assert!(out.contains("tty-hello"), "{out}");
    world.ended(&id).await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("ports").await;
    let id = world.run(&sandbox, shell("main", "while true; do echo pong | nc -l -p 8080; done")).await;
    while !world.sh(&id, "cat /proc/net/tcp /proc/net/tcp6").await.contains(":1F90") {
        tokio::task::yield_now().await;
    }
    let request = v1::PortForwardRequest { pod_sandbox_id: sandbox.0.clone(), port: vec![8080] };
    let url = world.runtime.port_forward(request).await.unwrap().url;
    let [data, error, ..] = collect(connect(&url, "v4.channel.k8s.io").await).await;
    assert_eq!((data.as_str(), error.as_str()), ("\u{90}\u{1f}pong\n", "\u{90}\u{1f}"));

    let request = v1::PortForwardRequest { pod_sandbox_id: sandbox.0.clone(), port: vec![81] };
    let url = world.runtime.port_forward(request).await.unwrap().url;
    let [_, error, ..] = collect(connect(&url, "v4.channel.k8s.io").await).await;
    assert!(error.contains("refused"), "{error}");
    world.close().await;
}
