//! Addresses and networks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use machinery::field::go_quote;

use crate::env::Activation;
use crate::lib_std::{Res, no_overload};
use crate::value::Value;

type Host<'h, 'a> = &'h dyn Activation<'a>;

/// The address with its host bits, and the prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Cidr {
    fn masked(&self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Cidr { address, bits: self.bits }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.address.is_ipv4()
            && Cidr { address: ip, bits: self.bits }.masked() == self.masked()
    }
}

/// Addresses with zones and IPv4-mapped ones are refused.
fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let quoted = go_quote(text);
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {quoted} is not allowed"))
        }
        Ok(ip) => Ok(ip),
        Err(_) => {
            if let Some((address, zone)) = text.split_once('%')
                && !zone.is_empty()
                && address.parse::<Ipv6Addr>().is_ok()
            {
                return Err(format!("IP address {quoted} with zone value is not allowed"));
            }
            let why = explain_ip(text);
            Err(format!("IP Address {quoted} parse error during conversion from string: {why}"))
        }
    }
}

/// As Go's `netip.ParseAddr` says it.
fn explain_ip(text: &str) -> String {
    let quoted = go_quote(text);
    for c in text.chars() {
        match c {
            '.' => return format!("ParseAddr({quoted}): {}", explain_v4(text)),
            ':' => return format!("ParseAddr({quoted}): {}", explain_v6(text)),
            '%' => return format!("ParseAddr({quoted}): missing IPv6 address"),
            _ => {}
        }
    }
    format!("ParseAddr({quoted}): unable to parse IP")
}

fn explain_v4(text: &str) -> String {
    let (mut value, mut position, mut digits) = (0u32, 0, 0);
    let bytes = text.as_bytes();
    for (at, b) in bytes.iter().enumerate() {
        match b {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return "IPv4 field has octet with leading zero".into();
                }
                value = value * 10 + u32::from(b - b'0');
                digits += 1;
                if value > 255 {
                    return "IPv4 field has value >255".into();
                }
            }
            b'.' => {
                if at == 0 || at == bytes.len() - 1 || bytes[at - 1] == b'.' {
                    return format!("IPv4 field must have at least one digit (at {})", go_quote(&text[at..]));
                }
                if position == 3 {
                    return "IPv4 address too long".into();
                }
                position += 1;
                (value, digits) = (0, 0);
            }
            _ => return format!("unexpected character (at {})", go_quote(text.get(at..).unwrap_or(""))),
        }
    }
    "IPv4 address too short".into()
}

fn explain_v6(text: &str) -> String {
    let full = text.split_once('%').map_or(text, |(address, _)| address);
    if text.ends_with('%') {
        return "zone must be a non-empty string".into();
    }
    let mut rest = full;
    let mut ellipsis = false;
    if let Some(after) = rest.strip_prefix("::") {
        ellipsis = true;
        rest = after;
        if rest.is_empty() {
            return "unable to parse IP".into();
        }
    }
    let mut groups = 0;
    while groups < 8 {
        let hex = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if hex > 4 && rest.as_bytes().get(hex) != Some(&b'.') {
            return format!("each group must have 4 or less digits (at {})", go_quote(rest));
        }
        if hex == 0 {
            return format!(
                "each colon-separated field must have at least one digit (at {})",
                go_quote(rest)
            );
        }
        if rest.as_bytes().get(hex) == Some(&b'.') {
            return format!("{} (at {})", explain_v4(rest), go_quote(rest));
        }
        groups += 1;
        rest = &rest[hex..];
        if rest.is_empty() {
            break;
        }
        let Some(after) = rest.strip_prefix(':') else {
            return format!("unexpected character, want colon (at {})", go_quote(rest));
        };
        if after.is_empty() {
            return format!("colon must be followed by more characters (at {})", go_quote(rest));
        }
        rest = after;
        if let Some(after) = rest.strip_prefix(':') {
            if ellipsis {
                return format!("multiple :: in address (at {})", go_quote(rest));
            }
            ellipsis = true;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
    if !rest.is_empty() {
        return format!("trailing garbage after address (at {})", go_quote(rest));
    }
    if groups < 8 {
        "address string too short".into()
    } else {
        "the :: must expand to at least one field of zeros".into()
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, String> {
    let quoted = go_quote(text);
    let fail = |why: &str| {
        Err(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({quoted}): {why}"
        ))
    };
    let Some((address, bits)) = text.rsplit_once('/') else { return fail("no '/'") };
    let Ok(ip) = address.parse::<IpAddr>() else {
        if let Some((v6, _)) = address.split_once('%')
            && v6.parse::<Ipv6Addr>().is_ok()
        {
            return fail("IPv6 zones cannot be present in a prefix");
        }
        return fail(&explain_ip(address));
    };
    let digits = bits.bytes().all(|b| b.is_ascii_digit());
    if bits.is_empty() || !digits || (bits.len() > 1 && bits.starts_with('0')) {
        return fail(&format!("bad bits after slash: {}", go_quote(bits)));
    }
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let Some(bits) = bits.parse::<u8>().ok().filter(|b| *b <= most) else {
        return fail("prefix length out of range");
    };
    if let IpAddr::V6(v6) = ip
        && v6.to_ipv4_mapped().is_some()
    {
        return Err(format!("IPv4-mapped IPv6 address {quoted} is not allowed"));
    }
    Ok(Cidr { address: ip, bits })
}

pub(crate) fn ip<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::String(text)] => Ok(Value::Ip(parse_ip(text)?)),
        [Value::Cidr(cidr)] => Ok(Value::Ip(cidr.address)),
        other => no_overload("ip", other),
    }
}

pub(crate) fn is_ip<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("isIP", args) };
    Ok(Value::Bool(parse_ip(text).is_ok()))
}

pub(crate) fn is_canonical<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("ip.isCanonical", args) };
    Ok(Value::Bool(*parse_ip(text)?.to_string() == **text))
}

fn of_ip<'a>(args: &[Value<'a>], name: &str, of: fn(&IpAddr) -> bool) -> Res<'a> {
    match args {
        [Value::Ip(ip)] => Ok(Value::Bool(of(ip))),
        _ => no_overload(name, args),
    }
}

pub(crate) fn family<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Ip(ip)] => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        _ => no_overload("family", args),
    }
}

pub(crate) fn is_unspecified<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    of_ip(args, "isUnspecified", IpAddr::is_unspecified)
}

pub(crate) fn is_loopback<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    of_ip(args, "isLoopback", IpAddr::is_loopback)
}

fn link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn global_unicast(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !link_local_unicast(ip)
}

pub(crate) fn is_link_local_multicast<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    of_ip(args, "isLinkLocalMulticast", link_local_multicast)
}

pub(crate) fn is_link_local_unicast<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    of_ip(args, "isLinkLocalUnicast", link_local_unicast)
}

pub(crate) fn is_global_unicast<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    of_ip(args, "isGlobalUnicast", global_unicast)
}

const READING: &str = "network address parse error during conversion from string";

pub(crate) fn cidr<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("cidr", args) };
    parse_cidr(text).map(Value::Cidr).map_err(|error| format!("{READING}: {error}").into())
}

pub(crate) fn is_cidr<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("isCIDR", args) };
    Ok(Value::Bool(parse_cidr(text).is_ok()))
}

pub(crate) fn contains_ip<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Cidr(cidr), Value::Ip(ip)] => Ok(Value::Bool(cidr.contains(*ip))),
        [Value::Cidr(cidr), Value::String(text)] => match parse_ip(text) {
            Ok(ip) => Ok(Value::Bool(cidr.contains(ip))),
            Err(_) => Err("no such overload".into()),
        },
        _ => no_overload("containsIP", args),
    }
}

pub(crate) fn contains_cidr<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (cidr, other) = match args {
        [Value::Cidr(cidr), Value::Cidr(other)] => (cidr, *other),
        [Value::Cidr(cidr), Value::String(text)] => {
            (cidr, parse_cidr(text).map_err(|error| format!("{READING}: {error}"))?)
        }
        _ => return no_overload("containsCIDR", args),
    };
    Ok(Value::Bool(cidr.bits <= other.bits && cidr.contains(other.address)))
}

pub(crate) fn prefix_length<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Cidr(cidr)] => Ok(Value::Int(i64::from(cidr.bits))),
        _ => no_overload("prefixLength", args),
    }
}

pub(crate) fn masked<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Cidr(cidr)] => Ok(Value::Cidr(cidr.masked())),
        _ => no_overload("masked", args),
    }
}
