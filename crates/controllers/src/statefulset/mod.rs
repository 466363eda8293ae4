//! StatefulSet: pods with names and claims of their own, made, updated and taken down in order.

mod act;
mod decide;
mod identity;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
