//! Kubernetes' own libraries.

pub mod cidr;
pub mod format;
pub mod semver;
pub mod url;
