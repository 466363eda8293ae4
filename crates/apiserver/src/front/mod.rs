//! HTTP: from a connection to a routed request with an identity, and back.

pub mod body;
pub mod connection;
pub mod gzip;
pub mod health;
pub mod info;
pub mod listen;
pub mod negotiate;
pub mod pipeline;
pub mod query;
pub mod respond;
pub mod routes;
pub mod websocket;
pub mod zpages;

pub use body::{Body, Incoming};
pub use info::RequestInfo;
pub use listen::ClientAddress;
pub use query::Query;
