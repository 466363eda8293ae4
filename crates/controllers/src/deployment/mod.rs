//! Deployment: rolls a pod template out through ReplicaSets.

mod act;
mod decide;
mod revision;
mod scale;
mod status;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
