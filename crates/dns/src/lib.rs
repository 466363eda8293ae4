//! Cluster DNS: Services and pods by name, other names from the resolvers of the node.
//!
//! [`answer`] decides purely, from a [`Zone`] (a view of Services, EndpointSlices and Namespaces) and a question;
//! [`wire`] reads and writes messages; the transports and the forwarder are apart from both. [`run`] ties them
//! together and makes the cluster's `kube-dns` Service lead here.
//!
//! It does not know pods: their names come from EndpointSlices, or from the address in the name itself.
//!
//! Source: the Kubernetes DNS specification 1.1.0
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>), RFC 1035, 2308, 2782, 6891.

mod cache;
mod clients;
mod forward;
mod run;
mod serve;
mod service;
mod stats;
pub mod wire;
mod zone;

pub use forward::{StubDomain, Upstreams};
pub use run::{Config, Error, run};
pub use stats::Stats;
pub use zone::{Answer, Zone, answer};
