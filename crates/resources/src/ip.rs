//! IP addresses and CIDRs as upstream reads them: old fields accept leading zeros, new fields only the canonical form
//! (`k8s.io/apimachinery/pkg/util/validation/ip.go`).

use std::net::{IpAddr, Ipv4Addr};

use machinery::field::{ErrorList, Path, go_quote};

use crate::check::Errors;

/// Reads an address as Go did up to 1.16: leading zeros are decimal; mapped addresses are IPv4.
pub(crate) fn sloppy(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        if text.contains('%') {
            return None;
        }
        let fixed;
        let text = match text.rsplit_once(':') {
            Some((head, tail)) if tail.contains('.') => {
                fixed = format!("{head}:{}", sloppy_v4(tail)?);
                &fixed
            }
            _ => text,
        };
        return text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    }
    sloppy_v4(text).map(IpAddr::V4)
}

fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    }
    parts.next().is_none().then(|| octets.into())
}

/// Is it an IPv4 address in IPv6 clothes?
fn is_mapped(text: &str) -> bool {
    matches!(text.parse::<IpAddr>(), Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some())
}

const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// A field that once accepted sloppy addresses; what stood in the old object is good in any case, new values must be
/// unambiguous but not canonical.
pub(crate) fn legacy(at: &Path, text: &str, old: &[&str], errors: &mut ErrorList) {
    if !old.contains(&text) {
        unambiguous(at, text, errors);
    }
}

fn unambiguous(at: &Path, text: &str, errors: &mut ErrorList) -> Option<IpAddr> {
    let Some(ip) = sloppy(text) else {
        errors.invalid(at, text, BAD_IP);
        return None;
    };
    if text.parse::<IpAddr>().is_err() {
        errors.invalid(at, text, "must not have leading 0s");
    } else if is_mapped(text) {
        errors.invalid(at, text, "must not be an IPv4-mapped IPv6 address");
    } else {
        return Some(ip);
    }
    None
}

/// A field that accepts only the canonical form.
pub(crate) fn strict(at: &Path, text: &str, errors: &mut ErrorList) {
    if let Some(ip) = unambiguous(at, text, errors)
        && ip.to_string() != text
    {
        errors.invalid(at, text, format!("must be in canonical form ({})", go_quote(&ip.to_string())));
    }
}

/// Warnings for a legacy field's address.
pub(crate) fn warnings(at: &Path, text: &str) -> Vec<String> {
    let Some(ip) = sloppy(text) else { return Vec::new() };
    let (quoted, good) = (go_quote(text), go_quote(&ip.to_string()));
    match text.parse::<IpAddr>() {
        Err(_) => vec![format!("{at}: non-standard IP address {quoted} is invalid: use {good}")],
        Ok(_) if is_mapped(text) => {
            vec![format!("{at}: non-standard IP address {quoted} is invalid: use {good}")]
        }
        Ok(IpAddr::V6(v6)) if v6.to_string() != text => {
            vec![format!("{at}: IPv6 address {quoted} should be in RFC 5952 canonical format ({good})")]
        }
        Ok(_) => Vec::new(),
    }
}

/// An address and a prefix length, as `a.b.c.d/n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cidr {
    pub ip: IpAddr,
    pub bits: u8,
}

impl Cidr {
    pub(crate) fn sloppy(text: &str) -> Option<Self> {
        let (ip, bits) = text.split_once('/')?;
        let mapped = ip.contains(':');
        let ip = sloppy(ip)?;
        if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = bits.trim_start_matches('0');
        let bits: u8 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let (max, bits) = match ip {
            IpAddr::V4(_) if mapped => (32, bits.checked_sub(96)?),
            IpAddr::V4(_) => (32, bits),
            IpAddr::V6(_) => (128, bits),
        };
        (bits <= max).then_some(Self { ip, bits })
    }

    /// The network's own address.
    pub(crate) fn network(self) -> IpAddr {
        match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((u32::from(ip) & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((u128::from(ip) & mask).into())
            }
        }
    }

    /// Is the address in this network?
    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.ip.is_ipv4() && Self { ip, ..self }.network() == self.network()
    }

    /// The network as text.
    pub(crate) fn canonical(self) -> String {
        format!("{}/{}", self.network(), self.bits)
    }

    fn is_standard(text: &str) -> bool {
        text.split_once('/').is_some_and(|(ip, bits)| {
            ip.parse::<IpAddr>().is_ok()
                && (bits == "0" || !bits.starts_with('0'))
                && bits.parse::<u8>().is_ok()
        })
    }

    fn is_mapped(text: &str) -> bool {
        text.split_once('/').is_some_and(|(ip, _)| is_mapped(ip))
    }
}

const BAD_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A field that once accepted sloppy CIDRs. The network, if it is one.
pub(crate) fn legacy_cidr(at: &Path, text: &str, old: &[&str], errors: &mut ErrorList) -> Option<Cidr> {
    if old.contains(&text) {
        return Cidr::sloppy(text);
    }
    unambiguous_cidr(at, text, errors)
}

fn unambiguous_cidr(at: &Path, text: &str, errors: &mut ErrorList) -> Option<Cidr> {
    let Some(cidr) = Cidr::sloppy(text) else {
        errors.invalid(at, text, BAD_CIDR);
        return None;
    };
    if !Cidr::is_standard(text) {
        errors.invalid(at, text, "must not have leading 0s in IP or prefix length");
    } else if Cidr::is_mapped(text) {
        errors.invalid(at, text, "must not have an IPv4-mapped IPv6 address");
    } else if cidr.network() != cidr.ip {
        errors.invalid(at, text, "must not have bits set beyond the prefix length");
    } else {
        return Some(cidr);
    }
    None
}

/// A field that accepts only the canonical form.
pub(crate) fn strict_cidr(at: &Path, text: &str, errors: &mut ErrorList) {
    if let Some(cidr) = unambiguous_cidr(at, text, errors)
        && cidr.canonical() != text
    {
        errors.invalid(at, text, format!("must be in canonical form ({})", go_quote(&cidr.canonical())));
    }
}

/// Warnings for a legacy field's CIDR.
pub(crate) fn cidr_warnings(at: &Path, text: &str) -> Vec<String> {
    let Some(cidr) = Cidr::sloppy(text) else { return Vec::new() };
    let quoted = go_quote(text);
    let mut out = Vec::new();
    if cidr.network() != cidr.ip {
        let bits = if cidr.ip.is_ipv4() { 32 } else { 128 };
        let single = go_quote(&format!("{}/{bits}", cidr.ip));
        let canonical = go_quote(&cidr.canonical());
        out.push(format!(
            "{at}: CIDR value {quoted} is ambiguous in this context (should be {canonical} or {single}?)"
        ));
    }
    let canonical = go_quote(&cidr.canonical());
    if !Cidr::is_standard(text) || Cidr::is_mapped(text) {
        out.push(format!("{at}: non-standard CIDR value {quoted} is invalid: use {canonical}"));
    }
    let shown = format!("{}/{}", cidr.ip, cidr.bits);
    if out.is_empty() && cidr.ip.is_ipv6() && shown != text {
        let shown = go_quote(&shown);
        out.push(format!("{at}: IPv6 CIDR value {quoted} should be in RFC 5952 canonical format ({shown})"));
    }
    out
}

/// An address with the length of its network, in canonical form.
pub(crate) fn interface_address(at: &Path, text: &str, errors: &mut ErrorList) {
    match Cidr::sloppy(text) {
        None => {
            let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.invalid(at, text, detail);
        }
        Some(Cidr { ip, bits }) => {
            let canonical = format!("{ip}/{bits}");
            if canonical != text {
                errors.invalid(at, text, format!("must be in canonical form ({})", go_quote(&canonical)));
            }
        }
    }
}

/// An address that can be an endpoint: not unspecified, loopback or link-local.
pub(crate) fn endpoint(at: &Path, text: &str, errors: &mut ErrorList) {
    let Some(ip) = sloppy(text) else {
        return errors.invalid(at, text, "must be a valid IP address");
    };
    if ip.is_unspecified() {
        errors.invalid(at, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid(at, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        errors.invalid(at, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(at, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sloppy_addresses() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(sloppy(text).map(|ip| ip.to_string()).as_deref(), want, "{text}");
        };
        check("010.1.1.1", Some("10.1.1.1"));
        check("::ffff:1.2.3.4", Some("1.2.3.4"));
        check("2001:DB8::1", Some("2001:db8::1"));
        check("1.2.3", None);
        check("256.1.1.1", None);
        check("", None);
        check("fe80::1%eth0", None);
    }

    #[test]
    fn cidrs() {
        let cidr = Cidr::sloppy("10.1.2.3/16").unwrap();
        assert_eq!(cidr.canonical(), "10.1.0.0/16");
        assert!(cidr.contains([10, 1, 9, 9].into()) && !cidr.contains([10, 2, 0, 0].into()));
        assert_eq!(Cidr::sloppy("::ffff:1.2.3.4/120").unwrap().canonical(), "1.2.3.0/24");
        assert_eq!(Cidr::sloppy("1.2.3.4/33"), None);
        assert_eq!(Cidr::sloppy("::/0").unwrap().canonical(), "::/0");
    }
}
