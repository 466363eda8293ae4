//! ReplicaSet: as many pods as asked for.

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
pub(crate) use decide::less_missed;
