//! Requests that lead on to a kubelet, a pod or a Service: logs, exec, attach, port-forward, proxy. What an upgraded
//! connection carries is copied, never interpreted.

pub mod client;
mod node;
mod options;
mod proxy;
mod rewrite;

pub use client::{Anybody, Post, post_json};
pub use node::{answer as answer_pod, log};
pub use proxy::answer as answer_proxy;
