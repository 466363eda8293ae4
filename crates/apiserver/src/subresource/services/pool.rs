//! Sets of addresses and ports that are taken.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use parking_lot::Mutex;

use super::shared::View;
use crate::config::Config;
use crate::registry::fields::random_u64;
use crate::server::Error;

/// A range that addresses come from.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    base: IpAddr,
    bits: u8,
}

pub struct Allocators {
    ranges: Vec<Range>,
    ports: RangeInclusive<u16>,
    taken: Mutex<Taken>,
    /// Held while a request claims in a shared store: requests of one server wait for each other instead of refusing
    /// each other.
    pub turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Taken {
    ips: HashSet<IpAddr>,
    ports: HashSet<u16>,
}

fn parse(cidr: &str) -> Result<Range, Error> {
    let wrong = || Error::Config(format!("service CIDR {cidr:?} is not ADDRESS/BITS"));
    let (base, bits) = cidr.split_once('/').ok_or_else(wrong)?;
    let (base, bits): (IpAddr, u8) = (base.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
    let width = if base.is_ipv4() { 32 } else { 128 };
    if bits >= width {
        return Err(wrong());
    }
    Ok(Range { base, bits })
}

impl Range {
    /// None for what is no range of more than one address.
    pub fn parse(cidr: &str) -> Option<Range> {
        parse(cidr).ok()
    }

    fn family(&self) -> &'static str {
        if self.base.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// The number of addresses that can be given (at most 2^16 of a large range): without the first, and for IPv4
    /// the last.
    fn size(&self) -> u64 {
        let free = if self.base.is_ipv4() { 32 - self.bits } else { 128 - self.bits };
        let all = 1u64 << free.min(32);
        if self.base.is_ipv4() { all.saturating_sub(2) } else { (all - 1).min(1 << 16) }
    }

    /// The n-th address that can be given, from 0.
    fn nth(&self, n: u64) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from(u32::from(base).wrapping_add(n as u32 + 1))),
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(base).wrapping_add(u128::from(n) + 1))),
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let offset = u32::from(ip).wrapping_sub(u32::from(base));
                offset >= 1 && u64::from(offset) <= self.size()
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let free = 128 - u32::from(self.bits);
                let offset = u128::from(ip).wrapping_sub(u128::from(base));
                offset >= 1 && (free >= 128 || offset < 1u128 << free)
            }
            _ => false,
        }
    }
}

/// The address of the `kubernetes` Service.
pub fn first_address(config: &Config) -> String {
    config.service_cidrs.first().and_then(|c| parse(c).ok()).map(|r| r.nth(0).to_string()).unwrap_or_default()
}

impl Allocators {
    pub fn new(config: &Config) -> Result<Self, Error> {
        let ranges = config.service_cidrs.iter().map(|c| parse(c)).collect::<Result<_, _>>()?;
        Ok(Self {
            ranges,
            ports: config.node_ports.clone(),
            taken: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    pub fn families(&self) -> Vec<&'static str> {
        self.ranges.iter().map(Range::family).collect()
    }

    pub fn ports(&self) -> &RangeInclusive<u16> {
        &self.ports
    }

    /// Each range with its allocated and its free addresses.
    pub fn addresses(&self) -> Vec<(String, u64, u64)> {
        let taken = self.taken.lock();
        let of = |range: &Range| {
            let used = taken.ips.iter().filter(|ip| range.contains(**ip)).count() as u64;
            (format!("{}/{}", range.base, range.bits), used, range.size().saturating_sub(used))
        };
        self.ranges.iter().map(of).collect()
    }

    /// How many node ports are allocated.
    pub fn allocated_ports(&self) -> usize {
        self.taken.lock().ports.len()
    }

    pub fn mark(&self, ips: &[IpAddr], ports: &[u16]) {
        let mut taken = self.taken.lock();
        taken.ips.extend(ips);
        taken.ports.extend(ports);
    }

    pub fn free(&self, ips: &[IpAddr], ports: &[u16]) {
        let mut taken = self.taken.lock();
        for ip in ips {
            taken.ips.remove(ip);
        }
        for port in ports {
            taken.ports.remove(port);
        }
    }

    /// The first address of a family's range, which is nobody's.
    pub fn base(&self, family: &str) -> Option<IpAddr> {
        self.ranges.iter().find(|r| r.family() == family).map(|r| r.base)
    }

    /// A free address of a family, from the upper part of a range first: the lower part is for those who choose.
    pub fn next_ip(&self, family: &str, elsewhere: &View) -> Option<IpAddr> {
        let mut taken = self.taken.lock();
        let mut take = |ip: &IpAddr| !elsewhere.has_ip(*ip) && taken.ips.insert(*ip);
        let ranges = self.ranges.iter().chain(&elsewhere.more).filter(|r| r.family() == family);
        ranges.into_iter().find_map(|range| {
            let size = range.size();
            let reserved = if size < 16 { 0 } else { (size / 16).clamp(16, 256) };
            let upper = size - reserved;
            let start = random_u64() % upper.max(1);
            let order = (0..upper).map(|n| reserved + (start + n) % upper).chain(0..reserved);
            order.map(|n| range.nth(n)).find(&mut take)
        })
    }

    pub fn take_ip(&self, ip: IpAddr, elsewhere: &View) -> Result<(), String> {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let Some(range) = self.ranges.iter().find(|r| r.family() == family) else {
            return Err(format!("{family} is not configured on this cluster"));
        };
        if !self.ranges.iter().chain(&elsewhere.more).any(|range| range.contains(ip)) {
            return Err(format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}/{}",
                range.base, range.bits
            ));
        }
        if !elsewhere.has_ip(ip) && self.taken.lock().ips.insert(ip) {
            Ok(())
        } else {
            Err("provided IP is already allocated".to_owned())
        }
    }

    pub fn next_port(&self, elsewhere: &View) -> Option<u16> {
        let (low, high) = (*self.ports.start(), *self.ports.end());
        let size = u64::from(high) + 1 - u64::from(low);
        let reserved = if size < 32 { 0 } else { (size / 32).clamp(16, 128) };
        let upper = size - reserved;
        let start = random_u64() % upper.max(1);
        let mut taken = self.taken.lock();
        let order = (0..upper).map(|n| reserved + (start + n) % upper).chain(0..reserved);
        order.map(|n| low + n as u16).find(|port| !elsewhere.has_port(*port) && taken.ports.insert(*port))
    }

    pub fn take_port(&self, port: u16, elsewhere: &View) -> Result<(), String> {
        if !self.ports.contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.ports.start(),
                self.ports.end()
            ));
        }
        if !elsewhere.has_port(port) && self.taken.lock().ports.insert(port) {
            Ok(())
        } else {
            Err("provided port is already allocated".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_once_and_knows_its_range() {
        let config = Config {
            service_cidrs: vec!["10.0.0.0/29".into()],
            node_ports: 30000..=30001,
            ..Config::default()
        };
        let (all, none) = (Allocators::new(&config).unwrap(), View::default());
        assert_eq!(first_address(&config), "10.0.0.1");
        let given: HashSet<IpAddr> = std::iter::from_fn(|| all.next_ip("IPv4", &none)).collect();
        assert_eq!(given.len(), 6);
        assert!(all.take_ip("10.0.0.1".parse().unwrap(), &none).unwrap_err().contains("already allocated"));
        assert!(
            all.take_ip("10.0.0.7".parse().unwrap(), &none).unwrap_err().contains("not in the valid range")
        );
        all.free(&["10.0.0.3".parse().unwrap()], &[]);
        assert_eq!(all.next_ip("IPv4", &none), Some("10.0.0.3".parse().unwrap()));
        assert!(
            all.next_port(&none).is_some()
                && all.next_port(&none).is_some()
                && all.next_port(&none).is_none()
        );
        assert!(all.next_ip("IPv6", &none).is_none());
        // A range that was added later is used when the first is full, and by those who choose from it.
        let mut more = View::default();
        more.more.push(Range::parse("192.0.2.0/30").unwrap());
        assert!(all.next_ip("IPv4", &more).is_some_and(|ip| ip.to_string().starts_with("192.0.2.")));
        let chosen = ["192.0.2.1", "192.0.2.2"].map(|ip| all.take_ip(ip.parse().unwrap(), &more).is_ok());
        assert_eq!(chosen.iter().filter(|ok| **ok).count(), 1);
        assert!(all.take_ip("192.0.2.3".parse().unwrap(), &more).is_err());
    }
}
