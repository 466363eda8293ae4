//! Addresses and networks. Upstream reads them sloppily (leading zeros in IPv4) where old objects may hold such, and
//! asks for the canonical form of RFC 5952 in new fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Messages;

/// A network as written: the address with its host bits, and the prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub bits: u8,
    /// Written as `::ffff:a.b.c.d/n`; `address` and `bits` are then IPv4's where the prefix allows.
    mapped: bool,
}

/// Reads an address, with leading zeros allowed in IPv4; an IPv4-mapped address is IPv4.
pub fn parse_sloppy(value: &str) -> Option<IpAddr> {
    if value.contains(':') {
        return parse_v6_sloppy(value).map(|v6| IpAddr::V6(v6).to_canonical());
    }
    parse_v4_sloppy(value).map(IpAddr::V4)
}

/// Reads `ADDRESS/BITS` sloppily.
pub fn parse_cidr_sloppy(value: &str) -> Option<Cidr> {
    let (address, bits) = value.split_once('/')?;
    let v6 = address.contains(':');
    let parsed = parse_sloppy(address)?;
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits: u8 = bits.parse().ok().filter(|b| digits && *b <= if v6 { 128 } else { 32 })?;
    match parsed {
        // the mask of a mapped network counts the leading 96 bits
        IpAddr::V4(_) if v6 && bits >= 96 => Some(Cidr { address: parsed, bits: bits - 96, mapped: true }),
        IpAddr::V4(v4) if v6 => Some(Cidr { address: IpAddr::V6(v4.to_ipv6_mapped()), bits, mapped: true }),
        _ => Some(Cidr { address: parsed, bits, mapped: false }),
    }
}

impl Cidr {
    /// The first address of the network.
    pub fn network(&self) -> IpAddr {
        mask(self.address, self.bits)
    }

    fn canonical(&self) -> String {
        format!("{}/{}", self.network(), self.bits)
    }
}

/// An address in a field of old kinds: sloppy, or with `strict` not.
pub fn legacy_ip(value: &str, strict: bool) -> Messages {
    if parse_sloppy(value).is_none() {
        return vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()];
    }
    let mut out = Vec::new();
    if strict {
        match value.parse::<IpAddr>() {
            Err(_) => out.push("must not have leading 0s".into()),
            Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
                out.push("must not be an IPv4-mapped IPv6 address".into());
            }
            Ok(_) => {}
        }
    }
    out
}

/// An address in a new field: strict and canonical.
pub fn canonical_ip(value: &str) -> Messages {
    let out = legacy_ip(value, true);
    match parse_sloppy(value) {
        Some(ip) if out.is_empty() && ip.to_string() != value => {
            vec![format!("must be in canonical form ({})", crate::field::go_quote(&ip.to_string()))]
        }
        _ => out,
    }
}

/// The warning about an address that [`legacy_ip`] took; `field` as it is shown.
pub fn ip_warning(field: &str, value: &str) -> Option<String> {
    let ip = parse_sloppy(value)?;
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => (v6.to_string() != value).then(|| {
            format!("{field}: IPv6 address \"{value}\" should be in RFC 5952 canonical format (\"{v6}\")")
        }),
        Ok(IpAddr::V4(_)) => None,
        _ => Some(format!("{field}: non-standard IP address \"{value}\" is invalid: use \"{ip}\"")),
    }
}

pub fn legacy_cidr(value: &str, strict: bool) -> Messages {
    let Some(cidr) = parse_cidr_sloppy(value) else {
        return vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()];
    };
    let message = if !strict {
        return Vec::new();
    } else if !strict_cidr(value) {
        "must not have leading 0s in IP or prefix length"
    } else if cidr.mapped {
        "must not have an IPv4-mapped IPv6 address"
    } else if cidr.network() != cidr.address {
        "must not have bits set beyond the prefix length"
    } else {
        return Vec::new();
    };
    vec![message.into()]
}

pub fn canonical_cidr(value: &str) -> Messages {
    let out = legacy_cidr(value, true);
    match parse_cidr_sloppy(value) {
        Some(cidr) if out.is_empty() && cidr.canonical() != value => {
            vec![format!("must be in canonical form (\"{}\")", cidr.canonical())]
        }
        _ => out,
    }
}

/// The warnings about a network that [`legacy_cidr`] took.
pub fn cidr_warnings(field: &str, value: &str) -> Messages {
    let Some(cidr) = parse_cidr_sloppy(value) else { return Vec::new() };
    let mut out = Vec::new();
    if cidr.network() != cidr.address {
        let all = if cidr.address.is_ipv4() { 32 } else { 128 };
        let (net, one) = (cidr.canonical(), format!("{}/{all}", cidr.address));
        out.push(format!(
            "{field}: CIDR value \"{value}\" is ambiguous in this context (should be \"{net}\" or \"{one}\"?)"
        ));
    }
    if !strict_cidr(value) || cidr.mapped {
        let net = cidr.canonical();
        out.push(format!("{field}: non-standard CIDR value \"{value}\" is invalid: use \"{net}\""));
    } else if out.is_empty() && cidr.address.is_ipv6() && format!("{}/{}", cidr.address, cidr.bits) != value {
        let form = format!("{}/{}", cidr.address, cidr.bits);
        out.push(format!(
            "{field}: IPv6 CIDR value \"{value}\" should be in RFC 5952 canonical format (\"{form}\")"
        ));
    }
    out
}

/// An address with its network's prefix length, as interfaces have it.
pub fn interface_address(value: &str) -> Messages {
    let Some(cidr) = parse_cidr_sloppy(value) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into()];
    };
    let canonical = format!("{}/{}", cidr.address, cidr.bits);
    if canonical == value { Vec::new() } else { vec![format!("must be in canonical form (\"{canonical}\")")] }
}

fn strict_cidr(value: &str) -> bool {
    let Some((address, bits)) = value.split_once('/') else { return false };
    address.parse::<IpAddr>().is_ok() && (bits == "0" || !bits.starts_with('0'))
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

fn parse_v4_sloppy(value: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = value.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))?;
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

fn parse_v6_sloppy(value: &str) -> Option<Ipv6Addr> {
    match value.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => {
            let v4 = parse_v4_sloppy(tail)?;
            format!("{head}:{v4}").parse().ok()
        }
        _ => value.parse().ok(),
    }
}
