//! EndpointSlice: which pods, on which addresses and ports, stand behind a Service.

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
pub(crate) use decide::{HEADLESS, find_port, is_ipv6, services_of, touches_endpoints};
