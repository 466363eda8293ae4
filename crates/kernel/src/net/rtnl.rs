//! Links, addresses, routes and neighbours over rtnetlink. Source: `rtnetlink(7)`.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use super::cidr::{Cidr, from_octets, octets};
use super::netlink::{
    Error, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Socket, Writer, attr_of, attrs, text, u32_at,
};

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 2;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const RTNH_F_ONLINK: u32 = 4;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 2;
/// Routes that r8s makes carry this protocol number, so that it removes none but its own.
pub const PROTOCOL: u8 = 0x72;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `bridge`, `veth`, `vxlan`, …; empty for hardware.
    pub kind: String,
    pub mtu: u32,
    pub up: bool,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    pub mac: Vec<u8>,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `0.0.0.0/0` or `::/0` is the default route.
    pub dst: Cidr,
    pub gateway: Option<IpAddr>,
    pub dev: Option<u32>,
    /// The source address that the host uses towards `dst`.
    pub src: Option<IpAddr>,
    /// The gateway is reachable on the link even when no address covers it.
    pub onlink: bool,
    /// 0 is the kernel's default; lower wins.
    pub metric: u32,
    /// Who made it: [`PROTOCOL`] for us.
    pub protocol: u8,
}

impl Route {
    pub fn new(dst: Cidr) -> Route {
        Route { dst, gateway: None, dev: None, src: None, onlink: false, metric: 0, protocol: PROTOCOL }
    }
}

/// What a VXLAN device is made of.
#[derive(Clone, Debug)]
pub struct Vxlan<'a> {
    pub name: &'a str,
    pub vni: u32,
    pub port: u16,
    pub local: IpAddr,
    pub underlay: u32,
    pub mtu: u32,
    pub mac: [u8; 6],
}

/// A connection to the link layer of one network namespace.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// In the calling thread's network namespace.
    pub fn open() -> Result<Rtnl, Error> {
        Ok(Rtnl { socket: Socket::open(libc::NETLINK_ROUTE)? })
    }

    /// In the network namespace at `netns`.
    pub fn open_in(netns: &Path) -> Result<Rtnl, Error> {
        Ok(Rtnl { socket: Socket::open_in(netns, libc::NETLINK_ROUTE)? })
    }

    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        self.socket.dump(
            "list links",
            libc::RTM_GETLINK,
            &[0; 16],
            |_| {},
            || found.borrow_mut().clear(),
            |_, body| found.borrow_mut().extend(link(body)),
        )?;
        Ok(found.into_inner())
    }

    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        Ok(self.links()?.into_iter().find(|l| l.name == name))
    }

    /// A bridge, down. Fails with [`Error::is_exists`] when the name is taken.
    pub fn add_bridge(&mut self, name: &str, mtu: u32, mac: Option<[u8; 6]>) -> Result<(), Error> {
        let what = format!("make bridge {name}");
        self.socket.request(what, libc::RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfo(0, 0, 0), |w| {
            w.attr_str(IFLA_IFNAME, name);
            w.attr_u32(IFLA_MTU, mtu);
            if let Some(mac) = mac {
                w.attr(IFLA_ADDRESS, &mac);
            }
            w.nest(IFLA_LINKINFO, |w| w.attr_str(IFLA_INFO_KIND, "bridge"));
        })
    }

    /// A veth pair: `name` here, up and a port of `master`; `peer` directly inside `peer_ns`, down. (Making the
    /// peer where it belongs takes a tenth of the time of moving it there.)
    pub fn add_veth(
        &mut self,
        name: &str,
        master: Option<u32>,
        peer: &str,
        peer_ns: BorrowedFd<'_>,
        mtu: u32,
        peer_mac: Option<[u8; 6]>,
    ) -> Result<(), Error> {
        let what = format!("make veth {name}");
        let up = libc::IFF_UP as u32;
        self.socket.request(what, libc::RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfo(0, up, up), |w| {
            w.attr_str(IFLA_IFNAME, name);
            w.attr_u32(IFLA_MTU, mtu);
            if let Some(master) = master {
                w.attr_u32(IFLA_MASTER, master);
            }
            w.nest(IFLA_LINKINFO, |w| {
                w.attr_str(IFLA_INFO_KIND, "veth");
                w.nest(IFLA_INFO_DATA, |w| {
                    w.nest(VETH_INFO_PEER, |w| {
                        w.buf.extend_from_slice(&ifinfo(0, 0, 0));
                        w.attr_str(IFLA_IFNAME, peer);
                        w.attr_u32(IFLA_MTU, mtu);
                        w.attr_u32(IFLA_NET_NS_FD, peer_ns.as_raw_fd() as u32);
                        if let Some(mac) = peer_mac {
                            w.attr(IFLA_ADDRESS, &mac);
                        }
                    });
                });
            });
        })
    }

    pub fn add_vxlan(&mut self, vxlan: &Vxlan<'_>) -> Result<(), Error> {
        let what = format!("make vxlan {}", vxlan.name);
        self.socket.request(what, libc::RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfo(0, 0, 0), |w| {
            w.attr_str(IFLA_IFNAME, vxlan.name);
            w.attr_u32(IFLA_MTU, vxlan.mtu);
            w.attr(IFLA_ADDRESS, &vxlan.mac);
            w.nest(IFLA_LINKINFO, |w| {
                w.attr_str(IFLA_INFO_KIND, "vxlan");
                w.nest(IFLA_INFO_DATA, |w| {
                    w.attr_u32(IFLA_VXLAN_ID, vxlan.vni);
                    w.attr_u32(IFLA_VXLAN_LINK, vxlan.underlay);
                    let local = if vxlan.local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 };
                    w.attr(local, &octets(vxlan.local));
                    w.attr_u16_be(IFLA_VXLAN_PORT, vxlan.port);
                    w.attr_u8(IFLA_VXLAN_LEARNING, 0);
                });
            });
        })
    }

    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        let up = libc::IFF_UP as u32;
        self.socket.request("set a link up", libc::RTM_NEWLINK, 0, &ifinfo(index, up, up), |_| {})
    }

    pub fn set_master(&mut self, index: u32, master: u32) -> Result<(), Error> {
        self.socket.request("join a bridge", libc::RTM_NEWLINK, 0, &ifinfo(index, 0, 0), |w| {
            w.attr_u32(IFLA_MASTER, master);
        })
    }

    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), Error> {
        self.socket.request("set the MTU", libc::RTM_NEWLINK, 0, &ifinfo(index, 0, 0), |w| {
            w.attr_u32(IFLA_MTU, mtu);
        })
    }

    /// Lets a bridge port send frames back out where they came in: a pod that reaches itself through a Service.
    pub fn set_hairpin(&mut self, index: u32) -> Result<(), Error> {
        let mut fixed = ifinfo(index, 0, 0);
        fixed[0] = libc::AF_BRIDGE as u8;
        self.socket.request("set hairpin mode", libc::RTM_SETLINK, 0, &fixed, |w| {
            w.nest(IFLA_PROTINFO, |w| w.attr_u8(IFLA_BRPORT_MODE, 1));
        })
    }

    /// Deletes a link by name; its veth peer goes with it.
    pub fn delete_link(&mut self, name: &str) -> Result<(), Error> {
        let what = format!("delete link {name}");
        self.socket.request(what, libc::RTM_DELLINK, 0, &ifinfo(0, 0, 0), |w| w.attr_str(IFLA_IFNAME, name))
    }

    /// The addresses with the link each is on.
    pub fn addresses(&mut self) -> Result<Vec<(u32, Cidr)>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        self.socket.dump(
            "list addresses",
            libc::RTM_GETADDR,
            &[0; 8],
            |_| {},
            || found.borrow_mut().clear(),
            |_, body| found.borrow_mut().extend(address(body)),
        )?;
        Ok(found.into_inner())
    }

    /// Gives a link an address; the same address again is fine. IPv6 addresses skip duplicate detection.
    pub fn add_address(&mut self, index: u32, cidr: Cidr) -> Result<(), Error> {
        let what = format!("add address {cidr}");
        let fixed = ifaddr(index, cidr);
        self.socket.request(what, libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &fixed, |w| {
            let bytes = octets(cidr.addr);
            w.attr(libc::IFA_LOCAL, &bytes);
            w.attr(libc::IFA_ADDRESS, &bytes);
            if !cidr.is_ipv4() {
                w.attr_u32(libc::IFA_FLAGS, libc::IFA_F_NODAD);
            } else if cidr.len < 31
                && let Some(last) = cidr.nth(cidr.size() - 1)
            {
                w.attr(libc::IFA_BROADCAST, &octets(last));
            }
        })
    }

    pub fn delete_address(&mut self, index: u32, cidr: Cidr) -> Result<(), Error> {
        let what = format!("delete address {cidr}");
        self.socket.request(what, libc::RTM_DELADDR, 0, &ifaddr(index, cidr), |w| {
            w.attr(libc::IFA_LOCAL, &octets(cidr.addr));
        })
    }

    /// The unicast routes of the main table.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        self.socket.dump(
            "list routes",
            libc::RTM_GETROUTE,
            &[0; 12],
            |_| {},
            || found.borrow_mut().clear(),
            |_, body| found.borrow_mut().extend(route(body)),
        )?;
        Ok(found.into_inner())
    }

    /// Adds a route or replaces the one to the same destination with the same metric.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), Error> {
        let what = format!("set the route to {}", route.dst);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.socket.request(what, libc::RTM_NEWROUTE, flags, &rtmsg(route), |w| route_attrs(w, route))
    }

    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        let what = format!("delete the route to {}", route.dst);
        self.socket.request(what, libc::RTM_DELROUTE, 0, &rtmsg(route), |w| route_attrs(w, route))
    }

    /// A permanent neighbour entry: `ip` is at `mac` on link `index`.
    pub fn replace_neighbour(&mut self, index: u32, ip: IpAddr, mac: [u8; 6]) -> Result<(), Error> {
        let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let what = format!("set the neighbour {ip}");
        let fixed = ndmsg(family as u8, index, 0);
        self.socket.request(what, libc::RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &fixed, |w| {
            w.attr(libc::NDA_DST, &octets(ip));
            w.attr(libc::NDA_LLADDR, &mac);
        })
    }

    /// A forwarding entry of a VXLAN device: frames to `mac` go to the tunnel end `remote`.
    pub fn replace_fdb(&mut self, index: u32, mac: [u8; 6], remote: IpAddr) -> Result<(), Error> {
        let what = format!("set the tunnel end {remote}");
        let fixed = ndmsg(libc::AF_BRIDGE as u8, index, NTF_SELF);
        self.socket.request(what, libc::RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &fixed, |w| {
            w.attr(libc::NDA_LLADDR, &mac);
            w.attr(libc::NDA_DST, &octets(remote));
        })
    }

    /// Removes what [`Rtnl::replace_neighbour`] or [`Rtnl::replace_fdb`] made.
    pub fn delete_neighbour(
        &mut self,
        index: u32,
        ip: IpAddr,
        fdb_mac: Option<[u8; 6]>,
    ) -> Result<(), Error> {
        let family = match (fdb_mac, ip) {
            (Some(_), _) => libc::AF_BRIDGE,
            (None, IpAddr::V4(_)) => libc::AF_INET,
            (None, IpAddr::V6(_)) => libc::AF_INET6,
        };
        let fixed = ndmsg(family as u8, index, if fdb_mac.is_some() { NTF_SELF } else { 0 });
        self.socket.request(format!("delete the neighbour {ip}"), libc::RTM_DELNEIGH, 0, &fixed, |w| {
            w.attr(libc::NDA_DST, &octets(ip));
            if let Some(mac) = fdb_mac {
                w.attr(libc::NDA_LLADDR, &mac);
            }
        })
    }
}

/// The index of a link in the calling thread's namespace, by name.
pub fn index_of(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn ifinfo(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut fixed = vec![0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

fn family_of(cidr: &Cidr) -> u8 {
    (if cidr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn ifaddr(index: u32, cidr: Cidr) -> Vec<u8> {
    let mut fixed = vec![family_of(&cidr), cidr.len, 0, libc::RT_SCOPE_UNIVERSE];
    fixed.extend_from_slice(&index.to_ne_bytes());
    fixed
}

fn rtmsg(route: &Route) -> Vec<u8> {
    let scope = if route.gateway.is_none() && route.dst.is_ipv4() {
        libc::RT_SCOPE_LINK
    } else {
        libc::RT_SCOPE_UNIVERSE
    };
    let mut fixed = vec![family_of(&route.dst), route.dst.len, 0, 0];
    fixed.extend_from_slice(&[libc::RT_TABLE_MAIN, route.protocol, scope, libc::RTN_UNICAST]);
    fixed.extend_from_slice(&(if route.onlink { RTNH_F_ONLINK } else { 0 }).to_ne_bytes());
    fixed
}

fn route_attrs(w: &mut Writer, route: &Route) {
    if route.dst.len > 0 {
        w.attr(libc::RTA_DST, &octets(route.dst.network().addr));
    }
    if let Some(gateway) = route.gateway {
        w.attr(libc::RTA_GATEWAY, &octets(gateway));
    }
    if let Some(dev) = route.dev {
        w.attr_u32(libc::RTA_OIF, dev);
    }
    if let Some(src) = route.src {
        w.attr(libc::RTA_PREFSRC, &octets(src));
    }
    if route.metric > 0 {
        w.attr_u32(libc::RTA_PRIORITY, route.metric);
    }
}

fn ndmsg(family: u8, index: u32, flags: u8) -> Vec<u8> {
    let mut fixed = vec![family, 0, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    fixed.extend_from_slice(&NUD_PERMANENT.to_ne_bytes());
    fixed.extend_from_slice(&[flags, 0]);
    fixed
}

fn link(body: &[u8]) -> Option<Link> {
    let index = u32_at(body, 4)?;
    let up = u32_at(body, 8)? & libc::IFF_UP as u32 != 0;
    let mut link =
        Link { index, name: String::new(), kind: String::new(), mtu: 0, up, master: None, mac: Vec::new() };
    for (kind, value) in attrs(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_ADDRESS => link.mac = value.to_vec(),
            IFLA_LINKINFO => link.kind = attr_of(value, IFLA_INFO_KIND).map(text).unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}

fn address(body: &[u8]) -> Option<(u32, Cidr)> {
    let len = *body.get(1)?;
    let index = u32_at(body, 4)?;
    let tail = body.get(8..)?;
    let bytes = attr_of(tail, libc::IFA_LOCAL).or_else(|| attr_of(tail, libc::IFA_ADDRESS))?;
    Some((index, Cidr::new(from_octets(bytes)?, len)))
}

fn route(body: &[u8]) -> Option<Route> {
    let [family, len, _, _, table, protocol, _, kind] = *body.first_chunk::<8>()?;
    if kind != libc::RTN_UNICAST || table != libc::RT_TABLE_MAIN {
        return None;
    }
    let any: IpAddr = if i32::from(family) == libc::AF_INET { [0u8; 4].into() } else { [0u8; 16].into() };
    let mut route = Route::new(Cidr::new(any, len));
    route.protocol = protocol;
    route.onlink = u32_at(body, 8)? & RTNH_F_ONLINK != 0;
    for (kind, value) in attrs(body.get(12..)?) {
        match kind {
            libc::RTA_DST => route.dst = Cidr::new(from_octets(value)?, len),
            libc::RTA_GATEWAY => route.gateway = from_octets(value),
            libc::RTA_OIF => route.dev = u32_at(value, 0),
            libc::RTA_PREFSRC => route.src = from_octets(value),
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::super::netns;
    use super::*;
    use std::os::fd::AsFd;

    /// One test in two fresh namespaces: `a` has the bridge, `b` is the pod.
    #[test]
    fn a_pod_link_from_nothing() {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: needs root");
        }
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        netns::create(&a).unwrap();
        netns::create(&b).unwrap();
        let mut host = Rtnl::open_in(&a).unwrap();
        host.add_bridge("br0", 1400, None).unwrap();
        assert!(host.add_bridge("br0", 1400, None).unwrap_err().is_exists());
        let bridge = host.link("br0").unwrap().unwrap();
        host.add_address(bridge.index, "10.1.0.1/24".parse().unwrap()).unwrap();
        host.add_address(bridge.index, "10.1.0.1/24".parse().unwrap()).unwrap();
        host.set_up(bridge.index).unwrap();
        let ns = std::fs::File::open(&b).unwrap();
        host.add_veth("v0", Some(bridge.index), "eth0", ns.as_fd(), 1400, None).unwrap();
        let v0 = host.link("v0").unwrap().unwrap();
        assert_eq!((v0.kind.as_str(), v0.master, v0.up), ("veth", Some(bridge.index), true));
        host.set_hairpin(v0.index).unwrap();

        let mut pod = Rtnl::open_in(&b).unwrap();
        let eth0 = pod.link("eth0").unwrap().unwrap();
        assert_eq!(eth0.mtu, 1400);
        pod.add_address(eth0.index, "10.1.0.2/24".parse().unwrap()).unwrap();
        pod.add_address(eth0.index, "fd00::2/64".parse().unwrap()).unwrap();
        pod.set_up(eth0.index).unwrap();
        let mut default = Route::new("0.0.0.0/0".parse().unwrap());
        default.gateway = Some("10.1.0.1".parse().unwrap());
        default.dev = Some(eth0.index);
        pod.replace_route(&default).unwrap();
        pod.replace_route(&default).unwrap();
        assert!(pod.routes().unwrap().contains(&default));
        assert!(pod.addresses().unwrap().contains(&(eth0.index, "fd00::2/64".parse().unwrap())));
        pod.delete_route(&default).unwrap();
        assert!(pod.delete_route(&default).unwrap_err().is_absent());

        host.delete_link("v0").unwrap();
        assert!(host.delete_link("v0").unwrap_err().is_absent());
        assert_eq!(pod.link("eth0").unwrap(), None);
        netns::remove(&a).unwrap();
        netns::remove(&b).unwrap();
    }
}
