//! Job: runs pods until enough have succeeded. <https://kubernetes.io/docs/concepts/workloads/controllers/job/>
//!
//! A finished pod carries a finalizer until it has been counted: its uid goes into the status, then the finalizer goes,
//! then the uid turns into a count. So every pod counts once, whatever ends in between (KEP-2307).

mod act;
mod decide;
mod indexes;
mod policy;
mod status;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use act::CONTROLLER;
