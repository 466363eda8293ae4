//! Which endpoints a Service port uses on this node: readiness, traffic policies, topology hints.

use std::net::SocketAddr;

use crate::objects::{Endpoint, Port, Service};
use crate::render::Node;

/// The endpoints of one port in one family, in the order of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// For the traffic policy Cluster.
    pub cluster: Vec<SocketAddr>,
    /// For the traffic policy Local: on this node.
    pub local: Vec<SocketAddr>,
    /// Someone, somewhere in the cluster, could answer.
    pub any: bool,
}

enum Topology<'a> {
    Anywhere,
    Zone(&'a str),
    Node(&'a str),
}

/// Ready endpoints are used; where there are none, those that still serve while they terminate. That is decided for
/// the whole cluster and for this node apart. Topology hints count only when every ready endpoint has one and some
/// endpoint has one for us.
pub fn choose(service: &Service, port: &Port, ipv4: bool, node: &Node) -> Chosen {
    let all: Vec<&Endpoint> = port.endpoints.iter().filter(|e| e.address.is_ipv4() == ipv4).collect();
    let pick = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        all.iter().filter(|e| wanted(e)).map(|e| e.address).collect()
    };
    let or_leaving = |ready: Vec<SocketAddr>, where_: &dyn Fn(&Endpoint) -> bool| {
        if ready.is_empty() { pick(&|e| where_(e) && e.serving && e.terminating) } else { ready }
    };
    let topology = topology(&all, node);
    let near = |e: &Endpoint| match &topology {
        Topology::Anywhere => true,
        Topology::Zone(zone) => e.zone_hints.contains(*zone),
        Topology::Node(name) => e.node_hints.contains(*name),
    };
    let here = |e: &Endpoint| e.node.as_deref() == Some(&*node.name);

    let external =
        port.node_port != 0 || !service.external_ips.is_empty() || !service.load_balancer_ips.is_empty();
    // Pods and the node itself reach external addresses of a Local Service as if it were Cluster.
    let uses_cluster = !service.internal_local || external;
    let uses_local = service.internal_local || (service.external_local && external);
    let cluster =
        if uses_cluster { or_leaving(pick(&|e| e.ready && near(e)), &|_| true) } else { Vec::new() };
    let local = if uses_local { or_leaving(pick(&|e| e.ready && here(e)), &here) } else { Vec::new() };
    let any = all.iter().any(|e| e.ready || (e.serving && e.terminating));
    Chosen { cluster, local, any }
}

/// How many endpoints on this node could answer a load balancer's health check.
pub fn ready_here(service: &Service, node: &Node) -> usize {
    let mut ips: Vec<_> = service
        .ports
        .iter()
        .flat_map(|p| &p.endpoints)
        .filter(|e| e.ready && e.node.as_deref() == Some(&*node.name))
        .map(|e| e.address.ip())
        .collect();
    ips.sort();
    ips.dedup();
    ips.len()
}

fn topology<'a>(all: &[&Endpoint], node: &'a Node) -> Topology<'a> {
    let ready = || all.iter().filter(|e| e.ready);
    if ready().next().is_none() {
        return Topology::Anywhere;
    }
    if ready().all(|e| !e.node_hints.is_empty()) && ready().any(|e| e.node_hints.contains(&*node.name)) {
        return Topology::Node(&node.name);
    }
    if let Some(zone) = &node.zone
        && ready().all(|e| !e.zone_hints.is_empty())
        && ready().any(|e| e.zone_hints.contains(zone))
    {
        return Topology::Zone(zone);
    }
    Topology::Anywhere
}
