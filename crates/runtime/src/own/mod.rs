//! Our own runtime: sandboxes and containers made of this machine's namespaces, cgroups and overlayfs.
//!
//! [`Runtime`] implements both CRI services. What must outlive the agent is on disk and in the pods' shims;
//! [`Runtime::open`] finds it again.

mod container;
mod devices;
mod events;
mod exec;
mod filter;
mod images;
mod lifecycle;
mod mounts;
mod resources;
mod sandbox;
mod seccomp;
mod service;
mod signals;
mod spec;
mod state;
mod stats;
mod streams;
mod users;

pub use lifecycle::{Config, OpenError, Runtime};

pub(crate) use spec::ALL_CAPABILITIES;
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
