//! `batch`: work that ends.

pub(crate) mod cronjob;
pub(crate) mod indexes;
pub(crate) mod job;
pub(crate) mod job_spec;
pub(crate) mod job_status;
pub mod schedule;
