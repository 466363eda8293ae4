//! DaemonSets: a pod a node, a new one for a new node, another template.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_pod_on_every_node() {
    let world = World::start(2).await;
    let set = json!({
        "metadata": {"name": "ds"},
        "spec": {
            "selector": {"matchLabels": {"app": "ds"}},
            "template": {
                "metadata": {"labels": {"app": "ds"}},
                "spec": {"containers": [{"name": "c", "image": "one"}]},
            },
        },
    });
    world.create::<DaemonSet>("default", set).await;
    let sets: Api<DaemonSet> = world.namespaced("default");
    let settled = |count: i32| {
        move |set: &DaemonSet| {
            let status = set.status.clone().unwrap_or_default();
            status.desired_number_scheduled == count
                && status.number_available == Some(count)
                && status.updated_number_scheduled == Some(count)
                && status.observed_generation == set.metadata.generation
        }
    };
    let ask = || async { sets.get("ds").await.unwrap() };
    world.until("two pods", ask, settled(2)).await;
    world.add_node("late").await;
    world.until("three pods", ask, settled(3)).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    sets.patch("ds", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    world.until("the new template", ask, settled(3)).await;
    let pods = world.pods("default").await;
    assert!(pods.iter().all(|pod| pod.spec.clone().unwrap().containers[0].image.as_deref() == Some("two")));
    let revisions: Api<ControllerRevision> = world.namespaced("default");
    let mut numbers: Vec<i64> =
        revisions.list(&Default::default()).await.unwrap().items.iter().map(|r| r.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}
