//! Port-forward over WebSocket channels: for the n-th port, channel 2n carries data and 2n+1 errors. Each
//! begins with the port's number, two bytes little endian.

use std::path::PathBuf;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::websocket::{Protocol, socket};

/// Where a pod's ports are: its network namespace, or this one.
#[derive(Clone, Debug)]
pub struct Target {
    pub sandbox: String,
    pub netns: Option<PathBuf>,
}

impl Target {
    /// Connects to a port on the pod's loopback.
    pub async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let netns = self.netns.clone();
        let connect = move || -> std::io::Result<std::net::TcpStream> {
            if let Some(netns) = netns {
                let netns = std::fs::File::open(netns)?;
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&netns), Some(kind))?;
            }
            std::net::TcpStream::connect(("127.0.0.1", port))
                .or_else(|error| std::net::TcpStream::connect(("::1", port)).map_err(|_| error))
        };
        // A thread of its own, ended after: it has left our namespace.
        let (say, connected) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("port-forward".to_owned())
            .spawn(move || drop(say.send(connect())))
            .map_err(|error| error.to_string())?;
        let stream = match connected.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(format!(
                    "failed to connect to localhost:{port} inside namespace {:?}, IPv4: dial tcp4 127.0.0.1:{port}: {error}",
                    self.sandbox
                ));
            }
            Err(_) => return Err("the connecting thread has ended".to_owned()),
        };
        stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream))
            .map_err(|error| error.to_string())
    }
}

pub async fn serve<S>(io: S, protocol: Protocol, target: Target, ports: Vec<u16>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = socket(io).await.split();
    let (say, mut outgoing) = mpsc::channel::<Message>(16);
    let mut inputs = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        let (input, from_client) = mpsc::channel::<bytes::Bytes>(16);
        inputs.push(input);
        let (target, say) = (target.clone(), say.clone());
        tokio::spawn(async move {
            for channel in [channel, channel + 1] {
                let _ = say.send(protocol.encode(channel, &port.to_le_bytes())).await;
            }
            match target.connect(port).await {
                Ok(connection) => carry(connection, protocol, channel, from_client, &say).await,
                Err(text) => {
                    let text = format!(
                        "an error occurred forwarding {port} -> {port}: error forwarding port {port} to pod: {text}"
                    );
                    let _ = say.send(protocol.encode(channel + 1, text.as_bytes())).await;
                }
            }
        });
    }
    drop(say);
    loop {
        tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => if sink.send(message).await.is_err() { break },
                None => break,
            },
            message = stream.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(message)) => {
                    if let Some((channel, bytes)) = protocol.decode(message)
                        && let Some(input) = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0)
                    {
                        let _ = input.send(bytes).await;
                    }
                }
            },
        }
    }
    let _ = sink.close().await;
}

async fn carry(
    connection: TcpStream,
    protocol: Protocol,
    channel: u8,
    mut from_client: mpsc::Receiver<bytes::Bytes>,
    say: &mpsc::Sender<Message>,
) {
    let (mut read, mut write) = connection.into_split();
    let upload = async {
        while let Some(bytes) = from_client.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    };
    let download = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n) = read.read(&mut buffer).await {
            if n == 0 || say.send(protocol.encode(channel, &buffer[..n])).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = download => {}, () = async { upload.await; std::future::pending::<()>().await } => {} }
}
