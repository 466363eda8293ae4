//! An address with a prefix length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address and a prefix length, as in `10.244.0.7/24`. The host bits are kept: the same type names a
/// network and an interface address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cidr {
    pub addr: IpAddr,
    pub len: u8,
}

/// The text was not `ADDRESS/LENGTH`.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an address with a prefix length, such as 10.244.0.0/24 or fd00::/64")]
pub struct BadCidr(String);

impl Cidr {
    pub fn new(addr: IpAddr, len: u8) -> Cidr {
        let max = if addr.is_ipv4() { 32 } else { 128 };
        Cidr { addr, len: len.min(max) }
    }

    /// The network that holds one address only.
    pub fn host(addr: IpAddr) -> Cidr {
        Cidr { addr, len: if addr.is_ipv4() { 32 } else { 128 } }
    }

    pub fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }

    /// The same network with its host bits cleared.
    pub fn network(&self) -> Cidr {
        Cidr { addr: from_bits(self.addr.is_ipv4(), bits(self.addr) & self.mask()), len: self.len }
    }

    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && (bits(addr) ^ bits(self.addr)) & self.mask() == 0
    }

    /// The address `n` steps after the network address; none when that leaves the network.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        (n < self.size()).then(|| from_bits(self.is_ipv4(), bits(self.network().addr) + n))
    }

    /// How many addresses it spans, the network address included (saturating for `::/0`).
    pub fn size(&self) -> u128 {
        let width = if self.is_ipv4() { 32 } else { 128 };
        1u128.checked_shl(u32::from(width - self.len)).unwrap_or(u128::MAX)
    }

    /// How far `addr` is from the network address; none when it lies outside.
    pub fn index_of(&self, addr: IpAddr) -> Option<u128> {
        self.contains(addr).then(|| bits(addr) - bits(self.network().addr))
    }

    /// The prefix as address bytes (4 or 16), all ones in front.
    pub fn mask_bytes(&self) -> Vec<u8> {
        octets(from_bits(self.is_ipv4(), self.mask()))
    }

    fn mask(&self) -> u128 {
        let width = if self.is_ipv4() { 32u32 } else { 128 };
        let all = if self.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX };
        all & !all.checked_shr(u32::from(self.len)).unwrap_or(0) & all
            | if u32::from(self.len) >= width { all } else { 0 }
    }
}

/// The address as its 4 or 16 bytes in network order.
pub fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The address made of 4 or 16 bytes; none for any other length.
pub fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn from_bits(v4: bool, bits: u128) -> IpAddr {
    if v4 { Ipv4Addr::from(bits as u32).into() } else { Ipv6Addr::from(bits).into() }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;
    fn from_str(text: &str) -> Result<Cidr, BadCidr> {
        let bad = || BadCidr(text.to_string());
        let (addr, len) = text.split_once('/').ok_or_else(bad)?;
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let len: u8 = len.parse().map_err(|_| bad())?;
        if len > if addr.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Cidr { addr, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_and_members() {
        for (text, network, inside, outside, last) in [
            ("10.244.3.7/24", "10.244.3.0/24", "10.244.3.255", "10.244.4.0", 255),
            ("10.0.0.1/32", "10.0.0.1/32", "10.0.0.1", "10.0.0.2", 0),
            ("0.0.0.0/0", "0.0.0.0/0", "255.1.1.1", "::1", u128::from(u32::MAX)),
            ("fd00:1::5/120", "fd00:1::/120", "fd00:1::ff", "fd00:1::100", 255),
            ("fd00::1/128", "fd00::1/128", "fd00::1", "fd00::2", 0),
        ] {
            let c = cidr(text);
            assert_eq!(c.network().to_string(), network);
            assert!(c.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!c.contains(outside.parse().unwrap()), "{text} {outside}");
            assert!(c.nth(last).is_some() && c.nth(last + 1).is_none(), "{text}");
            assert_eq!(c.index_of(c.nth(last).unwrap()), Some(last));
        }
    }

    #[test]
    fn bad_text_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "x/8", "10.0.0.0/-1", "10.0.0.0/ 8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
