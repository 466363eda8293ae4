//! Owners and dependents.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use serde_json::json;

use crate::world::{World, deployment};

async fn with_pods(world: &World) -> Api<Deployment> {
    world.create::<Deployment>("default", deployment("web", 2, "one")).await;
    world.until("pods", || world.pods("default"), |pods| pods.len() == 2).await;
    world.namespaced("default")
}

async fn delete(world: &World, policy: PropagationPolicy) {
    let api: Api<Deployment> = world.namespaced("default");
    let params = DeleteParams { propagation_policy: Some(policy), ..Default::default() };
    api.delete("web", &params).await.unwrap();
    world.until("the end", || async { api.get_opt("web").await.unwrap() }, Option::is_none).await;
}

async fn sets(world: &World) -> Vec<ReplicaSet> {
    world.namespaced::<ReplicaSet>("default").list(&Default::default()).await.unwrap().items
}

#[tokio::test]
async fn background_and_foreground_take_all() {
    let world = World::start(1).await;
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground] {
        let _deployments = with_pods(&world).await;
        let foreground = matches!(policy, PropagationPolicy::Foreground);
        delete(&world, policy).await;
        if foreground {
            assert!(sets(&world).await.is_empty(), "the owner outlives its dependents");
        }
        world.until("no sets", || sets(&world), Vec::is_empty).await;
        world.until("no pods", || world.pods("default"), Vec::is_empty).await;
    }
}

#[tokio::test]
async fn orphans_stay_and_are_taken_in_again() {
    let world = World::start(1).await;
    let _deployments = with_pods(&world).await;
    delete(&world, PropagationPolicy::Orphan).await;
    let free = |sets: &Vec<ReplicaSet>| sets.len() == 1 && sets[0].metadata.owner_references.is_none();
    world.until("a free set", || sets(&world), free).await;
    assert_eq!(world.pods("default").await.len(), 2);
    world.create::<Deployment>("default", deployment("web", 2, "one")).await;
    let taken = |sets: &Vec<ReplicaSet>| sets.len() == 1 && sets[0].metadata.owner_references.is_some();
    world.until("adoption", || sets(&world), taken).await;
}

#[tokio::test]
async fn an_owner_that_is_not_there_takes_its_dependents_with_it() {
    let world = World::start(0).await;
    let owner =
        |name: &str, uid: &str| json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}]);
    let kept = world.create::<ConfigMap>("default", json!({"metadata": {"name": "kept"}})).await;
    let uid = kept.metadata.uid.unwrap();
    world
        .create::<ConfigMap>(
            "default",
            json!({"metadata": {"name": "owned", "ownerReferences": owner("kept", &uid)}}),
        )
        .await;
    world
        .create::<ConfigMap>(
            "default",
            json!({"metadata": {"name": "lost", "ownerReferences": owner("never", "no-such")}}),
        )
        .await;
    let api: Api<ConfigMap> = world.namespaced("default");
    world.until("the lost one's end", || async { api.get_opt("lost").await.unwrap() }, Option::is_none).await;
    assert!(api.get_opt("owned").await.unwrap().is_some());
    api.delete("kept", &DeleteParams::default()).await.unwrap();
    world
        .until("the owned one's end", || async { api.get_opt("owned").await.unwrap() }, Option::is_none)
        .await;
}

#[tokio::test]
async fn a_finalizer_holds_a_foreground_deletion() {
    let world = World::start(0).await;
    let owner = world.create::<ConfigMap>("default", json!({"metadata": {"name": "owner"}})).await;
    let reference = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid, "blockOwnerDeletion": true,
    }]);
    let held = json!({"metadata": {"name": "held", "finalizers": ["a.b/c"], "ownerReferences": reference}});
    world.create::<ConfigMap>("default", held).await;
    let api: Api<ConfigMap> = world.namespaced("default");
    api.delete("owner", &DeleteParams::foreground()).await.unwrap();
    let deleting =
        |map: &Option<ConfigMap>| map.as_ref().is_some_and(|m| m.metadata.deletion_timestamp.is_some());
    world.until("the dependent's deletion", || async { api.get_opt("held").await.unwrap() }, deleting).await;
    assert!(api.get_opt("owner").await.unwrap().is_some());
    let free = json!({"metadata": {"finalizers": null}});
    api.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    world.until("the owner's end", || async { api.get_opt("owner").await.unwrap() }, Option::is_none).await;
}
