//! How pods of other nodes are reached: a plain route where the other node is on the same segment, else a VXLAN
//! tunnel. What is needed follows from addresses alone, nothing is exchanged between nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kernel::net::rtnl::{PROTOCOL, Route, Vxlan};
use kernel::net::{Cidr, Error, Rtnl};

use crate::bridge::{gateway, mac_of};

/// Another node, as far as its pods are concerned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// At most one per family.
    pub node_ips: Vec<IpAddr>,
    pub pod_cidrs: Vec<Cidr>,
}

/// What carries packets between nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Overlay {
    /// Plain routes only: all nodes share a segment, or the network knows the pod CIDRs.
    #[default]
    None,
    /// VXLAN as flannel does it.
    Vxlan {
        vni: u32,
        port: u16,
        /// This node's address in the underlying network.
        local: IpAddr,
        /// Nodes on the same segment are reached without the tunnel.
        direct: bool,
    },
}

/// Bytes that VXLAN over IPv4 (50) or IPv6 (70) takes of every packet.
pub(crate) fn overhead(overlay: &Overlay) -> u32 {
    match overlay {
        Overlay::None => 0,
        Overlay::Vxlan { local, .. } => {
            if local.is_ipv4() {
                50
            } else {
                70
            }
        }
    }
}

/// The tunnel device of the overlay.
pub(crate) const DEVICE: &str = "r8s-vxlan";

/// One way to one pod CIDR.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Direct { cidr: Cidr, via: IpAddr },
    Tunnel { cidr: Cidr, end: IpAddr },
}

/// `segments` are the networks that this node's links are in.
pub(crate) fn plan(peers: &[Peer], overlay: &Overlay, segments: &[Cidr]) -> BTreeSet<Way> {
    let mut ways = BTreeSet::new();
    for peer in peers {
        for cidr in peer.pod_cidrs.iter().map(Cidr::network) {
            let same_family = peer.node_ips.iter().find(|ip| ip.is_ipv4() == cidr.is_ipv4()).copied();
            let near = same_family.filter(|ip| segments.iter().any(|s| s.contains(*ip)));
            let way = match overlay {
                Overlay::None => same_family.map(|via| Way::Direct { cidr, via }),
                Overlay::Vxlan { direct: true, .. } if near.is_some() => {
                    near.map(|via| Way::Direct { cidr, via })
                }
                Overlay::Vxlan { local, .. } => {
                    let end = peer.node_ips.iter().find(|ip| ip.is_ipv4() == local.is_ipv4());
                    end.map(|end| Way::Tunnel { cidr, end: *end })
                }
            };
            ways.extend(way);
        }
    }
    ways
}

/// Makes the tunnel device or adopts the one that is there; gives its index.
pub(crate) fn ensure_device(rtnl: &mut Rtnl, overlay: &Overlay, own: &[Cidr]) -> Result<Option<u32>, Error> {
    let Overlay::Vxlan { vni, port, local, .. } = overlay else { return Ok(None) };
    let underlay = rtnl.addresses()?.into_iter().find(|(_, a)| a.addr == *local).map(|(index, _)| index);
    let links = rtnl.links()?;
    let Some(under) = links.iter().find(|l| Some(l.index) == underlay) else {
        return Err(Error::Refused {
            what: format!("find the link with {local}"),
            errno: 19,
            why: String::new(),
        });
    };
    let Some(mac) = own.first().map(tunnel_mac) else { return Ok(None) };
    let mtu = under.mtu - overhead(overlay);
    let there = links.iter().find(|l| l.name == DEVICE);
    if let Some(link) = there.filter(|l| l.kind == "vxlan" && l.mac == mac && l.mtu == mtu && l.up) {
        return Ok(Some(link.index));
    }
    if there.is_some() {
        rtnl.delete_link(DEVICE)?;
    }
    rtnl.add_vxlan(&Vxlan {
        name: DEVICE,
        vni: *vni,
        port: *port,
        local: *local,
        underlay: under.index,
        mtu,
        mac,
    })?;
    let index = rtnl.link(DEVICE)?.map(|l| l.index);
    if let Some(index) = index {
        rtnl.set_up(index)?;
    }
    Ok(index)
}

/// Sets up every way of the plan; one that is there already is fine. Removes what the last plan had more, and the
/// routes of a process before this one.
pub(crate) fn carry_out(
    rtnl: &mut Rtnl,
    device: Option<u32>,
    own: &[Cidr],
    old: &BTreeSet<Way>,
    new: &BTreeSet<Way>,
) -> Result<(), Error> {
    let mut wanted = Vec::new();
    for way in new {
        let mut route;
        match way {
            Way::Direct { cidr, via } => {
                route = Route::new(*cidr);
                route.gateway = Some(*via);
            }
            Way::Tunnel { cidr, end } => {
                let Some(device) = device else { continue };
                let (far, mac) = (gateway(cidr), tunnel_mac(cidr));
                rtnl.replace_fdb(device, mac, *end)?;
                rtnl.replace_neighbour(device, far, mac)?;
                route = Route::new(*cidr);
                (route.gateway, route.dev, route.onlink) = (Some(far), Some(device), true);
            }
        }
        // The host itself speaks to far pods with an address to which they know the way.
        route.src = own.iter().find(|c| c.is_ipv4() == route.dst.is_ipv4()).map(gateway);
        rtnl.replace_route(&route)?;
        wanted.push((route.dst, route.gateway));
    }
    let stale =
        |r: &Route| r.protocol == PROTOCOL && r.gateway.is_some() && !wanted.contains(&(r.dst, r.gateway));
    for route in rtnl.routes()?.iter().filter(|r| stale(r)) {
        absent_is_fine(rtnl.delete_route(route))?;
    }
    for way in old.difference(new) {
        if let (Way::Tunnel { cidr, end }, Some(device)) = (way, device) {
            absent_is_fine(rtnl.delete_neighbour(device, gateway(cidr), None))?;
            absent_is_fine(rtnl.delete_neighbour(device, *end, Some(tunnel_mac(cidr))))?;
        }
    }
    Ok(())
}

fn absent_is_fine(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(e) if e.is_absent() => Ok(()),
        other => other,
    }
}

/// A node's hardware address in the tunnel follows from its pod CIDR: every node knows every other's.
fn tunnel_mac(cidr: &Cidr) -> [u8; 6] {
    let mut mac = mac_of(gateway(&cidr.network()));
    // Not the address that the bridge has.
    mac[1] = 0x59;
    if !cidr.is_ipv4() {
        // The end of an IPv6 gateway address is the same everywhere: take the network part.
        let octets = kernel::net::cidr::octets(cidr.network().addr);
        mac[2..].copy_from_slice(&octets[4..8]);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_nodes_need_no_tunnel() {
        let peer = |ip: &str, cidr: &str| Peer {
            node_ips: vec![ip.parse().unwrap()],
            pod_cidrs: vec![cidr.parse().unwrap(), "fd00:7::/64".parse().unwrap()],
        };
        let peers = [peer("192.0.2.2", "10.244.2.0/24"), peer("198.51.100.3", "10.244.3.0/24")];
        let segments = ["192.0.2.1/24".parse().unwrap()];
        let show = |overlay: &Overlay| {
            let ways = plan(&peers, overlay, &segments).into_iter().filter(|w| match w {
                Way::Direct { cidr, .. } | Way::Tunnel { cidr, .. } => cidr.is_ipv4(),
            });
            let text = ways.map(|w| match w {
                Way::Direct { cidr, via } => format!("{cidr} via {via}"),
                Way::Tunnel { cidr, end } => format!("{cidr} in {end}"),
            });
            text.collect::<Vec<_>>().join(", ")
        };
        let vxlan =
            |direct| Overlay::Vxlan { vni: 1, port: 8472, local: "192.0.2.1".parse().unwrap(), direct };
        assert_eq!(show(&Overlay::None), "10.244.2.0/24 via 192.0.2.2, 10.244.3.0/24 via 198.51.100.3");
        assert_eq!(show(&vxlan(true)), "10.244.2.0/24 via 192.0.2.2, 10.244.3.0/24 in 198.51.100.3");
        assert_eq!(show(&vxlan(false)), "10.244.2.0/24 in 192.0.2.2, 10.244.3.0/24 in 198.51.100.3");
    }
}
