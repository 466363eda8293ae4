//! Endpoints: the older, single-object form of what stands behind a Service.

mod act;
mod decide;

pub(crate) use act::CONTROLLER;
