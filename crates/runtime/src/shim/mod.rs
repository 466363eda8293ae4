//! The agent's side of the pod shim: starting it and talking to it. The shim itself is in `shim/`.

mod client;
mod start;

pub use client::{Exit, ShimClient, ShimError, Told, Watch, connect_to};
pub use start::{Namespaces, StartError, install, running_in, start};
