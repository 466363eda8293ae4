//! The cluster's names, and what a question about one of them is answered with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use client::{Key, Store};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::wire::{ANY, CNAME, Data, NOERROR, NS, NXDOMAIN, Record, Response, SOA, SRV, TXT};

/// Seconds an answer may be kept: endpoints change.
const TTL: u32 = 30;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const BY_SERVICE: &str = "service";
const BY_IP: &str = "ip";
/// The version of the specification that is followed.
const VERSION: &str = "1.1.0";

/// A view of everything that has a name. Cheap to clone; reads memory only.
#[derive(Clone)]
pub struct Zone {
    domain: String,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    namespaces: Store<Namespace>,
    /// Where we are reached ourselves: the address of `ns.dns.DOMAIN`.
    server: Vec<IpAddr>,
}

/// What to do with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Known(Response),
    /// The name is an alias of a name elsewhere: these records, then whatever that name has.
    Alias(Response, String),
    /// Not a name of the cluster.
    NotOurs,
}

impl Zone {
    /// `domain` as `cluster.local`. Adds indexes to the stores.
    pub fn new(
        domain: &str,
        services: Store<Service>,
        slices: Store<EndpointSlice>,
        namespaces: Store<Namespace>,
        server: Vec<IpAddr>,
    ) -> Zone {
        services.add_index(BY_IP, |service| cluster_ips(service).iter().map(IpAddr::to_string).collect());
        slices.add_index(BY_SERVICE, |slice| {
            service_of(slice).map(|k| k.as_str().to_string()).into_iter().collect()
        });
        slices.add_index(BY_IP, |slice| {
            let addresses = slice.endpoints.iter().flatten().flat_map(|e| &e.addresses);
            addresses.filter_map(|a| a.parse::<IpAddr>().ok()).map(|ip| ip.to_string()).collect()
        });
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        Zone { domain, services, slices, namespaces, server }
    }

    fn endpoints(&self, key: &Key) -> Vec<Ready> {
        let mut found: Vec<Ready> = Vec::new();
        for slice in self.slices.by_index(BY_SERVICE, key.as_str()) {
            let ports: Vec<(String, String, u16)> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|p| {
                    let protocol = p.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
                    Some((p.name.clone().unwrap_or_default(), protocol, u16::try_from(p.port?).ok()?))
                })
                .collect();
            for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
                for ip in endpoint.addresses.iter().filter_map(|a| a.parse().ok()) {
                    if !found.iter().any(|r| r.ip == ip && r.ports == ports) {
                        found.push(Ready { ip, name: host_name(endpoint, ip), ports: ports.clone() });
                    }
                }
            }
        }
        found
    }

    fn record(&self, name: &str, data: Data) -> Record {
        Record { name: name.to_string(), ttl: TTL, data }
    }

    fn soa(&self) -> Record {
        let data = Data::Soa {
            mname: format!("ns.dns.{}", self.domain),
            rname: format!("hostmaster.{}", self.domain),
            // The seconds of the last change would have to be kept over restarts; nobody transfers this zone.
            serial: 1,
            refresh: 7200,
            retry: 1800,
            expire: 86400,
            minimum: TTL,
        };
        self.record(&self.domain, data)
    }
}

struct Ready {
    ip: IpAddr,
    /// Its own label below the Service.
    name: String,
    /// (name, protocol, number)
    ports: Vec<(String, String, u16)>,
}

/// What a name below the domain stands for.
enum Found {
    /// There is no such name.
    Nothing,
    /// The name exists but has no records of its own, or not of the kind asked for.
    Empty,
    Records(Vec<Data>, Vec<Record>),
    Alias(String),
}

/// Answers a question from the zone. `name` is in lower case, without the dot at the end.
pub fn answer(name: &str, kind: u16, zone: &Zone) -> Answer {
    if let Some(ip) = reverse(name) {
        return match pointers(ip, zone) {
            names if names.is_empty() => Answer::NotOurs,
            names if kind == crate::wire::PTR || kind == ANY => {
                let answers = names.into_iter().map(|n| zone.record(name, Data::Ptr(n))).collect();
                Answer::Known(Response { rcode: NOERROR, authoritative: true, answers, ..Default::default() })
            }
            _ => Answer::Known(Response { rcode: NOERROR, authoritative: true, ..Default::default() }),
        };
    }
    let below = match name.strip_suffix(&*zone.domain) {
        Some("") => "",
        Some(rest) if rest.ends_with('.') => &rest[..rest.len() - 1],
        _ => return Answer::NotOurs,
    };
    let labels: Vec<&str> = below.split('.').rev().filter(|l| !l.is_empty()).collect();
    let (rcode, data, additional, alias) = match find(&labels, kind, zone) {
        Found::Nothing => (NXDOMAIN, Vec::new(), Vec::new(), None),
        Found::Empty => (NOERROR, Vec::new(), Vec::new(), None),
        Found::Records(data, additional) => (NOERROR, data, additional, None),
        Found::Alias(to) => (NOERROR, vec![Data::Cname(to.clone())], Vec::new(), Some(to)),
    };
    let answers: Vec<Record> = data
        .into_iter()
        .filter(|d| kind == ANY || d.kind() == kind || d.kind() == CNAME)
        .map(|d| zone.record(name, d))
        .collect();
    let authority = if answers.is_empty() { vec![zone.soa()] } else { Vec::new() };
    let mut response = Response { rcode, authoritative: true, answers, authority, additional };
    let Some(to) = alias.filter(|_| kind != CNAME) else { return Answer::Known(response) };
    // An alias to another name of the cluster is followed here, one step: aliases of aliases are the client's.
    match if to.ends_with(&*zone.domain) { answer_once(&to, kind, zone) } else { None } {
        Some(more) => {
            response.answers.extend(more);
            Answer::Known(response)
        }
        None => Answer::Alias(response, to),
    }
}

fn answer_once(name: &str, kind: u16, zone: &Zone) -> Option<Vec<Record>> {
    let below = name.strip_suffix(&*zone.domain)?.strip_suffix('.')?;
    let labels: Vec<&str> = below.split('.').rev().collect();
    match find(&labels, kind, zone) {
        Found::Records(data, _) => {
            Some(data.into_iter().filter(|d| d.kind() == kind).map(|d| zone.record(name, d)).collect())
        }
        Found::Alias(to) => Some(vec![zone.record(name, Data::Cname(to))]),
        Found::Nothing | Found::Empty => Some(Vec::new()),
    }
}

/// `labels` from the domain inwards: `svc`, namespace, Service, …
fn find(labels: &[&str], kind: u16, zone: &Zone) -> Found {
    let server = || Found::Records(zone.server.iter().map(|ip| address(*ip)).collect(), Vec::new());
    match labels {
        [] => {
            let ns = format!("ns.dns.{}", zone.domain);
            let mut data = Vec::new();
            if [SOA, ANY].contains(&kind) {
                data.push(zone.soa().data);
            }
            if [NS, ANY].contains(&kind) {
                data.push(Data::Ns(ns));
            }
            if data.is_empty() { Found::Empty } else { Found::Records(data, Vec::new()) }
        }
        ["dns-version"] => match kind {
            TXT | ANY => Found::Records(vec![Data::Txt(VERSION.into())], Vec::new()),
            _ => Found::Empty,
        },
        ["dns", "ns"] => server(),
        ["svc"] | ["pod"] | ["dns"] => Found::Empty,
        ["svc" | "pod", namespace] => {
            if zone.namespaces.get(&Key::cluster(namespace)).is_some() {
                Found::Empty
            } else {
                Found::Nothing
            }
        }
        ["pod", namespace, dashed] => {
            if zone.namespaces.get(&Key::cluster(namespace)).is_none() {
                return Found::Nothing;
            }
            undashed(dashed).map_or(Found::Nothing, |ip| Found::Records(vec![address(ip)], Vec::new()))
        }
        ["svc", namespace, name, rest @ ..] => service(&Key::new(namespace, name), rest, kind, zone),
        _ => Found::Nothing,
    }
}

fn service(key: &Key, rest: &[&str], kind: u16, zone: &Zone) -> Found {
    let Some(service) = zone.services.get(key) else { return Found::Nothing };
    let Some(spec) = &service.spec else { return Found::Nothing };
    if spec.type_.as_deref() == Some("ExternalName") {
        let to = spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        return if rest.is_empty() && !to.is_empty() { Found::Alias(to) } else { Found::Nothing };
    }
    let own = format!("{}.{}.svc.{}", key.name(), key.namespace(), zone.domain);
    let ips = cluster_ips(&service);
    let headless = ips.is_empty();
    match rest {
        [] if kind == SRV => ports(None, &own, &service, &ips, key, zone),
        [] if headless => {
            let endpoints = zone.endpoints(key);
            // A headless Service without ready endpoints has no name at all.
            if endpoints.is_empty() {
                return Found::Nothing;
            }
            Found::Records(endpoints.iter().map(|e| address(e.ip)).collect(), Vec::new())
        }
        [] => Found::Records(ips.iter().map(|ip| address(*ip)).collect(), Vec::new()),
        [protocol, port] if protocol.starts_with('_') && port.starts_with('_') => {
            ports(Some((&port[1..], &protocol[1..])), &own, &service, &ips, key, zone)
        }
        [host] if headless => {
            let named: Vec<Data> =
                zone.endpoints(key).iter().filter(|e| e.name == **host).map(|e| address(e.ip)).collect();
            if named.is_empty() { Found::Nothing } else { Found::Records(named, Vec::new()) }
        }
        // The way to a name that exists.
        [protocol] if ["_tcp", "_udp", "_sctp"].contains(protocol) => Found::Empty,
        _ => Found::Nothing,
    }
}

fn ports(
    wanted: Option<(&str, &str)>,
    own: &str,
    service: &Service,
    ips: &[IpAddr],
    key: &Key,
    zone: &Zone,
) -> Found {
    let is_wanted = |name: &str, protocol: &str| match wanted {
        Some(w) => w == (name, protocol),
        // Without a port in the question all that have a name.
        None => !name.is_empty(),
    };
    let mut records = Vec::new();
    let mut additional = Vec::new();
    if ips.is_empty() {
        let endpoints = zone.endpoints(key);
        let mut found: Vec<(String, u16, IpAddr)> = Vec::new();
        for endpoint in &endpoints {
            let target = format!("{}.{own}", endpoint.name);
            let ports = endpoint.ports.iter().filter(|(name, protocol, _)| is_wanted(name, protocol));
            found.extend(ports.map(|(_, _, port)| (target.clone(), *port, endpoint.ip)));
        }
        let weight = (100 / found.len().max(1)) as u16;
        for (target, port, ip) in found {
            additional.push(zone.record(&target, address(ip)));
            let record = Data::Srv { priority: 0, weight, port, target };
            if !records.contains(&record) {
                records.push(record);
            }
        }
        additional.dedup();
    } else {
        for port in service.spec.iter().flat_map(|s| s.ports.iter().flatten()) {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
            if is_wanted(port.name.as_deref().unwrap_or(""), &protocol)
                && let Ok(port) = u16::try_from(port.port)
            {
                records.push(Data::Srv { priority: 0, weight: 100, port, target: own.to_string() });
            }
        }
        if !records.is_empty() {
            additional.extend(ips.iter().map(|ip| zone.record(own, address(*ip))));
        }
    }
    match (records.is_empty(), wanted) {
        (true, Some(_)) => Found::Nothing,
        (true, None) => Found::Empty,
        (false, _) => Found::Records(records, additional),
    }
}

/// The names that lead to an address: of a Service, or of endpoints of headless Services.
fn pointers(ip: IpAddr, zone: &Zone) -> Vec<String> {
    let text = ip.to_string();
    let name = |key: &Key| format!("{}.{}.svc.{}", key.name(), key.namespace(), zone.domain);
    let services = zone.services.by_index(BY_IP, &text);
    if !services.is_empty() {
        return services.iter().map(|s| name(&client::Cached::key(&**s))).collect();
    }
    let mut names = Vec::new();
    for slice in zone.slices.by_index(BY_IP, &text) {
        let Some(key) = service_of(&slice) else { continue };
        if !zone.services.get(&key).is_some_and(|s| cluster_ips(&s).is_empty()) {
            continue;
        }
        for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
            if endpoint.addresses.iter().any(|a| a.parse() == Ok(ip)) {
                names.push(format!("{}.{}", host_name(endpoint, ip), name(&key)));
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(Key::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name))
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
}

/// The label of an endpoint below its Service: its host name, else its address with dashes.
fn host_name(endpoint: &Endpoint, ip: IpAddr) -> String {
    match &endpoint.hostname {
        Some(name) if !name.is_empty() => name.to_ascii_lowercase(),
        _ => ip.to_string().replace(['.', ':'], "-"),
    }
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut ips: Vec<IpAddr> =
        spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|t| t.parse().ok()).collect();
    ips.sort();
    ips.dedup();
    ips
}

fn address(ip: IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    }
}

/// `10-244-0-5` or `fd00--5` as an address.
fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from)).ok()
}

/// The address of a name below `in-addr.arpa` or `ip6.arpa`.
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<u8> = rest.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [d, c, b, a] = parts[..] else { return None };
        return Some(IpAddr::from([a, b, c, d]));
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let digits: Vec<u128> = rest
        .split('.')
        .map(|d| if d.len() == 1 { u128::from_str_radix(d, 16).ok() } else { None })
        .collect::<Option<_>>()?;
    let bits = digits.iter().rev().fold(0, |sum, d| sum << 4 | d);
    (digits.len() == 32).then(|| Ipv6Addr::from(bits).into())
}

/// For tests here and in the transports.
#[cfg(test)]
pub(crate) fn store<K: client::Cached>(objects: Vec<serde_json::Value>) -> Store<K> {
    let store = Store::new();
    store.replace(objects.into_iter().map(|o| serde_json::from_value(o).unwrap()).collect(), 1);
    store
}

#[cfg(test)]
pub(crate) mod tests;
