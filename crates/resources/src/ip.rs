//! IP addresses and CIDRs in fields.

use std::net::IpAddr;

use machinery::field::{ErrorList, Path};
use machinery::names::ip;
pub(crate) use machinery::names::ip::{Cidr, parse_cidr_sloppy as cidr, parse_sloppy as sloppy};

use crate::check::Errors;

/// A field that once accepted sloppy addresses; what stood in the old object is good in any case, new values must be
/// unambiguous but not canonical.
pub(crate) fn legacy(at: &Path, text: &str, old: &[&str], errors: &mut ErrorList) {
    if !old.contains(&text) {
        errors.each(at, text, ip::legacy_ip(text, true));
    }
}

/// A field that accepts only the canonical form.
pub(crate) fn strict(at: &Path, text: &str, errors: &mut ErrorList) {
    errors.each(at, text, ip::canonical_ip(text));
}

/// Warnings for a legacy field's address.
pub(crate) fn warnings(at: &Path, text: &str) -> Option<String> {
    ip::ip_warning(&at.to_string(), text)
}

/// A field that once accepted sloppy CIDRs. True if it is good.
pub(crate) fn legacy_cidr(at: &Path, text: &str, old: &[&str], errors: &mut ErrorList) -> bool {
    let messages = if old.contains(&text) { Vec::new() } else { ip::legacy_cidr(text, true) };
    let good = messages.is_empty();
    errors.each(at, text, messages);
    good
}

/// A field that accepts only the canonical form.
pub(crate) fn strict_cidr(at: &Path, text: &str, errors: &mut ErrorList) {
    errors.each(at, text, ip::canonical_cidr(text));
}

/// Warnings for a legacy field's CIDR.
pub(crate) fn cidr_warnings(at: &Path, text: &str) -> Vec<String> {
    ip::cidr_warnings(&at.to_string(), text)
}

/// Is the address in this network?
pub(crate) fn contains(net: &Cidr, address: IpAddr) -> bool {
    ip::parse_cidr_sloppy(&format!("{address}/{}", net.bits)).is_some_and(|c| c.network() == net.network())
}

/// One address of each family, or one, or none.
pub(crate) fn at_most_one_of_each(addresses: impl Iterator<Item = bool> + Clone) -> bool {
    addresses.clone().filter(|v4| *v4).count() <= 1 && addresses.filter(|v4| !*v4).count() <= 1
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
