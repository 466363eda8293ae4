use super::*;
use crate::streaming::session::{Control, Stdio};
use futures_util::future::BoxFuture;

#[test]
fn sizes_come_in_pieces() {
    let mut bytes = br#"{"Width":80,"Height":24}
{"Width":1"#
        .to_vec();
    assert_eq!(take_sizes(&mut bytes), [FromClient::Resize { rows: 24, cols: 80 }]);
    bytes.extend_from_slice(br#"00,"Height":30}"#);
    assert_eq!(take_sizes(&mut bytes), [FromClient::Resize { rows: 30, cols: 100 }]);
    let mut bytes = b"nonsense".to_vec();
    assert_eq!(take_sizes(&mut bytes), []);
    assert!(bytes.is_empty());
}

struct NoControl;

impl Control for NoControl {
    fn resize(&self, _: u16, _: u16) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    fn abandoned(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Opens streams and collects what comes on each until the connection ends.
async fn client(
    io: tokio::io::DuplexStream,
    opens: &[(u32, &[(&str, &str)])],
    sends: &[(u32, &[u8], bool)],
) -> HashMap<u32, Vec<u8>> {
    let (read, mut write) = tokio::io::split(io);
    let mut writer = Writer::new();
    for (stream, headers) in opens {
        write.write_all(&writer.open(*stream, headers)).await.unwrap();
    }
    for (stream, bytes, fin) in sends {
        write.write_all(&frame::data(*stream, bytes, *fin)).await.unwrap();
    }
    let mut incoming = Incoming { io: read, buffer: BytesMut::new(), reader: Reader::new() };
    let mut all: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut ended = 0;
    while let Some(frame) = incoming.next().await {
        match frame {
            Frame::Data { stream, bytes, fin } => {
                all.entry(stream).or_default().extend_from_slice(&bytes);
                ended += usize::from(fin);
            }
            Frame::GoAway => break,
            _ => {}
        }
        if ended == opens.len() {
            break;
        }
    }
    all
}

#[tokio::test]
async fn a_session_over_spdy() {
    // A process that says what it is told.
    let (stdin, echo_in) = std::io::pipe().map(|(read, write)| (write, read)).unwrap();
    let (echo_out, stdout) = std::io::pipe().map(|(read, write)| (write, read)).unwrap();
    let echo = std::thread::spawn(move || std::io::copy(&mut { echo_in }, &mut { echo_out }).unwrap());
    let nonblocking = |fd: std::os::fd::OwnedFd| {
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        fd
    };
    use tokio::net::unix::pipe;
    let stdio = Stdio {
        stdin: Some(pipe::Sender::from_owned_fd(nonblocking(stdin.into())).unwrap()),
        stdout: Some(pipe::Receiver::from_owned_fd(nonblocking(stdout.into())).unwrap()),
        stderr: None,
    };
    let (say_ended, ended) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        echo.join().unwrap();
        say_ended.send(()).unwrap();
    });
    let ended = Box::pin(async move {
        ended.await.unwrap();
        Ok(Some(4))
    });
    let process = Process { stdio, control: Box::new(NoControl), ended, until_eof: false };
    let (ours, theirs) = tokio::io::duplex(1024);
    let serving = tokio::spawn(serve(theirs, "v4.channel.k8s.io", Ok(process)));
    let opens: [(u32, &[(&str, &str)]); 3] =
        [(1, &[("streamtype", "error")]), (3, &[("streamtype", "stdin")]), (5, &[("streamtype", "stdout")])];
    let got = client(ours, &opens, &[(3, b"hello ", false), (3, b"you", true)]).await;
    assert_eq!(got[&5], b"hello you");
    let status: serde_json::Value = serde_json::from_slice(&got[&1]).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "4");
    serving.await.unwrap();
}

#[tokio::test]
async fn ports_over_spdy() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        stream.write_all(format!("heard {text}").as_bytes()).await.unwrap();
    });
    let target = Target { sandbox: "here".into(), netns: None };
    let (ours, theirs) = tokio::io::duplex(1024);
    let serving = tokio::spawn(port_forward(theirs, target));
    let opens: [(u32, &[(&str, &str)]); 4] = [
        (1, &[("streamtype", "error"), ("port", &port), ("requestid", "0")]),
        (3, &[("streamtype", "data"), ("port", &port), ("requestid", "0")]),
        (5, &[("streamtype", "error"), ("port", "1"), ("requestid", "1")]),
        (7, &[("streamtype", "data"), ("port", "1"), ("requestid", "1")]),
    ];
    let got = client(ours, &opens, &[(3, b"this", true)]).await;
    assert_eq!((got[&3].as_slice(), got[&1].as_slice()), (b"heard this".as_slice(), b"".as_slice()));
    assert!(String::from_utf8_lossy(&got[&5]).contains("error forwarding port 1 to pod"));
    serving.await.unwrap();
}
