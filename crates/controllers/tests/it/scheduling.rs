//! The scheduler: room, no room, room again.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::world::World;

fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

#[tokio::test]
async fn waits_for_room() {
    let world = World::start(1).await;
    world.create::<Pod>("default", pod("big", "3")).await;
    let pods: Api<Pod> = world.namespaced("default");
    let placed = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    world.until("the first's place", || async { pods.get("big").await.unwrap() }, placed).await;
    world.create::<Pod>("default", pod("second", "2")).await;
    let told = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let wanted = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: \
            0/1 nodes are available: 1 No preemption victims found for incoming pod.";
        conditions.into_iter().any(|c| {
            c.type_ == "PodScheduled"
                && c.reason.as_deref() == Some("Unschedulable")
                && c.message.as_deref() == Some(wanted)
        })
    };
    world.until("the refusal", || async { pods.get("second").await.unwrap() }, told).await;
    let events: Api<Event> = world.namespaced("default");
    let ask = || async { events.list(&Default::default()).await.unwrap().items };
    let failed = |events: &Vec<Event>| events.iter().any(|e| e.reason.as_deref() == Some("FailedScheduling"));
    world.until("its event", ask, failed).await;
    pods.delete("big", &DeleteParams::default()).await.unwrap();
    world.until("the second's place", || async { pods.get("second").await.unwrap() }, placed).await;
}

#[tokio::test]
async fn a_new_node_is_used() {
    let world = World::start(0).await;
    world.create::<Pod>("default", pod("early", "1")).await;
    let pods: Api<Pod> = world.namespaced("default");
    let told = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.message.as_deref() == Some("no nodes available to schedule pods"))
    };
    world.until("the refusal", || async { pods.get("early").await.unwrap() }, told).await;
    world.add_node("late").await;
    let running =
        |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    world.until("its run", || async { pods.get("early").await.unwrap() }, running).await;
}
