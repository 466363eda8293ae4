//! One Service's share of the rules.

use std::net::{IpAddr, SocketAddr};

use kernel::net::Cidr;
use kernel::nft::{Family, Key, Table, Value, Verdict};

use crate::Rules;
use crate::base::*;
use crate::chains::{Front, LOCAL, Pick, Shared};
use crate::endpoints::{Chosen, choose};
use crate::objects::{Port, Service};

/// What matters about this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// The label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Where pods live: traffic from there keeps its source. Empty: nothing is known, nothing is masqueraded for it.
    pub cluster_cidrs: Vec<Cidr>,
    /// Addresses of Services: unused ones are dropped rather than routed away.
    pub service_cidrs: Vec<Cidr>,
}

/// What one Service adds to the table of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub elements: Vec<(&'static str, Key, Value)>,
    pub chains: Vec<Shared>,
}

/// The whole table of one family.
pub fn render<'a>(family: Family, services: impl IntoIterator<Item = &'a Service>, node: &Node) -> Table {
    let mut rules = Rules::new(family, node.clone());
    for service in services {
        rules.set(&service.key, Some(service));
    }
    rules.table()
}

pub(crate) fn share(family: Family, service: &Service, node: &Node) -> Share {
    let ipv4 = family == Family::Ip;
    let mut share = Share::default();
    let of_family =
        |ips: &[IpAddr]| -> Vec<IpAddr> { ips.iter().filter(|ip| ip.is_ipv4() == ipv4).copied().collect() };
    let cluster_ips = of_family(&service.cluster_ips);
    if cluster_ips.is_empty() {
        return share;
    }
    for ip in &cluster_ips {
        share.elements.push((CLUSTER_IPS, Key::new().ip(*ip), Value::None));
    }
    for port in &service.ports {
        let chosen = choose(service, port, ipv4, node);
        let of = Of { service, port, chosen: &chosen };
        for ip in &cluster_ips {
            let front = front(*ip, port);
            of.endpoints(
                &mut share,
                SERVICE_ENDPOINTS,
                &front,
                service.internal_local,
                !service.internal_local,
            );
            let picked = of.pick(Front::Address, service.internal_local).map(Shared::Pick);
            of.dispatch(
                &mut share,
                SERVICE_IPS,
                NO_ENDPOINT_SERVICES,
                &front,
                picked,
                service.internal_local,
            );
        }
        let balancer = of_family(&service.load_balancer_ips);
        for ip in of_family(&service.external_ips).iter().chain(&balancer) {
            let front = front(*ip, port);
            of.endpoints(&mut share, SERVICE_ENDPOINTS, &front, service.external_local, true);
            let chain = of.external(Front::Address);
            of.dispatch(&mut share, SERVICE_IPS, NO_ENDPOINT_SERVICES, &front, chain, service.external_local);
        }
        if !service.source_ranges.is_empty() {
            for ip in &balancer {
                guard(&mut share, &front(*ip, port), &service.source_ranges, ipv4);
            }
        }
        if port.node_port != 0 {
            let front = Key::new().proto(port.protocol.number()).port(port.node_port);
            of.endpoints(&mut share, NODEPORT_ENDPOINTS, &front, service.external_local, true);
            let chain = of.external(Front::NodePort);
            of.dispatch(
                &mut share,
                SERVICE_NODEPORTS,
                NO_ENDPOINT_NODEPORTS,
                &front,
                chain,
                service.external_local,
            );
        }
        // A pod that gets itself must not see its own address as the client's.
        let here = |a: &&SocketAddr| {
            port.endpoints.iter().any(|e| e.address == **a && e.node.as_deref() == Some(&*node.name))
        };
        let mut own: Vec<&SocketAddr> = chosen.cluster.iter().chain(&chosen.local).filter(here).collect();
        own.sort();
        own.dedup();
        for endpoint in own {
            let pair = Key::new().ip(endpoint.ip()).ip(endpoint.ip());
            let key = pair.proto(port.protocol.number()).port(endpoint.port());
            share.elements.push((HAIRPIN, key, Value::None));
        }
    }
    share
}

fn front(ip: IpAddr, port: &Port) -> Key {
    Key::new().ip(ip).proto(port.protocol.number()).port(port.port)
}

/// One port with the endpoints it uses.
struct Of<'a> {
    service: &'a Service,
    port: &'a Port,
    chosen: &'a Chosen,
}

impl Of<'_> {
    fn pick(&self, front: Front, local: bool) -> Option<Pick> {
        let count = if local { self.chosen.local.len() } else { self.chosen.cluster.len() } as u32;
        (count > 0).then_some(Pick { front, local, count, sticky: self.service.affinity_seconds })
    }

    /// The way in from outside; none when nobody could answer.
    fn external(&self, front: Front) -> Option<Shared> {
        let (cluster, local) = (self.pick(front, false), self.pick(front, true));
        if !self.service.external_local {
            return cluster.map(Shared::External);
        }
        (cluster.is_some() || local.is_some()).then_some(Shared::ExternalLocal { cluster, local })
    }

    fn endpoints(&self, share: &mut Share, map: &'static str, front: &Key, local: bool, cluster: bool) {
        let lists = [(cluster, 0, &self.chosen.cluster), (local, LOCAL, &self.chosen.local)];
        for (_, offset, list) in lists.into_iter().filter(|(wanted, ..)| *wanted) {
            for (n, endpoint) in list.iter().enumerate() {
                let to = Key::new().ip(endpoint.ip()).port(endpoint.port());
                share.elements.push((map, front.clone().mark(offset + n as u32), Value::Data(to)));
            }
        }
    }

    fn dispatch(
        &self,
        share: &mut Share,
        map: &'static str,
        refused: &'static str,
        front: &Key,
        chain: Option<Shared>,
        local_policy: bool,
    ) {
        if let Some(chain) = chain {
            share.elements.push((map, front.clone(), Value::Verdict(Verdict::Goto(chain.name()))));
            share.chains.push(chain);
        }
        let empty = if local_policy { self.chosen.local.is_empty() } else { self.chosen.cluster.is_empty() };
        if empty {
            // Local with endpoints elsewhere: silence, so that a balancer tries another node. Else a clear refusal.
            let verdict =
                if local_policy && self.chosen.any { Verdict::Drop } else { Verdict::Goto(REJECT.into()) };
            share.elements.push((refused, front.clone(), Value::Verdict(verdict)));
        }
        debug_assert!(self.port.port != 0);
    }
}

fn guard(share: &mut Share, front: &Key, ranges: &[Cidr], ipv4: bool) {
    share.elements.push((FIREWALL, front.clone(), Value::None));
    let mut nets: Vec<Cidr> = ranges.iter().filter(|c| c.is_ipv4() == ipv4).map(Cidr::network).collect();
    nets.sort_by_key(|c| c.len);
    let mut kept: Vec<Cidr> = Vec::new();
    for net in nets {
        // A network inside another says nothing new, and the kernel takes no overlaps.
        if !kept.iter().any(|k| k.contains(net.addr)) {
            kept.push(net);
            share.elements.push((FIREWALL_ALLOWED, front.clone().net(net), Value::None));
        }
    }
}
