//! storagemigration.k8s.io.

pub(crate) mod storageversionmigration;
