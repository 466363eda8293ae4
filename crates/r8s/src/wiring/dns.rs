//! Cluster DNS on this node: pods reach it at the Service address, which the proxy's rules turn into the pod bridge's
//! own address on this node. The Service and its endpoints are made here, as add-ons.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::ApiServer;
use dns::Config;
use http::{Method, Request};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::identity;
use crate::config::Server;
use crate::supervise::Supervisor;

/// On the node; pods see port 53 of the Service.
const PORT: u16 = 10053;
const ACCOUNT: &str = "coredns";

/// Starts the server on the pod bridge's addresses, and publishes them.
pub fn start(api: &ApiServer, config: &Server, gateways: &[IpAddr], supervisor: &mut Supervisor) {
    let service_ip = config.dns_address();
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let ourselves: Vec<IpAddr> = gateways.iter().copied().chain([service_ip]).collect();
    let settings = Config {
        listen: gateways.iter().map(|address| SocketAddr::new(*address, PORT)).collect(),
        domain: config.cluster_domain.clone(),
        service_ip,
        upstreams: dns::upstreams(&resolv_conf, &ourselves),
    };
    let objects = objects(&config.node_name, service_ip, gateways);
    let (api_for_objects, shutdown) = (api.clone(), supervisor.shutdown());
    tokio::spawn(async move { publish(&api_for_objects, &objects, shutdown).await });
    let api = api.clone();
    supervisor.run("dns", move |ready, shutdown| {
        let client = identity::client(&api, identity::service_account(ACCOUNT), "r8s-dns");
        dns::run(settings.clone(), client, ready, shutdown)
    });
}

/// Applies the add-on's objects until it succeeds.
async fn publish(api: &ApiServer, objects: &[(String, Value)], shutdown: CancellationToken) {
    let client = identity::client(api, identity::admin(), "r8s-addons");
    for (path, object) in objects {
        while let Err(error) = apply(&client, path, object).await {
            tracing::warn!(path, %error, "cannot make an object of the cluster DNS; trying again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }
}

async fn apply(client: &kube::Client, path: &str, object: &Value) -> Result<()> {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager=r8s-addons&force=true"))
        .header("Content-Type", "application/apply-patch+yaml")
        .body(object.to_string().into_bytes())
        .context("request")?;
    client.request_text(request).await?;
    Ok(())
}

fn objects(node: &str, service_ip: IpAddr, gateways: &[IpAddr]) -> Vec<(String, Value)> {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let in_system = |kind: &str, name: &str| format!("/api/v1/namespaces/kube-system/{kind}/{name}");
    let ports = |target: bool| -> Vec<Value> {
        [("dns", "UDP"), ("dns-tcp", "TCP")]
            .iter()
            .map(|(name, protocol)| match target {
                true => json!({"name": name, "protocol": protocol, "port": PORT}),
                false => json!({"name": name, "protocol": protocol, "port": 53, "targetPort": PORT}),
            })
            .collect()
    };
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"});
    let mut out = vec![
        (
            in_system("serviceaccounts", ACCOUNT),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": "kube-system"}}),
        ),
        (
            format!("{rbac}/clusterroles/system:coredns"),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "system:coredns", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
                "rules": [
                    {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
                ],
            }),
        ),
        (
            format!("{rbac}/clusterrolebindings/system:coredns"),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "system:coredns", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "kube-system"}],
            }),
        ),
        (
            in_system("services", "kube-dns"),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
                "spec": {"clusterIP": service_ip.to_string(), "internalTrafficPolicy": "Local", "ports": ports(false)},
            }),
        ),
    ];
    for gateway in gateways {
        let family = if gateway.is_ipv4() { "IPv4" } else { "IPv6" };
        let name = format!("kube-dns-{node}-{}", family.to_lowercase());
        out.push((
            format!("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/{name}"),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": name, "namespace": "kube-system",
                    "labels": {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "r8s"},
                },
                "addressType": family,
                "endpoints": [{"addresses": [gateway.to_string()], "nodeName": node, "conditions": {"ready": true, "serving": true, "terminating": false}}],
                "ports": ports(true),
            }),
        ));
    }
    out
}
