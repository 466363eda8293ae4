//! The default profile's plugins, in the order their filters run.

mod affinity;
mod fit;
mod images;
pub mod interpod;
mod named;
mod ports;
pub mod spread;
mod taints;
#[cfg(test)]
mod tests;

use crate::framework::Plugin;

pub const ALL: &[Plugin] = &[
    named::UNSCHEDULABLE,
    named::NODE_NAME,
    taints::PLUGIN,
    affinity::PLUGIN,
    ports::PLUGIN,
    fit::PLUGIN,
    spread::PLUGIN,
    interpod::PLUGIN,
    fit::BALANCED,
    images::PLUGIN,
];
