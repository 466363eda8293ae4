//! kubectl as a library: [`Kubectl`] is its command line, [`Kubectl::run`] does what it says.
//!
//! A first cut: the verbs of every day, without those of `kubectl`'s long tail (see `verbs`). Output and exit status
//! are kubectl's. What this crate deliberately does not know: the server's insides; it is a client like any other.

mod api;
mod discovery;
mod error;
mod jsonpath;
mod manifest;
mod output;
mod verbs;

pub use error::Error;
pub use verbs::Kubectl;
