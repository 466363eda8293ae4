//! One slice for each subset and address family, as the Endpoints say.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, ObjectReference};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::subsets::pack;
use crate::common::controller_ref;
use crate::endpointslice::{MANAGED_BY, SERVICE_NAME, same_ports};

pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// What says something of the Endpoints only.
const NOT_COPIED: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// The longest name that takes a dash and stays one.
const LONGEST: usize = 252;

/// The most addresses of a subset that are mirrored, so that a subset is one slice.
pub(super) const MOST: usize = 1000;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<EndpointSlice>,
    /// Addresses that are none.
    pub invalid: usize,
    /// Addresses left out, those included.
    pub skipped: usize,
}

/// False for what asks not to be, and for the Endpoints that old leader elections are kept in.
pub(super) fn should_mirror(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skip = meta.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    !skip && !meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER))
}

struct Wanted {
    family: &'static str,
    ports: Vec<EndpointPort>,
    endpoints: BTreeMap<Identity, Endpoint>,
}

/// What makes an endpoint the same one: its address, and the name of what stands behind it.
type Identity = (Vec<String>, String, String, String);

/// `slices` are those that mirror these Endpoints now.
pub(super) fn decide(endpoints: &Endpoints, slices: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let wanted = wanted(endpoints, &mut plan);
    let mut left: Vec<&EndpointSlice> = slices.iter().map(|slice| &**slice).collect();
    for one in wanted {
        let matches = |slice: &&EndpointSlice| {
            slice.address_type == one.family
                && same_ports(slice.ports.as_deref().unwrap_or_default(), &one.ports)
        };
        let (mut existing, others): (Vec<_>, Vec<_>) = left.into_iter().partition(matches);
        left = others;
        if existing.is_empty() {
            plan.create.push(slice(endpoints, &one, None));
            continue;
        }
        let first = existing.remove(0);
        plan.delete.extend(existing.into_iter().cloned());
        if !is_so(endpoints, first, &one) {
            plan.update.push(slice(endpoints, &one, Some(first)));
        }
    }
    plan.delete.extend(left.into_iter().cloned());
    recycle(endpoints, &mut plan);
    plan
}

/// A slice that goes and one of its family that comes make one update.
fn recycle(endpoints: &Endpoints, plan: &mut Plan) {
    for mut new in std::mem::take(&mut plan.create) {
        let place = plan.delete.iter().position(|old| old.address_type == new.address_type);
        if let Some(place) = place {
            let old = plan.delete.remove(place);
            new.metadata.generate_name = None;
            new.metadata.name = old.metadata.name;
            plan.update.push(new);
        } else if endpoints.metadata.deletion_timestamp.is_none() {
            plan.create.push(new);
        }
    }
}

fn wanted(endpoints: &Endpoints, plan: &mut Plan) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for subset in pack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let mut added = 0;
        for (address, ready) in &subset.addresses {
            if added >= MOST {
                break;
            }
            let Some(ip) = parse(&address.ip) else {
                plan.invalid += 1;
                continue;
            };
            added += 1;
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let place = all.iter().position(|one| one.family == family && same_ports(&one.ports, &ports));
            let place = place.unwrap_or_else(|| {
                all.push(Wanted { family, ports: ports.clone(), endpoints: BTreeMap::new() });
                all.len() - 1
            });
            let endpoint = endpoint(address, ip, *ready);
            all[place].endpoints.insert(identity(&endpoint), endpoint);
        }
        plan.skipped += subset.addresses.len() - added;
    }
    all
}

/// Old objects may have numbers with leading zeros.
fn parse(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let numbers: Vec<u8> = text
        .split('.')
        .map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?)
        .collect::<Option<_>>()?;
    let four: [u8; 4] = numbers.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(four)))
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

fn identity(endpoint: &Endpoint) -> Identity {
    let target = endpoint.target_ref.as_ref();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    (
        addresses,
        text(endpoint.hostname.as_ref()),
        text(target.and_then(|target| target.namespace.as_ref())),
        text(target.and_then(|target| target.name.as_ref())),
    )
}

fn is_so(endpoints: &Endpoints, slice: &EndpointSlice, wanted: &Wanted) -> bool {
    let mut labels = slice.metadata.labels.clone().unwrap_or_default();
    labels.remove(MANAGED_BY);
    labels.remove(SERVICE_NAME);
    let mut own_labels = endpoints.metadata.labels.clone().unwrap_or_default();
    own_labels.remove(MANAGED_BY);
    own_labels.remove(SERVICE_NAME);
    let another = |owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
        owner.kind == "Endpoints"
            && Some(&owner.name) == endpoints.metadata.name.as_ref()
            && Some(&owner.uid) != endpoints.metadata.uid.as_ref()
    };
    let found = slice.endpoints.as_deref().unwrap_or_default();
    found.len() == wanted.endpoints.len()
        && found.iter().all(|old| wanted.endpoints.get(&identity(old)).is_some_and(|new| same(old, new)))
        && labels == own_labels
        && slice.metadata.annotations.clone().unwrap_or_default() == annotations(endpoints)
        && !slice.metadata.owner_references.iter().flatten().any(another)
}

/// Equal beyond their identity. A target's revision is no news.
fn same(old: &Endpoint, new: &Endpoint) -> bool {
    let conditions = |e: &Endpoint| {
        let c = e.conditions.clone().unwrap_or_default();
        (c.ready, c.serving, c.terminating)
    };
    let target = |e: &Endpoint| {
        e.target_ref.clone().map(|target| ObjectReference { resource_version: None, ..target })
    };
    old.node_name == new.node_name
        && old.zone == new.zone
        && conditions(old) == conditions(new)
        && target(old) == target(new)
}

fn annotations(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
    annotations
}

fn slice(endpoints: &Endpoints, wanted: &Wanted, old: Option<&EndpointSlice>) -> EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let prefix = if name.len() > LONGEST { name } else { format!("{name}-") };
    EndpointSlice {
        metadata: ObjectMeta {
            name: old.and_then(|old| old.metadata.name.clone()),
            generate_name: old.is_none().then_some(prefix),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations(endpoints)).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![controller_ref(endpoints)]),
            ..Default::default()
        },
        address_type: wanted.family.into(),
        ports: Some(wanted.ports.clone()),
        endpoints: Some(wanted.endpoints.values().take(MOST).cloned().collect()),
    }
}
