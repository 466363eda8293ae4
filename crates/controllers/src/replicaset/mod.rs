//! ReplicaSet and ReplicationController: as many pods as asked for.

mod act;
mod decide;
mod set;
#[cfg(test)]
mod tests;

pub(crate) use act::{CONTROLLER, REPLICATION_CONTROLLER};
pub(crate) use decide::less_missed;
