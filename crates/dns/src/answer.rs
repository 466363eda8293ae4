//! The pure part: what the zone says to a question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::objects::Port;
use crate::zone::{Target, Zone};

/// Seconds that answers may be kept.
const TTL: u32 = 30;

/// What to answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub code: Option<ResponseCode>,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// An ExternalName outside the zone: its addresses (of the question's type) belong behind the answers.
    pub continue_at: Option<Name>,
}

/// Answers from the zone; `None` if the name is not the zone's to answer (then upstream resolvers know).
pub fn answer(query: &Query, zone: &Zone) -> Option<Answer> {
    let name = query.name().to_lowercase();
    let mut found = if zone.domain.zone_of(&name) {
        let labels = name.num_labels() - zone.domain.num_labels();
        let labels: Vec<String> =
            name.iter().take(labels.into()).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        in_zone(query, &labels, zone)
    } else {
        // Addresses that are not the cluster's are upstream's.
        reverse(query, &name, zone)?
    };
    if found.answers.is_empty() {
        found.authorities.push(Record::from_rdata(zone.domain.clone(), TTL, soa(zone)));
    }
    Some(found)
}

/// Something is there, but not of that type, or nothing is.
fn nothing(exists: bool) -> Answer {
    Answer {
        code: Some(if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }),
        ..Answer::default()
    }
}

/// `labels`: what stands before the zone's domain, lower case.
fn in_zone(query: &Query, labels: &[String], zone: &Zone) -> Answer {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let kind = query.query_type();
    let own = |data: RData| Record::from_rdata(query.name().clone(), TTL, data);
    match labels[..] {
        [] => match kind {
            RecordType::SOA => Answer { answers: vec![own(soa(zone))], ..nothing(true) },
            RecordType::NS => {
                Answer { answers: vec![own(RData::NS(NS(server_name(zone))))], ..nothing(true) }
            }
            _ => nothing(true),
        },
        ["dns-version"] if kind == RecordType::TXT => {
            Answer { answers: vec![own(RData::TXT(TXT::new(vec!["1.1.0".to_owned()])))], ..nothing(true) }
        }
        ["dns-version" | "dns" | "svc" | "pod"] => nothing(true),
        ["ns", "dns"] => addresses(query, &[zone.service_ip]),
        [namespace, "svc" | "pod"] => nothing(zone.has_namespace(namespace)),
        [address, _, "pod"] => match undashed(address) {
            Some(address) => addresses(query, &[address]),
            None => nothing(false),
        },
        [name, namespace, "svc"] => service(query, name, namespace, zone),
        [label, name, namespace, "svc"] => endpoint(query, label, name, namespace, zone),
        [port, protocol, name, namespace, "svc"] => ports(query, port, protocol, name, namespace, zone),
        _ => nothing(false),
    }
}

fn service(query: &Query, name: &str, namespace: &str, zone: &Zone) -> Answer {
    let Some(entry) = zone.service(namespace, name) else { return nothing(false) };
    match &entry.target {
        Target::External(target) => external(query, target, zone),
        Target::Addresses(found) if query.query_type() == RecordType::SRV => {
            let _ = found;
            ports(query, "*", "*", name, namespace, zone)
        }
        Target::Addresses(found) => addresses(query, found),
        Target::Headless => {
            let endpoints = zone.endpoints(namespace, name);
            if endpoints.is_empty() {
                return nothing(false);
            }
            if query.query_type() == RecordType::SRV {
                return ports(query, "*", "*", name, namespace, zone);
            }
            let mut found: Vec<IpAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
            found.sort();
            found.dedup();
            addresses(query, &found)
        }
    }
}

fn external(query: &Query, target: &str, zone: &Zone) -> Answer {
    let Ok(mut target) = Name::from_str(target) else { return nothing(true) };
    target.set_fqdn(true);
    let alias = Record::from_rdata(query.name().clone(), TTL, RData::CNAME(CNAME(target.clone())));
    let mut out = Answer { answers: vec![alias], ..nothing(true) };
    if query.query_type() == RecordType::CNAME {
        return out;
    }
    if zone.domain.zone_of(&target) {
        // An alias of an alias would be the user's loop; one step is enough.
        let next = Query::query(target, query.query_type());
        if let Some(found) = answer(&next, zone).filter(|found| found.continue_at.is_none()) {
            out.answers.extend(found.answers);
        }
    } else {
        out.continue_at = Some(target);
    }
    out
}

/// `HOSTNAME.SERVICE.NAMESPACE.svc`, of headless Services.
fn endpoint(query: &Query, label: &str, name: &str, namespace: &str, zone: &Zone) -> Answer {
    if label.starts_with('_') {
        // `_tcp.SERVICE…`: a name on the way to SRV records.
        return nothing(zone.service(namespace, name).is_some());
    }
    if zone.service(namespace, name).is_none_or(|entry| entry.target != Target::Headless) {
        return nothing(false);
    }
    let endpoints = zone.endpoints(namespace, name);
    let found: Vec<IpAddr> =
        endpoints.iter().filter(|e| e.label.eq_ignore_ascii_case(label)).map(|e| e.address).collect();
    if found.is_empty() { nothing(false) } else { addresses(query, &found) }
}

/// `_PORT._PROTOCOL.SERVICE.NAMESPACE.svc`; `*` stands for any.
fn ports(query: &Query, port: &str, protocol: &str, name: &str, namespace: &str, zone: &Zone) -> Answer {
    let (Some(port), Some(protocol)) = (srv_label(port), srv_label(protocol)) else { return nothing(false) };
    let Some(entry) = zone.service(namespace, name) else { return nothing(false) };
    let wanted = |p: &&Port| {
        let named = p.name.as_deref().unwrap_or("");
        let over = p.protocol.as_deref().unwrap_or("TCP");
        (port == "*" || named.eq_ignore_ascii_case(port) && !named.is_empty())
            && (protocol == "*" || over.eq_ignore_ascii_case(protocol))
    };
    let service_name = || below(zone, &[name, namespace, "svc"]);
    // (port, the name it is at, that name's addresses)
    let mut found: Vec<(u16, Name, Vec<IpAddr>)> = Vec::new();
    match &entry.target {
        Target::External(target) => return external(query, target, zone),
        Target::Addresses(addresses) => {
            for port in entry.ports.iter().filter(wanted).filter_map(|p| p.port) {
                found.extend(service_name().map(|target| (port, target, addresses.clone())));
            }
        }
        Target::Headless => {
            for endpoint in zone.endpoints(namespace, name) {
                for port in endpoint.ports.iter().filter(wanted).filter_map(|p| p.port) {
                    let target = below(zone, &[&endpoint.label, name, namespace, "svc"]);
                    found.extend(target.map(|target| (port, target, vec![endpoint.address])));
                }
            }
        }
    }
    if found.is_empty() {
        return nothing(false);
    }
    if query.query_type() != RecordType::SRV {
        return nothing(true);
    }
    let weight = (100 / found.len().min(100)) as u16;
    let mut out = nothing(true);
    for (port, target, addresses) in found {
        for address in addresses {
            let extra = Record::from_rdata(target.clone(), TTL, address_data(address));
            if !out.additionals.contains(&extra) {
                out.additionals.push(extra);
            }
        }
        let data = RData::SRV(SRV::new(0, weight, port, target));
        out.answers.push(Record::from_rdata(query.name().clone(), TTL, data));
    }
    out
}

/// `_http` is `http`; `*` stays.
fn srv_label(label: &str) -> Option<&str> {
    if label == "*" { Some(label) } else { label.strip_prefix('_') }
}

/// Those of the addresses that are of the question's type.
fn addresses(query: &Query, all: &[IpAddr]) -> Answer {
    let wanted = |address: &&IpAddr| match query.query_type() {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    let record = |address: &IpAddr| Record::from_rdata(query.name().clone(), TTL, address_data(*address));
    Answer { answers: all.iter().filter(wanted).map(record).collect(), ..nothing(true) }
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

/// `in-addr.arpa` and `ip6.arpa` names of addresses that are the cluster's.
fn reverse(query: &Query, name: &Name, zone: &Zone) -> Option<Answer> {
    let address = reverse_address(name)?;
    let mut targets: Vec<Name> = Vec::new();
    if let Some(key) = zone.service_of(address) {
        targets.extend(below(zone, &[key.name(), key.namespace(), "svc"]));
    }
    for (key, label) in zone.endpoints_of(address) {
        targets.extend(below(zone, &[label, key.name(), key.namespace(), "svc"]));
    }
    if targets.is_empty() {
        return None;
    }
    if !matches!(query.query_type(), RecordType::PTR | RecordType::ANY) {
        return Some(nothing(true));
    }
    let record = |target| Record::from_rdata(query.name().clone(), TTL, RData::PTR(PTR(target)));
    Some(Answer { answers: targets.into_iter().map(record).collect(), ..nothing(true) })
}

/// The address that a full reverse name is of.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&str> = name.iter().map(|l| std::str::from_utf8(l).unwrap_or("")).collect();
    match labels[..] {
        [d, c, b, a, "in-addr", "arpa"] => {
            let octets = [a, b, c, d].map(|label| label.parse::<u8>().ok());
            let [Some(a), Some(b), Some(c), Some(d)] = octets else { return None };
            Some(Ipv4Addr::new(a, b, c, d).into())
        }
        [ref nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let mut value = 0u128;
            for nibble in nibbles.iter().rev() {
                let digit = (nibble.len() == 1).then(|| u128::from_str_radix(nibble, 16).ok())??;
                value = value << 4 | digit;
            }
            Some(Ipv6Addr::from(value).into())
        }
        _ => None,
    }
}

/// The address of a pod's name, `10-1-2-3`.
fn undashed(label: &str) -> Option<IpAddr> {
    label
        .replace('-', ".")
        .parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .ok()
        .or_else(|| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6).ok())
}

/// A name below the zone's domain.
fn below(zone: &Zone, labels: &[&str]) -> Option<Name> {
    let prefix = Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok()?;
    prefix.append_domain(&zone.domain).ok()
}

fn server_name(zone: &Zone) -> Name {
    below(zone, &["ns", "dns"]).unwrap_or_else(|| zone.domain.clone())
}

fn soa(zone: &Zone) -> RData {
    let mail = below(zone, &["hostmaster"]).unwrap_or_else(|| zone.domain.clone());
    RData::SOA(SOA::new(server_name(zone), mail, 1, 7200, 1800, 86400, TTL))
}

#[cfg(test)]
mod tests;
