//! scheduling.k8s.io.

mod group;
pub(crate) mod podgroup;
pub(crate) mod priorityclass;
pub(crate) mod workload;
