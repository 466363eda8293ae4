//! autoscaling.

pub(crate) mod horizontalpodautoscaler;
mod metrics;
