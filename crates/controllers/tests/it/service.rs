//! Services and what stands behind them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::world::{World, deployment};

#[tokio::test]
async fn slices_follow_pods() {
    let world = World::start(1).await;
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    world.create::<Service>("default", service).await;
    let slices: Api<EndpointSlice> = world.namespaced("default");
    let of_web = kube::api::ListParams::default().labels("kubernetes.io/service-name=web");
    let ready = || async {
        let slices = slices.list(&of_web).await.unwrap().items;
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let ready =
            endpoints.filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true))).count();
        (slices.len(), ready)
    };
    world.until("an empty slice", ready, |seen| *seen == (1, 0)).await;
    world.create::<Deployment>("default", deployment("web", 3, "one")).await;
    world.until("endpoints", ready, |seen| *seen == (1, 3)).await;
    let slice = &slices.list(&of_web).await.unwrap().items[0];
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
    let endpoints: Api<Endpoints> = world.namespaced("default");
    let addresses = || async {
        let endpoints = endpoints.get_opt("web").await.unwrap()?;
        endpoints.subsets?[0].addresses.as_ref().map(Vec::len)
    };
    world.until("the Endpoints", addresses, |count| *count == Some(3)).await;
    let deployments: Api<Deployment> = world.namespaced("default");
    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    deployments.patch("web", &PatchParams::default(), &scale).await.unwrap();
    world.until("fewer", ready, |seen| *seen == (1, 1)).await;
    let services: Api<Service> = world.namespaced("default");
    services.delete("web", &Default::default()).await.unwrap();
    world.until("no slice", ready, |seen| *seen == (0, 0)).await;
}

#[tokio::test]
async fn custom_endpoints_are_mirrored() {
    let world = World::start(0).await;
    let service = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 80}]}});
    world.create::<Service>("default", service).await;
    let custom = json!({
        "metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}],
    });
    world.create::<Endpoints>("default", custom).await;
    let slices: Api<EndpointSlice> = world.namespaced("default");
    let of_db = kube::api::ListParams::default().labels("kubernetes.io/service-name=db");
    let addresses = || async {
        let slices = slices.list(&of_db).await.unwrap().items;
        let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints.into_iter().flatten());
        endpoints.flat_map(|e| e.addresses).collect::<Vec<_>>()
    };
    world.until("its slice", addresses, |seen| *seen == ["10.1.2.3"]).await;
    let endpoints: Api<Endpoints> = world.namespaced("default");
    let moved = json!({"subsets": [{"addresses": [{"ip": "10.1.2.4"}], "ports": [{"port": 80}]}]});
    endpoints.patch("db", &PatchParams::default(), &Patch::Merge(moved)).await.unwrap();
    world.until("its new slice", addresses, |seen| *seen == ["10.1.2.4"]).await;
    // They go with their Service.
    let services: Api<Service> = world.namespaced("default");
    services.delete("db", &Default::default()).await.unwrap();
    world.until("no slice", addresses, Vec::is_empty).await;
    let left = || async { endpoints.get_opt("db").await.unwrap().is_some() };
    world.until("no Endpoints", left, |left| !left).await;
}
