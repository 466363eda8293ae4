//! The scheduler: finds a node for every pod that has none.
//!
//! [`run`] watches pods and nodes as slim objects, keeps a [`cache`] of nodes with the pods on them, and takes pods
//! from a [`queue`] one by one. Deciding is a pure walk of the [`framework`]'s plugins over an immutable snapshot;
//! binding goes on beside it. A pod without place waits until something happens that may help it.
//!
//! Names, weights, numbers and messages are those of upstream's default profile.
//! It does not know how pods run, nor what made them.

mod cache;
mod framework;
mod node;
mod objects;
mod plugins;
mod preempt;
mod queue;
mod resources;
mod run;
mod select;
#[cfg(test)]
mod test;

pub use run::{Config, run};
