//! admissionregistration.k8s.io.

pub(crate) mod binding;
pub mod expressions;
pub(crate) mod matching;
pub(crate) mod policy;
pub(crate) mod webhook;
