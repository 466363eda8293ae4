//! Health checks for load balancers: `healthCheckNodePort` answers 200 while this node has endpoints, else 503.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The servers now listening.
#[derive(Default)]
pub(crate) struct Health {
    servers: BTreeMap<u16, Server>,
}

struct Server {
    service: Arc<str>,
    endpoints: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Health {
    /// Listens on the port for the Service with so many endpoints here; `None` ends it.
    pub(crate) async fn set(&mut self, service: &Arc<str>, wanted: Option<(u16, usize)>) {
        let port = wanted.map(|(port, _)| port);
        self.servers.retain(|at, server| {
            let keep = server.service != *service || Some(*at) == port;
            if !keep {
                server.task.abort();
            }
            keep
        });
        let Some((port, count)) = wanted else { return };
        if let Some(server) = self.servers.get(&port) {
            server.endpoints.send_replace(count);
            return;
        }
        let listener = match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await,
        };
        match listener {
            Ok(listener) => {
                let (endpoints, watched) = watch::channel(count);
                let task = tokio::spawn(serve(listener, service.clone(), watched));
                self.servers.insert(port, Server { service: service.clone(), endpoints, task });
            }
            Err(error) => tracing::error!(%service, port, %error, "health check port"),
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.servers.values().for_each(|server| server.task.abort());
    }
}

async fn serve(listener: TcpListener, service: Arc<str>, endpoints: watch::Receiver<usize>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answer = answer(&service, *endpoints.borrow());
        tokio::spawn(async move {
            // A client that sends nothing must not hold the task for ever.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), reply(stream, answer)).await;
        });
    }
}

async fn reply(mut stream: TcpStream, answer: String) -> std::io::Result<()> {
    let mut seen = Vec::new();
    let mut chunk = [0; 1024];
    while !seen.ends_with(b"\r\n\r\n") && seen.len() < 16 * 1024 {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => seen.extend_from_slice(&chunk[..n]),
        }
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn answer(service: &str, count: usize) -> String {
    let (namespace, name) = service.split_once('/').unwrap_or(("", service));
    let status = if count > 0 { "200 OK" } else { "503 Service Unavailable" };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {count}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
