//! CRI's port mappings as host ports.

use runtime::cri::v1::{PortMapping, Protocol};

use crate::HostPort;

/// The mappings that take a port of the host. Fails, with what is wrong, for a bad address or port.
pub(crate) fn host_ports(mappings: &[PortMapping]) -> Result<Vec<HostPort>, String> {
    let port = |value: i32| u16::try_from(value).map_err(|_| format!("{value} is not a port"));
    let wanted = mappings.iter().filter(|m| m.host_port != 0);
    let mut ports: Vec<HostPort> = wanted
        .map(|m| {
            let host_ip = match m.host_ip.as_str() {
                "" | "0.0.0.0" | "::" => None,
                text => Some(text.parse().map_err(|_| format!("hostIP {text:?} is not an address"))?),
            };
            let protocol = match m.protocol() {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
                Protocol::Sctp => 132,
            };
            Ok(HostPort {
                protocol,
                host_ip,
                host_port: port(m.host_port)?,
                pod_port: port(m.container_port)?,
            })
        })
        .collect::<Result<_, String>>()?;
    ports.sort();
    Ok(ports)
}
