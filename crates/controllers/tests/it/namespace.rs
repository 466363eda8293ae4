//! Namespaces: what is in them from the first, and their end.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::world::{World, deployment};

#[tokio::test]
async fn has_an_account_and_the_root_certificates() {
    let world = World::start(0).await;
    world.namespace("x").await;
    let maps: Api<ConfigMap> = world.namespaced("x");
    let map = world
        .until("the map", || async { maps.get_opt("kube-root-ca.crt").await.unwrap() }, Option::is_some)
        .await;
    assert_eq!(map.unwrap().data.unwrap()["ca.crt"], "CA");
    let accounts: Api<ServiceAccount> = world.namespaced("x");
    let first = accounts.get("default").await.unwrap();
    accounts.delete("default", &DeleteParams::default()).await.unwrap();
    let anew = |account: &Option<ServiceAccount>| {
        account.as_ref().is_some_and(|a| a.metadata.uid != first.metadata.uid)
    };
    world.until("a new account", || async { accounts.get_opt("default").await.unwrap() }, anew).await;
    maps.delete("kube-root-ca.crt", &DeleteParams::default()).await.unwrap();
    world
        .until("a new map", || async { maps.get_opt("kube-root-ca.crt").await.unwrap() }, Option::is_some)
        .await;
}

#[tokio::test]
async fn ends_with_all_that_is_in_it() {
    let world = World::start(1).await;
    world.namespace("x").await;
    world.create::<Deployment>("x", deployment("web", 2, "one")).await;
    world.until("pods", || world.pods("x"), |pods| pods.len() == 2).await;
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    namespaces.delete("x", &DeleteParams::default()).await.unwrap();
    world.until("the end", || async { namespaces.get_opt("x").await.unwrap() }, Option::is_none).await;
    assert!(world.pods("x").await.is_empty());
    assert!(world.namespaced::<Deployment>("x").list(&Default::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn says_what_holds_it() {
    let world = World::start(0).await;
    world.namespace("x").await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["a.b/c"]}});
    world.create::<ConfigMap>("x", held).await;
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    namespaces.delete("x", &DeleteParams::default()).await.unwrap();
    let told = |namespace: &Namespace| {
        let status = namespace.status.clone().unwrap_or_default();
        let message = |kind: &str| {
            let all = status.conditions.as_ref()?;
            all.iter().find(|c| c.type_ == kind && c.status == "True")?.message.clone()
        };
        let content = "Some resources are remaining: configmaps. has 1 resource instances";
        let finalizers =
            "Some content in the namespace has finalizers remaining: a.b/c in 1 resource instances";
        status.phase.as_deref() == Some("Terminating")
            && message("NamespaceContentRemaining").as_deref() == Some(content)
            && message("NamespaceFinalizersRemaining").as_deref() == Some(finalizers)
    };
    world.until("conditions", || async { namespaces.get("x").await.unwrap() }, told).await;
    let free = json!({"metadata": {"finalizers": null}});
    let maps: Api<ConfigMap> = world.namespaced("x");
    maps.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    world.until("the end", || async { namespaces.get_opt("x").await.unwrap() }, Option::is_none).await;
}
