//! UDP flows stick to their first endpoint in the kernel's table; when it is gone the flow has to be forgotten.
//! (TCP needs no help: a dead endpoint ends the connection.)

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use kernel::net::Error;
use kernel::net::conntrack::{Conntrack, Flow};

use crate::endpoints::choose;
use crate::objects::{Protocol, Service};
use crate::render::Node;

const UDP: u8 = 17;

/// Where UDP traffic may go, for the fronts that changed.
#[derive(Default)]
pub(crate) struct Flows {
    by_address: HashMap<(IpAddr, u16), HashSet<SocketAddr>>,
    by_node_port: HashMap<u16, HashSet<SocketAddr>>,
}

impl Flows {
    /// A front of the Service before the change: nothing is valid unless [`Flows::now`] says so.
    pub(crate) fn before(&mut self, service: &Service) {
        self.each_front(service, |_| HashSet::new());
    }

    pub(crate) fn now(&mut self, service: &Service, node: &Node) {
        self.each_front(service, |n| {
            let port = &service.ports[n];
            let both = [choose(service, port, true, node), choose(service, port, false, node)];
            both.into_iter().flat_map(|c| c.cluster.into_iter().chain(c.local)).collect()
        });
    }

    fn each_front(&mut self, service: &Service, valid: impl Fn(usize) -> HashSet<SocketAddr>) {
        for (n, port) in service.ports.iter().enumerate().filter(|(_, p)| p.protocol == Protocol::Udp) {
            let endpoints = valid(n);
            let ips =
                service.cluster_ips.iter().chain(&service.external_ips).chain(&service.load_balancer_ips);
            for ip in ips {
                self.by_address.insert((*ip, port.port), endpoints.clone());
            }
            if port.node_port != 0 {
                self.by_node_port.insert(port.node_port, endpoints.clone());
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_address.is_empty() && self.by_node_port.is_empty()
    }

    /// Deletes the flows that go where they may not; gives how many.
    pub(crate) fn forget_gone(&self, conntrack: &mut Conntrack) -> Result<usize, Error> {
        let mut gone = 0;
        for ipv4 in [true, false] {
            gone += conntrack.delete_where(ipv4, |flow| self.is_stale(flow))?;
        }
        Ok(gone)
    }

    fn is_stale(&self, flow: &Flow) -> bool {
        if flow.protocol != UDP {
            return false;
        }
        let to = SocketAddr::new(flow.reply.src, flow.reply.src_port);
        if let Some(valid) = self.by_address.get(&(flow.original.dst, flow.original.dst_port)) {
            return !valid.contains(&to);
        }
        // Only flows that were translated: a port of that number on some other machine is none of ours.
        let translated = flow.reply.src != flow.original.dst;
        let valid = self.by_node_port.get(&flow.original.dst_port);
        translated && valid.is_some_and(|valid| !valid.contains(&to))
    }
}
