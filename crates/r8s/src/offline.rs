//! What stands in for a network on a host that has none, or none that leads on (a laptop on a train, a closed rack).
//! All of it is on the loopback link:
//!
//! - an address, where there is no other: pods reach the API server at the node's, and 127.0.0.1 is their own;
//! - a route for the Services' addresses, where there is no default route: without any route the kernel refuses a
//!   connection before the packet rules have turned it to a pod.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use kernel::net::rtnl::{PROTOCOL, Route};
use kernel::net::{Cidr, Rtnl};

/// What is to stand on the loopback link.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandIn {
    /// The address that is lent to the host.
    pub address: Option<IpAddr>,
    /// The Services' range, and the address that the host has towards it.
    pub services: Option<(Cidr, IpAddr)>,
}

/// Sets it up, and takes back what an earlier start needed and this one does not. `note` remembers the address.
pub fn ensure(wanted: StandIn, note: &Path) -> Result<()> {
    let mut rtnl = Rtnl::open()?;
    let loopback = rtnl.link("lo")?.context("this host has no loopback link")?.index;
    let lent: Option<IpAddr> = std::fs::read_to_string(note).ok().and_then(|text| text.trim().parse().ok());
    if let Some(address) = wanted.address {
        if let Some(dir) = note.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(note, address.to_string())?;
        rtnl.set_up(loopback)?;
        rtnl.add_address(loopback, Cidr::host(address)).context("cannot give this host an address")?;
    }
    let route = match wanted.services {
        Some((range, source)) if !has_default(&mut rtnl, range.is_ipv4())? => {
            let route = Route { dev: Some(loopback), src: Some(source), ..Route::new(range) };
            rtnl.replace_route(&route).context("cannot route the Services' addresses")?;
            Some(range)
        }
        _ => None,
    };
    for old in rtnl.routes()? {
        let ours = old.protocol == PROTOCOL && old.dev == Some(loopback);
        if ours && Some(old.dst) != route {
            absent_is_fine(rtnl.delete_route(&old))?;
        }
    }
    if let Some(old) = lent.filter(|_| lent != wanted.address) {
        absent_is_fine(rtnl.delete_address(loopback, Cidr::host(old)))?;
        std::fs::remove_file(note)?;
    }
    Ok(())
}

fn has_default(rtnl: &mut Rtnl, ipv4: bool) -> Result<bool> {
    Ok(rtnl.routes()?.iter().any(|route| route.dst.len == 0 && route.dst.is_ipv4() == ipv4))
}

fn absent_is_fine(done: Result<(), kernel::net::Error>) -> Result<()> {
    match done {
        Err(error) if !error.is_absent() => Err(error).context("cannot clean the loopback link"),
        _ => Ok(()),
    }
}
