//! What the binary asks of the host before it starts: rights, and facts for defaults.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use anyhow::{Context, Result, bail};
use kernel::net::Rtnl;
use kernel::net::rtnl::Link;

/// The host's name in the form a Node may have: lower case, as upstream's kubelet does it.
pub fn node_name() -> Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase();
    if name.is_empty() || name == "(none)" {
        bail!("this host has no name\nhint: give one with --node-name");
    }
    Ok(name)
}

/// The address this host would use to reach others: of the interface with the default route, else of any other that
/// has one; loopback without any network. No packet is sent.
pub fn primary_address() -> IpAddr {
    let probe = |local: &str, remote: &str| {
        let socket = UdpSocket::bind((local, 0)).ok()?;
        socket.connect((remote, 9)).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified())
    };
    // Documentation addresses (RFC 5737, RFC 3849): connecting a UDP socket only asks for the route.
    probe("0.0.0.0", "192.0.2.1")
        .or_else(|| probe("::", "2001:db8::1"))
        .or_else(|| any_address().ok().flatten())
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The first address of a link that leads out of this host.
fn any_address() -> Result<Option<IpAddr>> {
    let mut rtnl = Rtnl::open()?;
    let leads_out = |link: &Link| {
        link.up
            && link.name != "lo"
            && link.master.is_none()
            && !matches!(link.kind.as_str(), "bridge" | "vxlan")
    };
    let outer: Vec<u32> =
        rtnl.links()?.iter().filter(|link| leads_out(link)).map(|link| link.index).collect();
    let addresses = rtnl.addresses()?.into_iter().filter(|(index, _)| outer.contains(index));
    let global = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_loopback(),
    };
    Ok(addresses.map(|(_, cidr)| cidr.addr).find(global))
}

/// Running pods needs root.
pub fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "running containers needs root, and this is user {}\nhint: run it with sudo, or run only the control plane with `r8s apiserver`",
            rustix::process::geteuid().as_raw()
        );
    }
    Ok(())
}

/// Held by the one server whose pods use this host's network (bridge, packet rules, the kubelet's port). An abstract
/// socket: there is one such name per network namespace, and the kernel frees it when its holder dies.
pub struct NetworkOwner {
    _listener: UnixListener,
}

impl NetworkOwner {
    /// Takes it, or tells the process that has it.
    pub fn try_acquire() -> Result<std::result::Result<Self, i32>> {
        let name = SocketAddr::from_abstract_name("r8s-node")?;
        match UnixListener::bind_addr(&name) {
            Ok(listener) => Ok(Ok(Self { _listener: listener })),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let holder = UnixStream::connect_addr(&name).ok();
                let peer = holder.and_then(|stream| rustix::net::sockopt::socket_peercred(&stream).ok());
                Ok(Err(peer.map_or(0, |peer| peer.pid.as_raw_nonzero().get())))
            }
            Err(error) => Err(error).context("cannot take this host's network"),
        }
    }

    pub fn acquire() -> Result<Self> {
        match Self::try_acquire()? {
            Ok(owner) => Ok(owner),
            Err(pid) => bail!(
                "another r8s server (process {pid}) runs pods on this host's network\nhint: stop it, or start this one in a network namespace of its own (ip netns)"
            ),
        }
    }
}
