//! Clients that are bound to an endpoint which is gone have to choose anew.

use std::collections::{BTreeMap, BTreeSet};

use kernel::net::Error;
use kernel::nft::{Batch, Family, Key, Nft};

use crate::base::*;
use crate::endpoints::choose;
use crate::objects::Service;
use crate::render::Node;

/// For each front of the Services with affinity: the endpoints a client may stay with.
#[derive(Default)]
pub(crate) struct Bound {
    by_map: BTreeMap<&'static str, BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>>,
}

impl Bound {
    pub(crate) fn add(&mut self, family: Family, service: &Service, node: &Node) {
        if service.affinity_seconds.is_none() {
            return;
        }
        let ipv4 = family == Family::Ip;
        for port in &service.ports {
            let chosen = choose(service, port, ipv4, node);
            let endpoints: BTreeSet<Vec<u8>> = chosen
                .cluster
                .iter()
                .chain(&chosen.local)
                .map(|e| Key::new().ip(e.ip()).port(e.port()).bytes().to_vec())
                .collect();
            let mut add = |map, key: Key| {
                self.by_map.entry(map).or_default().insert(key.bytes().to_vec(), endpoints.clone());
            };
            let ips =
                service.cluster_ips.iter().chain(&service.external_ips).chain(&service.load_balancer_ips);
            for ip in ips.filter(|ip| ip.is_ipv4() == ipv4) {
                add(AFFINITY, Key::new().ip(*ip).proto(port.protocol.number()).port(port.port));
            }
            if port.node_port != 0 {
                add(NODEPORT_AFFINITY, Key::new().proto(port.protocol.number()).port(port.node_port));
            }
        }
    }

    /// Deletes what the kernel remembers for these fronts and is not valid any more.
    pub(crate) fn forget_gone(&self, nft: &mut Nft, family: Family) -> Result<(), Error> {
        let client = family.address().width();
        for (map, fronts) in &self.by_map {
            for (key, data) in nft.elements(family, TABLE, map)? {
                let Some(valid) = key.get(client..).and_then(|front| fronts.get(front)) else { continue };
                if data.is_some_and(|d| valid.contains(&d)) {
                    continue;
                }
                let mut batch = Batch::new();
                batch.delete_elements(family, TABLE, map, [&Key::from_bytes(&key)]);
                match nft.commit(batch) {
                    // Expired meanwhile.
                    Err(e) if !e.is_absent() => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
