//! Garbage collection: what has lost its last owner goes, foreground deletions wait for dependents, orphans are
//! let go.
//!
//! [`graph`] holds who owns whom, of all kinds, from watches that bring metadata only; [`decide`] says what is to be
//! done about one object; the rest asks and writes.

mod act;
mod decide;
mod graph;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use act::CONTROLLER;
pub(crate) use graph::Object;
