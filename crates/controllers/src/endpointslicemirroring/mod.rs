//! EndpointSlices of Endpoints that somebody else writes: for Services without a selector.

mod act;
mod decide;
mod subsets;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
