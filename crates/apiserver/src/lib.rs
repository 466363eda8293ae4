//! The Kubernetes API server: one generic pipeline over objects that are data with a schema, for all kinds.
//!
//! Entry type: [`ApiServer`], made from a [`Config`] and a [`store::Store`]. Front (TLS, HTTP, routing), then
//! authentication, authorization, admission, registry, watch cache, store. What this crate deliberately does not know:
//! kinds by name (what is special about one is a strategy in `resources`, or a small file in `subresource`), where
//! settings and certificates come from, how the store keeps its bytes.

mod admission;
mod aggregation;
mod audit;
mod authn;
mod authz;
mod bootstrap;
mod cache;
mod codec;
pub mod config;
mod crd;
mod discovery;
mod encryption;
mod expression;
mod flow;
mod front;
pub mod gates;
mod identity;
mod kinds;
mod metrics;
mod registry;
mod reload;
mod remote;
mod removed;
mod select;
mod server;
mod subresource;

pub use authn::User;
pub use config::Config;
pub use front::Body;
pub use kinds::check_runtime_config;
pub use server::{ApiServer, Error, Service};
