//! The cluster's secrets: certificate authorities, certificates, service-account keys and tokens, kubeconfigs.
//!
//! Entry types: [`Authority`] issues certificates, [`Signer`] and [`Verifier`] make and check service-account
//! tokens. Private files are written whole, fsynced and with mode 0600 ([`files`]).
//! What this crate deliberately does not know: who is allowed what, the API, the network.

mod authority;
pub mod files;
mod identity;
mod keys;
pub mod kubeconfig;
mod request;
pub mod token;

pub use authority::{Authority, Issued, Request, Usage};
pub use identity::{Identity, identity};
pub use keys::{PrivateKey, PublicKey};
pub use request::{Asked, asked};
pub use token::{Signer, Verifier};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// A file exists but does not hold what it should.
    #[error("{path}: {why}")]
    Damaged { path: String, why: String },
    #[error("certificate: {0}")]
    Certificate(String),
    #[error("key: {0}")]
    Key(String),
}
