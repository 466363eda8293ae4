//! The Endpoints object of a Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::common::{is_finished, is_ready};
use crate::endpointslice::{HEADLESS, find_port, is_ipv6};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// The object to write; none if it is so already.
pub(super) fn decide(service: &Service, pods: &[Arc<Pod>], old: Option<&Endpoints>) -> Option<Endpoints> {
    let subsets = subsets(service, pods);
    let labels = labels(service);
    let same = |old: &Endpoints| {
        old.subsets.as_deref().unwrap_or_default() == subsets && old.metadata.labels.as_ref() == Some(&labels)
    };
    if old.is_some_and(same) {
        return None;
    }
    let mut endpoints = old.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        },
        subsets: None,
    });
    endpoints.metadata.labels = Some(labels);
    endpoints.subsets = (!subsets.is_empty()).then_some(subsets);
    Some(endpoints)
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    if matches!(ip, "" | "None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// Addresses with the same ports together, ready ones apart from others, all in a fixed order.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let v6 = spec.ip_families.iter().flatten().next().is_some_and(|family| family == "IPv6")
        || spec.cluster_ip.as_deref().is_some_and(is_ipv6);
    let mut subsets: Vec<EndpointSubset> = Vec::new();
    for pod in pods.iter().filter(|pod| !is_finished(pod)) {
        let status = pod.status.clone().unwrap_or_default();
        let Some(ip) = status.pod_ips.into_iter().flatten().map(|ip| ip.ip).find(|ip| is_ipv6(ip) == v6)
        else {
            continue;
        };
        let published = spec.publish_not_ready_addresses == Some(true);
        if pod.metadata.deletion_timestamp.is_some() && !published {
            continue;
        }
        let ports: Vec<EndpointPort> = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone().filter(|name| !name.is_empty()),
                    port: find_port(pod, port)?,
                    protocol: port.protocol.clone(),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        if ports.is_empty() && spec.ports.iter().flatten().next().is_some() {
            continue;
        }
        let address = address(service, pod, ip);
        let place = subsets.iter().position(|subset| subset.ports.as_deref().unwrap_or_default() == ports);
        let place = place.unwrap_or_else(|| {
            subsets
                .push(EndpointSubset { ports: (!ports.is_empty()).then_some(ports), ..Default::default() });
            subsets.len() - 1
        });
        let subset = &mut subsets[place];
        let list =
            if published || is_ready(pod) { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    for subset in &mut subsets {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
    }
    subsets.sort_by_key(|subset| {
        let ports = subset.ports.iter().flatten();
        ports.map(|port| (port.port, port.name.clone())).collect::<Vec<_>>()
    });
    subsets
}

fn address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let spec = pod.spec.clone().unwrap_or_default();
    EndpointAddress {
        hostname: spec.hostname.filter(|name| !name.is_empty() && spec.subdomain == service.metadata.name),
        ip,
        node_name: spec.node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodIP, ServicePort, ServiceSpec};

    use super::*;
    use crate::common::test::{meta, pod};

    #[test]
    fn ready_and_not_ready_apart_and_then_at_rest() {
        let port = ServicePort { port: 80, ..Default::default() };
        let spec = ServiceSpec { ports: Some(vec![port]), ..Default::default() };
        let service = Service { metadata: meta("s"), spec: Some(spec), status: None };
        let with = |name: &str, ip: &str, ready: Option<i64>| {
            let mut pod = pod(name, None, ready);
            pod.status.as_mut().unwrap().pod_ips = Some(vec![PodIP { ip: ip.into() }]);
            Arc::new(pod)
        };
        let pods =
            [with("a", "10.0.0.2", Some(1)), with("b", "10.0.0.1", Some(1)), with("c", "10.0.0.3", None)];
        let made = decide(&service, &pods, None).unwrap();
        let subset = &made.subsets.as_ref().unwrap()[0];
        let ips: Vec<&str> = subset.addresses.iter().flatten().map(|address| address.ip.as_str()).collect();
        assert_eq!(
            (ips, subset.not_ready_addresses.as_ref().unwrap().len()),
            (vec!["10.0.0.1", "10.0.0.2"], 1)
        );
        assert_eq!(decide(&service, &pods, Some(&made)), None);
        assert_eq!(decide(&service, &[], Some(&made)).unwrap().subsets, None);
    }
}
