//! ReplicationControllers: the older name for ReplicaSets.

use k8s_openapi::api::core::v1::ReplicationController;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn keeps_a_number_of_pods() {
    let world = World::start(1).await;
    let template = json!({"metadata": {"labels": {"app": "r"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
    let object = json!({"metadata": {"name": "r"}, "spec": {"replicas": 2, "selector": {"app": "r"}, "template": template}});
    world.create::<ReplicationController>("default", object).await;
    let controllers: Api<ReplicationController> = world.namespaced("default");
    let status = |object: &ReplicationController| object.status.clone().unwrap_or_default();
    let ask = || async { controllers.get("r").await.unwrap() };
    let settled =
        world.until("two", ask, |r| status(r).available_replicas == Some(2) && status(r).replicas == 2).await;
    let one = Patch::Merge(json!({"spec": {"replicas": 1}}));
    controllers.patch("r", &PatchParams::default(), &one).await.unwrap();
    let fewer = world
        .until("one", ask, |r| status(r).replicas == 1 && status(r).observed_generation == Some(2))
        .await;
    assert_eq!(fewer.metadata.uid, settled.metadata.uid);
    controllers.delete("r", &DeleteParams::background()).await.unwrap();
    world.until("no pods", || world.pods("default"), Vec::is_empty).await;
}
