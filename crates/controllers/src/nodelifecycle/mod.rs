//! Node lifecycle: a node that falls silent becomes unknown, and what is wrong with a node becomes taints.

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
