//! EndpointSlice: which pods, on which addresses and ports, stand behind a Service.

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::{BY_SERVICE, CONTROLLER, index_by_service, service_of};
pub(crate) use decide::{
    HEADLESS, MANAGED_BY, SERVICE_NAME, find_port, is_ipv6, same_ports, services_of, touches_endpoints,
};
