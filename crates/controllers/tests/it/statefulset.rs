//! StatefulSets: names in order, another template from the last to the first.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn pods_with_names_of_their_own() {
    let world = World::start(1).await;
    let set = json!({
        "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db", "replicas": 2,
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": "one"}]},
            },
        },
    });
    world.create::<StatefulSet>("default", set).await;
    let sets: Api<StatefulSet> = world.namespaced("default");
    let ask = || async { sets.get("db").await.unwrap() };
    let settled = |set: &StatefulSet| {
        let status = set.status.clone().unwrap_or_default();
        status.available_replicas == Some(2)
            && status.updated_replicas == Some(2)
            && status.current_revision == status.update_revision
            && status.observed_generation == set.metadata.generation
    };
    world.until("two pods", ask, settled).await;
    let mut names: Vec<String> = world.pods("default").await.iter().map(ResourceExt::name_any).collect();
    names.sort();
    assert_eq!(names, ["db-0", "db-1"]);
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    sets.patch("db", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    world.until("the new template", ask, settled).await;
    let pods = world.pods("default").await;
    assert!(pods.iter().all(|pod| pod.spec.clone().unwrap().containers[0].image.as_deref() == Some("two")));
}
