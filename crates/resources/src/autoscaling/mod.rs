//! autoscaling.

pub(crate) mod horizontalpodautoscaler;
mod metrics;
mod v1;
