//! Jobs: counted once, done, and gone with all their pods.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn pods_are_counted_and_freed() {
    let world = World::start(1).await;
    let template = json!({"spec": {"containers": [{"name": "c", "image": "one"}], "restartPolicy": "Never"}});
    let job = |name: &str| json!({"metadata": {"name": name}, "spec": {"completions": 2, "parallelism": 2, "template": template}});
    world.create::<Job>("default", job("a")).await;
    let jobs: Api<Job> = world.namespaced("default");
    let status = |job: &Job| job.status.clone().unwrap_or_default();
    let ask = || async { jobs.get("a").await.unwrap() };
    world.until("two pods", ask, |job| status(job).active == Some(2) && status(job).ready == Some(2)).await;
    let pods: Api<Pod> = world.namespaced("default");
    for pod in world.pods("default").await {
        let succeeded = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &succeeded).await.unwrap();
    }
    let done = world.until("done", ask, |job| status(job).completion_time.is_some()).await;
    assert_eq!((status(&done).succeeded, status(&done).active), (Some(2), None));
    assert!(world.pods("default").await.iter().all(|pod| pod.finalizers().is_empty()));

    world.create::<Job>("default", job("b")).await;
    world
        .until("its pods", || async { jobs.get("b").await.unwrap() }, |job| status(job).active == Some(2))
        .await;
    for name in ["a", "b"] {
        jobs.delete(name, &DeleteParams::background()).await.unwrap();
    }
    world.until("no pods", || world.pods("default"), Vec::is_empty).await;
}
