//! Deployments: out, over, up, down, back.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::world::{World, deployment};

async fn settled(world: &World, name: &str, replicas: i32) -> DeploymentStatus {
    let api: Api<Deployment> = world.namespaced("default");
    let ask = || async { api.get(name).await.unwrap() };
    let done = |d: &Deployment| {
        let status = d.status.clone().unwrap_or_default();
        status.observed_generation == d.metadata.generation
            && status.replicas == Some(replicas)
            && status.updated_replicas == Some(replicas)
            && status.available_replicas == Some(replicas)
            && status
                .conditions
                .iter()
                .flatten()
                .any(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"))
    };
    world.until("the rollout", ask, done).await.status.unwrap()
}

async fn change(world: &World, name: &str, body: serde_json::Value) {
    let api: Api<Deployment> = world.namespaced("default");
    api.patch(name, &PatchParams::default(), &Patch::Strategic(body)).await.unwrap();
}

#[tokio::test]
async fn rolls_out_scales_and_rolls_over() {
    let world = World::start(2).await;
    world.create::<Deployment>("default", deployment("web", 3, "one")).await;
    settled(&world, "web", 3).await;
    let pods = world.pods("default").await;
    assert_eq!(pods.len(), 3);
    let mut nodes: Vec<_> = pods.iter().map(|pod| pod.spec.clone().unwrap().node_name.unwrap()).collect();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes.len(), 2, "spread over both nodes");

    change(&world, "web", json!({"spec": {"replicas": 5}})).await;
    settled(&world, "web", 5).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    change(&world, "web", image).await;
    settled(&world, "web", 5).await;
    let pods = world.pods("default").await;
    assert!(pods.iter().all(|pod| pod.spec.clone().unwrap().containers[0].image.as_deref() == Some("two")));

    let sets: Api<ReplicaSet> = world.namespaced("default");
    let mut revisions: Vec<(String, Option<i32>)> = sets
        .list(&Default::default())
        .await
        .unwrap()
        .items
        .iter()
        .map(|set| {
            (
                set.annotations()["deployment.kubernetes.io/revision"].clone(),
                set.spec.clone().unwrap().replicas,
            )
        })
        .collect();
    revisions.sort();
    assert_eq!(revisions, [("1".into(), Some(0)), ("2".into(), Some(5))]);
    let api: Api<Deployment> = world.namespaced("default");
    assert_eq!(api.get("web").await.unwrap().annotations()["deployment.kubernetes.io/revision"], "2");

    let events: Api<Event> = world.namespaced("default");
    let ask = || async { events.list(&Default::default()).await.unwrap().items };
    let told = |events: &Vec<Event>| {
        let has = |reason: &str, component: &str| {
            events.iter().any(|e| {
                e.reason.as_deref() == Some(reason) && e.reporting_component.as_deref() == Some(component)
            })
        };
        has("ScalingReplicaSet", "deployment-controller")
            && has("SuccessfulCreate", "replicaset-controller")
            && has("SuccessfulDelete", "replicaset-controller")
            && has("Scheduled", "default-scheduler")
    };
    world.until("events", ask, told).await;
}

#[tokio::test]
async fn a_bad_version_leaves_the_good_one_up() {
    let world = World::start(1).await;
    world.create::<Deployment>("default", deployment("web", 4, "one")).await;
    settled(&world, "web", 4).await;
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "never-ready"}]}}}});
    change(&world, "web", image).await;
    let api: Api<Deployment> = world.namespaced("default");
    // A quarter more, a quarter less: one new pod beside four, then one old one goes for another new one.
    let ask = || async { api.get("web").await.unwrap().status.unwrap() };
    let stuck = |status: &DeploymentStatus| {
        status.updated_replicas == Some(2)
            && status.available_replicas == Some(3)
            && status.replicas == Some(5)
    };
    world.until("the stuck rollout", ask, stuck).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    change(&world, "web", image).await;
    settled(&world, "web", 4).await;
}

#[tokio::test]
async fn a_deleted_pod_is_replaced() {
    let world = World::start(1).await;
    world.create::<Deployment>("default", deployment("web", 2, "one")).await;
    settled(&world, "web", 2).await;
    let name = world.pods("default").await[0].name_any();
    world
        .namespaced::<k8s_openapi::api::core::v1::Pod>("default")
        .delete(&name, &Default::default())
        .await
        .unwrap();
    let whole = |pods: &Vec<k8s_openapi::api::core::v1::Pod>| {
        pods.len() == 2 && pods.iter().all(|p| p.name_any() != name)
    };
    world.until("the replacement", || world.pods("default"), whole).await;
    settled(&world, "web", 2).await;
}
