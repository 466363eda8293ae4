//! Namespace: empties a namespace that is being deleted, then lets it go.

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
