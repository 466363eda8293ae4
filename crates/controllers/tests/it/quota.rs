//! ResourceQuotas: what is allowed is told, what has gone is given back.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn counts_and_gives_back() {
    let world = World::start(0).await;
    world.namespace("q").await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "configmaps": "5", "count/deployments.apps": "2"}}});
    world.create::<ResourceQuota>("q", quota).await;
    let quotas: Api<ResourceQuota> = world.namespaced("q");
    let used = |quota: &ResourceQuota, name: &str| {
        quota.status.as_ref().and_then(|status| Some(status.used.as_ref()?.get(name)?.0.clone()))
    };
    let ask = || async { quotas.get("q").await.unwrap() };
    // Every namespace has the map with the root certificates.
    world.until("counted", ask, |q| used(q, "configmaps").as_deref() == Some("1")).await;
    let pod = |name: &str| -> Pod {
        let spec = json!({"containers": [{"name": "c", "image": "i"}]});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    };
    let pods: Api<Pod> = world.namespaced("q");
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let refused = pods.create(&PostParams::default(), &pod("b")).await;
    let Err(kube::Error::Api(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!((refused.code, refused.message.contains("exceeded quota: q")), (403, true));
    world.create::<ConfigMap>("q", json!({"metadata": {"name": "m"}})).await;
    assert_eq!(used(&ask().await, "configmaps").as_deref(), Some("2"));
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    world.until("given back", ask, |q| used(q, "pods").as_deref() == Some("0")).await;
    pods.create(&PostParams::default(), &pod("b")).await.unwrap();
}
