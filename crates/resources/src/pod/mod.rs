//! What pods, pod templates and everything made of pods share.

pub(crate) mod columns;
pub(crate) mod defaults;
pub(crate) mod qos;
pub(crate) mod resources;
