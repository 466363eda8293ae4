//! Cluster DNS on this node. Pods reach it at the Service address, which the proxy's rules turn into the pod bridge's
//! own address on a node. What the server may do (its role) is made here, as kubeadm does for CoreDNS.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::ApiServer;
use dns::{Config, Stats, Upstreams};
use http::{Method, Request};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::identity;
use crate::config::Server;
use crate::supervise::Supervisor;

const ACCOUNT: &str = "coredns";

/// Starts the server on the pod bridge's addresses; with another runtime, on the node's.
pub fn start(api: &ApiServer, config: &Server, gateways: &[IpAddr], supervisor: &mut Supervisor) {
    let settings = Config {
        node_name: config.node_name.clone(),
        domain: config.cluster_domain.clone(),
        listen: gateways.to_vec(),
        port: 53,
        clients: vec![(config.cluster_cidr.network, config.cluster_cidr.prefix)],
        cluster_ips: vec![config.dns_address()],
        upstreams: Upstreams::ResolvConf("/etc/resolv.conf".into()),
        stub_domains: Vec::new(),
        stats: Arc::new(Stats::default()),
    };
    let api = api.clone();
    supervisor.run("dns", move |ready, shutdown| {
        let (api, settings) = (api.clone(), settings.clone());
        async move {
            grant(&api, &shutdown).await;
            let client = identity::client(&api, identity::service_account(ACCOUNT), "r8s-dns");
            dns::run(settings, client, ready, shutdown).await
        }
    });
}

/// Makes the account and its role; tries until it succeeds.
async fn grant(api: &ApiServer, shutdown: &CancellationToken) {
    let client = identity::client(api, identity::admin(), "r8s-addons");
    for (path, object) in objects() {
        while let Err(error) = apply(&client, &path, &object).await {
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

/// Paths and objects.
fn objects() -> Vec<(String, Value)> {
    let rbac = "rbac.authorization.k8s.io";
    let subjects = json!([{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "kube-system"}]);
    let labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    let name = "system:coredns";
    let reads = json!([
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]);
    let announces = json!([
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "create"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "create", "patch"]},
    ]);
    let cluster = format!("/apis/{rbac}/v1");
    let system = format!("/apis/{rbac}/v1/namespaces/kube-system");
    let role = |kind: &str, metadata: Value, rules: Value| json!({"apiVersion": format!("{rbac}/v1"), "kind": kind, "metadata": metadata, "rules": rules});
    let binding = |kind: &str, of: &str, metadata: Value| {
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": kind, "metadata": metadata, "subjects": subjects,
            "roleRef": {"apiGroup": rbac, "kind": of, "name": name},
        })
    };
    let everywhere = json!({"name": name, "labels": labels});
    let here = json!({"name": name, "namespace": "kube-system", "labels": labels});
    vec![
        (
            format!("/api/v1/namespaces/kube-system/serviceaccounts/{ACCOUNT}"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": "kube-system"}}),
        ),
        (format!("{cluster}/clusterroles/{name}"), role("ClusterRole", everywhere.clone(), reads)),
        (
            format!("{cluster}/clusterrolebindings/{name}"),
            binding("ClusterRoleBinding", "ClusterRole", everywhere),
        ),
        (format!("{system}/roles/{name}"), role("Role", here.clone(), announces)),
        (format!("{system}/rolebindings/{name}"), binding("RoleBinding", "Role", here)),
    ]
}
