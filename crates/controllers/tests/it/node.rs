//! Nodes: addresses for pods, silence, and the end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn nodes_get_addresses_and_lose_their_first_taint() {
    let cidrs = vec!["10.244.0.0/16".to_owned()];
    let world = World::with(2, controllers::Config { cluster_cidrs: cidrs, ..Default::default() }).await;
    let nodes: Api<Node> = Api::all(world.admin.clone());
    let ask = || async { nodes.list(&Default::default()).await.unwrap().items };
    let given = |nodes: &Vec<Node>| {
        let specs: Vec<_> = nodes.iter().filter_map(|node| node.spec.clone()).collect();
        let mut cidrs: Vec<_> = specs.iter().filter_map(|spec| spec.pod_cidr.clone()).collect();
        cidrs.sort();
        cidrs == ["10.244.0.0/24", "10.244.1.0/24"]
            && specs.iter().all(|spec| spec.taints.iter().flatten().next().is_none())
    };
    world.until("addresses and no taints", ask, given).await;
}

#[tokio::test]
async fn a_silent_node_loses_its_pods() {
    let grace = Duration::from_secs(2);
    let world = World::with(2, controllers::Config { node_monitor_grace: grace, ..Default::default() }).await;
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "n0",
            "containers": [{"name": "c", "image": "i"}],
            "tolerations": [{
                "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 1,
            }],
        },
    });
    world.create::<Pod>("default", pod).await;
    // The other node is heard of all the time.
    let beating = world.admin.clone();
    let heart = tokio::spawn(async move {
        let nodes: Api<Node> = Api::all(beating);
        loop {
            let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let status = json!({"status": {"conditions": [
                {"type": "Ready", "status": "True", "lastHeartbeatTime": now}
            ]}});
            nodes.patch_status("n1", &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let nodes: Api<Node> = Api::all(world.admin.clone());
    let tainted = |node: &Node| {
        let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        taints.any(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == "NoExecute")
    };
    world.until("the taint", || async { nodes.get("n0").await.unwrap() }, tainted).await;
    let pods: Api<Pod> = world.namespaced("default");
    world.until("the eviction", || async { pods.get_opt("p").await.unwrap() }, Option::is_none).await;
    let other = nodes.get("n1").await.unwrap();
    assert!(!tainted(&other));
    heart.abort();
}

#[tokio::test]
async fn a_pod_deleted_before_it_had_a_node_goes() {
    let world = World::start(0).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    world.create::<Pod>("default", pod).await;
    let pods: Api<Pod> = world.namespaced("default");
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    world.until("its end", || async { pods.get_opt("p").await.unwrap() }, Option::is_none).await;
}
