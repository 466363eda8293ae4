//! Evaluation: a checked tree is planned once (constants folded, variables resolved) and then interpreted, each step
//! paying its cost.

pub(crate) mod cost;
mod interpret;
pub(crate) mod plan;

pub(crate) use interpret::run;
