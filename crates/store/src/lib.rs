//! The versioned key-value store under the API server: etcd v3 semantics behind one port.
//!
//! Entry type: [`Store`]. Engines implement it: [`memory::Memory`], [`embedded::open`]; `battery` (feature `battery`) is
//! the set of behaviour and race tests that every engine runs. What this crate deliberately does not know: what a key
//! or a value means.

#[cfg(any(test, feature = "battery"))]
pub mod battery;
pub mod embedded;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(feature = "face")]
pub mod face;
pub mod memory;
mod mvcc;
mod port;
#[cfg(any(test, feature = "battery"))]
pub mod robustness;
pub mod snapshot;
#[cfg(all(any(feature = "etcd", feature = "face"), not(feature = "battery")))]
mod wire;
// Tests ask in the messages themselves.
#[cfg(all(any(feature = "etcd", feature = "face"), feature = "battery"))]
pub mod wire;

pub use port::*;
