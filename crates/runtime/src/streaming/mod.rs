//! The streaming server: exec, attach and port-forward by URL, as CRI has it.
//!
//! `Exec`, `Attach` and `PortForward` answer a URL with a token on loopback; whoever speaks for the client
//! (the kubelet) tunnels bytes to it. A token is good once, for a minute. Protocols: WebSocket with the
//! `channel.k8s.io` family, SPDY/3.1, and SPDY inside WebSocket for port-forward. What runs in the pod is behind [`Process`] and [`Target`], which `own` makes.

mod portforward;
mod server;
mod session;
mod spdy;
mod websocket;

pub use portforward::Target;
pub use server::{Request, Server};
pub use session::{Control, Process, Stdio};
