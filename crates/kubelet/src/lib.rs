//! The node agent: pod workers, probes, volumes, status, node API.
//!
//! It gets pods from the API (and static ones from a directory) and brings about what they say through a container
//! runtime that speaks CRI. What it deliberately does not know: how a container is made, how a pod gets its address,
//! who decides which pod runs where.

mod agent;
pub mod amounts;
pub mod backoff;
pub mod cri;
pub mod decide;
pub mod dns;
pub mod env;
pub mod logs;
pub mod observed;
pub mod pod;
pub mod probe;
pub mod qos;
pub mod quantity;
pub mod refs;
mod server;
pub mod status;
pub mod volumes;
pub mod worker;

pub use agent::{Config, Error, Server, run};
pub use server::TlsError;
