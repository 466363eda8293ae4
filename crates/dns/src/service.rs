//! The `kube-dns` Service: clients and kubelets expect it, and it leads to the DNS servers of all nodes.
//!
//! It has no selector; every node's server keeps one EndpointSlice per family with its own address, so a pod on any
//! node is served while one server lives.

use std::net::IpAddr;

use client::write::apply;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use serde_json::json;

pub(crate) const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
const MANAGER: &str = "r8s-dns";

/// Makes the Service when there is none. An existing one stays as it is: it is the user's.
pub(crate) async fn ensure_service(client: &kube::Client, cluster_ips: &[IpAddr]) -> Result<(), kube::Error> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    if services.get_opt(NAME).await?.is_some() {
        return Ok(());
    }
    let port = |name: &str, port: u16, protocol: &str| json!({"name": name, "port": port, "protocol": protocol, "targetPort": port});
    let families: Vec<&str> =
        cluster_ips.iter().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "clusterIP": cluster_ips.first(),
            "clusterIPs": cluster_ips,
            "ipFamilies": families,
            "ipFamilyPolicy": if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "ports": [port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP")],
        },
    });
    let service: Service = serde_json::from_value(service).map_err(kube::Error::SerdeError)?;
    match services.create(&PostParams::default(), &service).await {
        // Another node's server was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// Says that this node's server answers at these addresses.
pub(crate) async fn announce(
    client: &kube::Client,
    node: &str,
    at: &[(IpAddr, u16)],
) -> Result<(), kube::Error> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    for (ip, port) in at {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let name = format!("{NAME}-{node}-{}", family.to_ascii_lowercase());
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": NAME,
                    "endpointslice.kubernetes.io/managed-by": MANAGER,
                },
            },
            "addressType": family,
            "endpoints": [{"addresses": [ip], "nodeName": node, "conditions": {"ready": true}}],
            "ports": [
                {"name": "dns", "port": port, "protocol": "UDP"},
                {"name": "dns-tcp", "port": port, "protocol": "TCP"},
            ],
        });
        apply(&slices, &name, client::write::Part::Main, MANAGER, &slice).await?;
    }
    Ok(())
}
