//! Kubernetes' own libraries. <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries>

pub mod authz;
pub mod cidr;
pub mod format;
pub mod quantity;
pub mod semver;
pub mod url;
