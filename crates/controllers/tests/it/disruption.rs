//! PodDisruptionBudgets: evictions go through as long as the budget lasts.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{EvictParams, Patch};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::world::{World, deployment};

#[tokio::test]
async fn evictions_stop_at_the_budget() {
    let world = World::start(1).await;
    world.create::<Deployment>("default", deployment("a", 3, "one")).await;
    let budget = json!({
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "a"}}},
    });
    world.create::<PodDisruptionBudget>("default", budget).await;
    let budgets: Api<PodDisruptionBudget> = world.namespaced("default");
    let status = |budget: &PodDisruptionBudget| budget.status.clone().unwrap_or_default();
    let ask = || async { budgets.get("b").await.unwrap() };
    let none = world.until("all healthy", ask, |b| status(b).current_healthy == Some(3)).await;
    assert_eq!(status(&none).disruptions_allowed, Some(0));
    let pods: Api<Pod> = world.namespaced("default");
    let pod = world.pods("default").await[0].name_any();
    let refused = pods.evict(&pod, &EvictParams::default()).await;
    let Err(kube::Error::Api(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.code, 429);

    let fewer = json!({"spec": {"minAvailable": 2}});
    budgets.patch("b", &Default::default(), &Patch::Merge(fewer)).await.unwrap();
    world.until("one to spare", ask, |b| status(b).disruptions_allowed == Some(1)).await;
    pods.evict(&pod, &EvictParams::default()).await.unwrap();
    world
        .until("one to spare again", ask, |b| {
            status(b).disruptions_allowed == Some(1) && status(b).disrupted_pods.is_none()
        })
        .await;
}
