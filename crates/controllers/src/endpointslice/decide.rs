//! The slices of one Service: as few writes as possible, each slice of one address family and one set of ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::common::{controller_ref, is_finished, is_ready, node_name};

pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The most endpoints in a slice.
const MOST: usize = 100;

pub(super) struct View<'a> {
    pub service: &'a Service,
    /// The pods it selects.
    pub pods: &'a [Arc<Pod>],
    /// The slices that carry its name and are this controller's.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Labels of a node; none if there is no such node.
    pub node: &'a dyn Fn(&str) -> Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<EndpointSlice>,
    /// A pod was left out because its node is not known (yet): look again.
    pub incomplete: bool,
}

pub(super) fn decide(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let families = families(view.service);
    for slice in view.slices.iter().filter(|slice| !families.contains(&slice.address_type.as_str())) {
        plan.delete.push((**slice).clone());
    }
    for family in families {
        let existing: Vec<&Arc<EndpointSlice>> =
            view.slices.iter().filter(|slice| slice.address_type == family).collect();
        reconcile_family(view, family, &existing, &mut plan);
    }
    plan
}

fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.clone().unwrap_or_default();
    let named: Vec<&str> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    match (named.is_empty(), spec.cluster_ip.as_deref().unwrap_or_default()) {
        (false, _) => named,
        (true, "" | "None") => vec!["IPv4", "IPv6"],
        (true, ip) => vec![if is_ipv6(ip) { "IPv6" } else { "IPv4" }],
    }
}

pub(crate) fn is_ipv6(ip: &str) -> bool {
    ip.contains(':')
}

fn reconcile_family(view: &View<'_>, family: &str, existing: &[&Arc<EndpointSlice>], plan: &mut Plan) {
    let service = view.service;
    let owned = |slice: &EndpointSlice| {
        let uid = service.metadata.uid.as_deref().unwrap_or_default();
        slice.metadata.owner_references.iter().flatten().any(|o| o.uid == uid && o.kind == "Service")
    };
    let (mut create, mut update, mut delete) = (Vec::new(), Vec::new(), Vec::new());
    let mut by_ports: Vec<(Vec<EndpointPort>, Vec<EndpointSlice>)> = Vec::new();
    for slice in existing {
        if !owned(slice) {
            delete.push((***slice).clone());
            continue;
        }
        let ports = slice.ports.clone().unwrap_or_default();
        match by_ports.iter_mut().find(|(other, _)| same_ports(other, &ports)) {
            Some((_, slices)) => slices.push((***slice).clone()),
            None => by_ports.push((ports, vec![(***slice).clone()])),
        }
    }
    for (ports, endpoints) in wanted(view, family, plan) {
        let place = by_ports.iter().position(|(other, _)| same_ports(other, &ports));
        let slices = place.map(|n| by_ports.swap_remove(n).1).unwrap_or_default();
        fill(service, family, ports, slices, endpoints, [&mut create, &mut update, &mut delete]);
    }
    delete.extend(by_ports.into_iter().flat_map(|(_, slices)| slices));
    if existing.len() == delete.len() && create.is_empty() {
        // A Service without endpoints has one empty slice, to tell it from one not yet seen.
        let empty = new_slice(service, family, Vec::new(), Vec::new());
        let is_it = |slice: &EndpointSlice| {
            count(slice) == 0
                && slice.ports.iter().flatten().next().is_none()
                && slice.metadata.labels == empty.metadata.labels
                && owned(slice)
        };
        if delete.len() == 1 && is_it(&delete[0]) {
            delete.clear();
        } else {
            create.push(empty);
        }
    }
    // A slice that goes and one that comes make one update.
    while let (Some(place), false) = (delete.iter().position(|slice| owned(slice)), create.is_empty()) {
        let gone = delete.remove(place);
        if let Some(mut new) = create.pop() {
            new.metadata.name = gone.metadata.name;
            new.metadata.resource_version = gone.metadata.resource_version;
            new.metadata.generate_name = gone.metadata.generate_name;
            update.push(new);
        }
    }
    if service.metadata.deletion_timestamp.is_none() {
        plan.create.extend(create);
    }
    plan.update.extend(update);
    plan.delete.extend(delete);
}

/// The endpoints there should be, by their ports.
fn wanted(view: &View<'_>, family: &str, plan: &mut Plan) -> Vec<(Vec<EndpointPort>, Vec<Endpoint>)> {
    let mut by_ports: Vec<(Vec<EndpointPort>, Vec<Endpoint>)> = Vec::new();
    for pod in view.pods.iter().filter(|pod| has_address(pod) && !is_finished(pod)) {
        let spec = view.service.spec.clone().unwrap_or_default();
        let labels = (view.node)(node_name(pod));
        if labels.is_none() && spec.publish_not_ready_addresses != Some(true) {
            plan.incomplete = true;
            continue;
        }
        let ports = endpoint_ports(view.service, pod);
        let zone = labels.and_then(|labels| labels.get(ZONE).cloned());
        let endpoint = endpoint(view.service, pod, family, zone);
        let place = match by_ports.iter().position(|(other, _)| same_ports(other, &ports)) {
            Some(place) => place,
            None => {
                by_ports.push((ports, Vec::new()));
                by_ports.len() - 1
            }
        };
        if !endpoint.addresses.is_empty() {
            by_ports[place].1.push(endpoint);
        }
    }
    by_ports
}

pub(super) fn has_address(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| {
        status.pod_ip.as_deref().is_some_and(|ip| !ip.is_empty())
            || status.pod_ips.iter().flatten().next().is_some()
    })
}

fn endpoint(service: &Service, pod: &Pod, family: &str, zone: Option<String>) -> Endpoint {
    let spec = pod.spec.clone().unwrap_or_default();
    let service_spec = service.spec.clone().unwrap_or_default();
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = service_spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    let named = spec.hostname.clone().filter(|h| !h.is_empty() && spec.subdomain == service.metadata.name);
    Endpoint {
        addresses: ips.map(|ip| ip.ip.clone()).filter(|ip| is_ipv6(ip) == (family == "IPv6")).collect(),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(
            service_spec.traffic_distribution.as_deref(),
            ready,
            zone.as_deref(),
            spec.node_name.as_deref(),
        ),
        hostname: named,
        node_name: spec.node_name.filter(|name| !name.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
        zone,
        deprecated_topology: None,
    }
}

/// Whom the endpoint is meant for, where the Service wishes traffic to stay near.
fn hints(
    distribution: Option<&str>,
    ready: bool,
    zone: Option<&str>,
    node: Option<&str>,
) -> Option<EndpointHints> {
    let zones = || zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let nodes = || node.map(|node| vec![ForNode { name: node.to_owned() }]);
    let hints = match distribution? {
        _ if !ready => return None,
        "PreferClose" | "PreferSameZone" => EndpointHints { for_zones: zones(), for_nodes: None },
        "PreferSameNode" => EndpointHints { for_zones: zones(), for_nodes: nodes() },
        _ => return None,
    };
    (hints.for_zones.is_some() || hints.for_nodes.is_some()).then_some(hints)
}

fn count(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(find_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// The number of a Service's target port in a pod; none where the pod has no port of that name.
pub(crate) fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        Some(IntOrString::Int(0)) | None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let found = ports
        .find(|own| own.name.as_ref() == Some(name) && own.protocol.as_deref().unwrap_or("TCP") == protocol);
    found.map(|own| own.container_port)
}

pub(crate) fn same_ports(a: &[EndpointPort], b: &[EndpointPort]) -> bool {
    let sorted = |ports: &[EndpointPort]| {
        let mut keys: Vec<_> = ports
            .iter()
            .map(|p| (p.name.clone().unwrap_or_default(), p.protocol.clone(), p.port, p.app_protocol.clone()))
            .collect();
        keys.sort();
        keys
    };
    sorted(a) == sorted(b)
}

/// Brings slices of the same ports to hold `endpoints`, changing as few of them as possible.
fn fill(
    service: &Service,
    family: &str,
    ports: Vec<EndpointPort>,
    slices: Vec<EndpointSlice>,
    mut endpoints: Vec<Endpoint>,
    [create, update, delete]: [&mut Vec<EndpointSlice>; 3],
) {
    let identity = |e: &Endpoint| (e.target_ref.as_ref().and_then(|r| r.uid.clone()), e.addresses.clone());
    let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
    for mut slice in slices {
        let mut kept = Vec::new();
        for old in slice.endpoints.iter().flatten() {
            if let Some(place) = endpoints.iter().position(|new| identity(new) == identity(old)) {
                kept.push(endpoints.swap_remove(place));
            }
        }
        let labels = labels(service);
        let labelled = slice.metadata.labels.as_ref() == Some(&labels);
        slice.metadata.labels = Some(labels);
        if kept.is_empty() && count(&slice) > 0 {
            delete.push(slice);
        } else if slice.endpoints.as_deref().unwrap_or_default() != kept || !labelled {
            slice.endpoints = Some(kept);
            changed.push(slice);
        } else {
            unchanged.push(slice);
        }
    }
    // What is written anyway takes on new ones first, the fullest before others.
    changed.sort_by_key(|slice| std::cmp::Reverse(count(slice)));
    for slice in &mut changed {
        let room = MOST.saturating_sub(count(slice)).min(endpoints.len());
        slice.endpoints.get_or_insert_default().extend(endpoints.drain(..room));
    }
    while !endpoints.is_empty() {
        // Then the slice that all of them just fit into, else a new one.
        let fitting = (0..unchanged.len())
            .filter(|n| count(&unchanged[*n]) + endpoints.len() <= MOST)
            .max_by_key(|n| count(&unchanged[*n]));
        if let Some(n) = fitting {
            let mut slice = unchanged.swap_remove(n);
            slice.endpoints.get_or_insert_default().append(&mut endpoints);
            changed.push(slice);
        } else {
            let rest = endpoints.split_off(endpoints.len().min(MOST));
            create.push(new_slice(service, family, ports.clone(), endpoints));
            endpoints = rest;
        }
    }
    update.extend(changed);
}

fn new_slice(
    service: &Service,
    family: &str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.metadata.name.as_deref().unwrap_or_default())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_ref(service)]),
            ..Default::default()
        },
        address_type: family.to_owned(),
        ports: Some(ports),
        endpoints: Some(endpoints),
    }
}

/// The Service's labels and those that tell whose slice it is.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    if matches!(ip, "" | "None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// True if a pod's change may change endpoints.
pub(crate) fn touches_endpoints(old: &Pod, new: &Pod) -> bool {
    let relevant = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        (
            pod.metadata.deletion_timestamp.is_some(),
            pod.metadata.labels.clone(),
            status.and_then(|s| s.pod_ips.clone()),
            spec.and_then(|s| s.node_name.clone()),
            is_ready(pod),
            is_finished(pod),
            spec.map(|s| (s.hostname.clone(), s.subdomain.clone())),
        )
    };
    relevant(old) != relevant(new)
}

/// The names of the Services among `services` that select `pod`.
pub(crate) fn services_of<'a>(services: &'a [Arc<Service>], pod: &'a Pod) -> impl Iterator<Item = &'a str> {
    services.iter().filter_map(move |service| {
        let spec = service.spec.as_ref()?;
        let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
        let selected = crate::common::matches_labels(selector, pod.metadata.labels.as_ref());
        (selected && spec.type_.as_deref() != Some("ExternalName"))
            .then(|| service.metadata.name.as_deref())?
    })
}
