//! policy.

pub(crate) mod poddisruptionbudget;
