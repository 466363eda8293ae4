//! Follows the cluster's nodes, so that every pod CIDR is reachable.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Cached, Informers, Key, Source, Store};
use kernel::net::Cidr;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Network, Peer};

const NODES: &str = "/api/v1/nodes";
/// Changes that come together are carried out together.
const GATHER: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(5);

/// The little that is kept of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
struct Node {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl Cached for Node {
    fn key(&self) -> Key {
        Key::cluster(&self.metadata.name)
    }

    fn object_uid(&self) -> &str {
        &self.metadata.uid
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// None while the node has no pod CIDR or no address.
fn peer(node: &Node) -> Option<Peer> {
    let internal = node.status.addresses.iter().filter(|a| a.kind == "InternalIP");
    let mut node_ips: Vec<IpAddr> = internal.filter_map(|a| a.address.parse().ok()).collect();
    // The first of each family is the one that counts.
    let mut seen = [false; 2];
    node_ips.retain(|ip| !std::mem::replace(&mut seen[usize::from(ip.is_ipv4())], true));
    let pod_cidrs: Vec<Cidr> = node.spec.pod_cidrs.iter().filter_map(|t| t.parse().ok()).collect();
    (!node_ips.is_empty() && !pod_cidrs.is_empty()).then_some(Peer { node_ips, pod_cidrs })
}

fn others(nodes: &Store<Node>, own: &str) -> Vec<Peer> {
    let mut peers = Vec::new();
    nodes.for_each(|_, node| {
        if node.metadata.name != own {
            peers.extend(peer(node));
        }
    });
    peers
}

/// Keeps the ways to all other nodes' pods true until `shutdown`. Call it when the network has its own CIDRs.
pub async fn run(network: Network, node_name: String, client: kube::Client, shutdown: CancellationToken) {
    let informers = Informers::new(client, shutdown.clone());
    let nodes: Store<Node> = informers.watch(Source::path(NODES));
    let changed = Arc::new(Notify::new());
    let notify = changed.clone();
    let _subscription = nodes.on_change(move |change| {
        // Heartbeats and conditions change nothing here.
        if change.old.and_then(|n| peer(n)) != change.new.and_then(|n| peer(n)) {
            notify.notify_one();
        }
    });
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = nodes.synced() => {}
    }
    loop {
        let (network, peers) = (network.clone(), others(&nodes, &node_name));
        let retry = match tokio::task::spawn_blocking(move || network.set_peers(&peers)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot set the ways to other nodes' pods");
                Some(RETRY)
            }
            Err(error) => {
                tracing::error!(%error, "setting the ways to other nodes' pods");
                Some(RETRY)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed.notified() => tokio::time::sleep(GATHER).await,
            () = async { match retry {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            } } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_as_peers() {
        let store: Store<Node> = Store::new();
        let put = |name: &str, spec, addresses| {
            let node = json!({"metadata": {"name": name}, "spec": spec, "status": {"addresses": addresses}});
            store.apply(serde_json::from_value(node).unwrap());
        };
        let cidrs =
            |n: u8| json!({"podCIDR": format!("10.244.{n}.0/24"), "podCIDRs": [format!("10.244.{n}.0/24")]});
        let at =
            |ip: &str| json!([{"type": "Hostname", "address": "x"}, {"type": "InternalIP", "address": ip}]);
        put("me", cidrs(1), at("192.0.2.1"));
        put("other", cidrs(2), at("192.0.2.2"));
        put("young", json!({}), at("192.0.2.3"));
        put("lost", cidrs(4), json!([]));
        let peers = others(&store, "me");
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].node_ips, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    }
}
