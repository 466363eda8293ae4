//! Disruption: how many pods a PodDisruptionBudget lets go now.

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
