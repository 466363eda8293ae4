//! ServiceCIDRs: ready as long as they live, and kept until no Service address would be left outside of all.

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
