//! Services and endpoints reduced to what rules are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kernel::net::Cidr;

/// The label that names an EndpointSlice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const DEFAULT_AFFINITY_SECONDS: u32 = 10800;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// A Service that has addresses, with the endpoints of each port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// `namespace/name`.
    pub key: Arc<str>,
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// Load-balancer addresses that we answer ourselves (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load-balancer addresses; empty: all.
    pub source_ranges: Vec<Cidr>,
    /// How long a client stays with its endpoint after its last connection.
    pub affinity_seconds: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// 0: none.
    pub health_check_node_port: u16,
    pub ports: Vec<Port>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
    /// By address, so in an order that does not depend on slices.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<Arc<str>>,
    pub zone_hints: BTreeSet<String>,
    pub node_hints: BTreeSet<String>,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Option<Protocol> {
        match text {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            _ => None,
        }
    }

    pub fn number(self) -> u8 {
        self as u8
    }
}

impl Service {
    /// None for a Service that needs no rules: headless, ExternalName, or without a cluster IP yet.
    pub fn read(service: &core::Service, slices: &[Arc<EndpointSlice>]) -> Option<Service> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let mut cluster_ips = addresses(spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
        cluster_ips.dedup();
        if cluster_ips.is_empty() {
            return None;
        }
        let meta = &service.metadata;
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""));
        let balancer =
            service.status.iter().flat_map(|s| &s.load_balancer).flat_map(|l| l.ingress.iter().flatten());
        let load_balancer_ips = addresses(
            balancer.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.as_ref()),
        );
        let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let configured =
                spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
            configured.and_then(|s| u32::try_from(s).ok()).unwrap_or(DEFAULT_AFFINITY_SECONDS)
        });
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let ports = spec.ports.iter().flatten().filter_map(|p| {
            let protocol = Protocol::parse(p.protocol.as_deref())?;
            let name = p.name.clone().unwrap_or_default();
            Some(Port {
                protocol,
                port: u16::try_from(p.port).ok()?,
                node_port: p.node_port.and_then(|n| u16::try_from(n).ok()).unwrap_or(0),
                endpoints: endpoints(slices, &name, protocol),
                name,
            })
        });
        Some(Service {
            key: format!("{namespace}/{name}").into(),
            cluster_ips,
            external_ips: addresses(spec.external_ips.iter().flatten()),
            load_balancer_ips,
            source_ranges: source_ranges(service, spec),
            affinity_seconds,
            internal_local: local(&spec.internal_traffic_policy),
            external_local: local(&spec.external_traffic_policy),
            health_check_node_port: spec
                .health_check_node_port
                .and_then(|p| u16::try_from(p).ok())
                .unwrap_or(0),
            ports: ports.collect(),
        })
    }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut seen = Vec::new();
    for ip in texts.filter_map(|t| t.parse().ok()) {
        if !seen.contains(&ip) {
            seen.push(ip);
        }
    }
    seen
}

fn source_ranges(service: &core::Service, spec: &core::ServiceSpec) -> Vec<Cidr> {
    let listed: Vec<&str> = match &spec.load_balancer_source_ranges {
        Some(ranges) if !ranges.is_empty() => ranges.iter().map(String::as_str).collect(),
        _ => {
            let annotations = service.metadata.annotations.as_ref();
            let text =
                annotations.and_then(|a| a.get("service.beta.kubernetes.io/load-balancer-source-ranges"));
            text.map(|t| t.split(',').collect()).unwrap_or_default()
        }
    };
    listed.iter().filter_map(|text| text.trim().parse().ok()).collect()
}

fn endpoints(slices: &[Arc<EndpointSlice>], port_name: &str, protocol: Protocol) -> Vec<Endpoint> {
    let mut found: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|p| {
            p.name.as_deref().unwrap_or("") == port_name
                && Protocol::parse(p.protocol.as_deref()) == Some(protocol)
        });
        let Some(port) = port.and_then(|p| u16::try_from(p.port?).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            // Only the first address counts: consumers must treat the others as the same endpoint.
            let Some(ip) = endpoint.addresses.first().and_then(|a| a.parse::<IpAddr>().ok()) else {
                continue;
            };
            if ip.is_ipv4() != (slice.address_type == "IPv4") {
                continue;
            }
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let hints = endpoint.hints.clone().unwrap_or_default();
            let one = Endpoint {
                address: SocketAddr::new(ip, port),
                ready: conditions.ready.unwrap_or(true),
                serving: conditions.serving.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
                node: endpoint.node_name.as_deref().map(Arc::from),
                zone_hints: hints.for_zones.into_iter().flatten().map(|z| z.name).collect(),
                node_hints: hints.for_nodes.into_iter().flatten().map(|n| n.name).collect(),
            };
            // An endpoint that moves between slices may be in two for a moment: the better one counts.
            let better = found.get(&one.address).is_none_or(|other| {
                (one.ready, one.serving, !one.terminating) > (other.ready, other.serving, !other.terminating)
            });
            if better {
                found.insert(one.address, one);
            }
        }
    }
    found.into_values().collect()
}
