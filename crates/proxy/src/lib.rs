//! Services to packet rules.
//!
//! [`run`] keeps the kernel's nftables equal to what Services and EndpointSlices say. The decisions are pure:
//! [`endpoints`] says which endpoints a Service uses on this node, [`render`] which rules that makes; [`Rules`]
//! holds the whole and gives out what changed as one atomic batch.
//!
//! There is no chain per Service and none per endpoint: Services are elements of maps, chains are shared by all
//! Services with the same number of endpoints and the same policies. Ten thousand Services are as fast as ten, and
//! a change costs only the elements that differ.
//!
//! It does not know how pods get their addresses, nor what is in them.
//!
//! Source: <https://kubernetes.io/docs/reference/networking/virtual-ips/>, KEP-3866.

mod affinity;
mod base;
mod chains;
mod conntrack;
pub mod endpoints;
mod health;
mod objects;
mod render;
mod rules;
mod run;

pub use objects::{Endpoint, Port, Protocol, Service};
pub use render::{Node, render};
pub use rules::Rules;
pub use run::{Config, Error, remove, run};

#[cfg(test)]
mod tests;
