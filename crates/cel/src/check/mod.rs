//! The type checker.

mod checker;
mod unify;

pub(crate) use checker::{Checked, Reference, check};
