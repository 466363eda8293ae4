//! Persistent volumes: bound, held while a pod uses the claim, released.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_claim_takes_a_volume_and_leaves_it() {
    let world = World::start(1).await;
    let volumes: Api<PersistentVolume> = Api::all(world.admin.clone());
    let volume = json!({
        "metadata": {"name": "v"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}},
    });
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let claim = json!({
        "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""},
    });
    world.create::<PersistentVolumeClaim>("default", claim).await;
    let claims: Api<PersistentVolumeClaim> = world.namespaced("default");
    let phase =
        |claim: &PersistentVolumeClaim| claim.status.clone().unwrap_or_default().phase.unwrap_or_default();
    let bound =
        world.until("bound", || async { claims.get("c").await.unwrap() }, |c| phase(c) == "Bound").await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("v"));

    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "n0",
            "containers": [{"name": "c", "image": "one"}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}],
        },
    });
    world.create::<Pod>("default", pod).await;
    let held = claims.delete("c", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    world.namespaced::<Pod>("default").delete("p", &DeleteParams::default()).await.unwrap();
    world.until("no claim", || async { claims.get_opt("c").await.unwrap() }, Option::is_none).await;
    let phase =
        |volume: &PersistentVolume| volume.status.clone().unwrap_or_default().phase.unwrap_or_default();
    world.until("released", || async { volumes.get("v").await.unwrap() }, |v| phase(v) == "Released").await;
}
