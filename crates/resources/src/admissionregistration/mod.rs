//! admissionregistration.k8s.io.
//!
//! CEL expressions are only looked at for being there: compiling them is the API server's.

pub(crate) mod binding;
pub(crate) mod matching;
pub(crate) mod policy;
pub(crate) mod webhook;
