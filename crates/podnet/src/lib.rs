//! Pod networking: addresses from the node's pod CIDRs, a veth pair per pod on one bridge, host ports, outbound
//! masquerade, routes to other nodes.
//!
//! The entry type is [`Network`]; it implements the runtime's port `PodNetwork`. [`Cni`] implements it
//! with CNI plugins instead. Pods have host routes only
//! (`/32`, `/128`) towards the bridge's address: every packet between pods is routed by the host, so Service
//! translation and network policy see it without `br_netfilter`.
//!
//! What it deliberately does not know: Services (that is `proxy`), pods' containers. The node's own CIDRs are
//! told to it; [`nodes::run`] follows the other nodes.

mod addresses;
mod bridge;
mod cni;
mod network;
pub mod nodes;
mod peers;
mod ports;
mod rules;

pub use addresses::{Entry, HostPort};
pub use cni::Cni;
pub use network::{Config, Error, Network};
pub use peers::{Overlay, Peer};
