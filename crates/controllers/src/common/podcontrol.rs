//! Making and deleting pods for an owner, with the Events that tell of it.

use std::time::Duration;

use client::write::{ErrorKind, namespace_terminating, namespaced};
use client::{Key, Store};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};

use super::{Context, message, seen};

const BOUND: Duration = Duration::from_secs(60);

/// Writes pods and waits until the store shows it.
#[derive(Clone, Copy)]
pub struct PodControl<'a> {
    pub context: &'a Context,
    pub pods: &'a Store<Pod>,
}

impl PodControl<'_> {
    pub async fn create<K>(&self, owner: &K, namespace: &str, pod: &Pod) -> Result<Pod, kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let api: Api<Pod> = namespaced(&self.context.client, namespace);
        match api.create(&PostParams::default(), pod).await {
            Ok(pod) => {
                let text = format!("Created pod: {}", pod.name_any());
                self.context.recorder.normal(owner, "SuccessfulCreate", text);
                seen(self.pods, &pod).await;
                Ok(pod)
            }
            Err(error) => {
                if !namespace_terminating(&error) {
                    let text = format!("Error creating: {}", message(&error));
                    self.context.recorder.warning(owner, "FailedCreate", text);
                }
                Err(error)
            }
        }
    }

    pub async fn delete<K>(&self, owner: &K, pod: &Pod) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        if self.remove(&namespace, pod).await.inspect_err(|error| {
            let text = format!("Error deleting: {}", message(error));
            self.context.recorder.warning(owner, "FailedDelete", text);
        })? {
            self.context.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}"));
        }
        Ok(())
    }

    /// Deletes without telling; true if it was there.
    pub async fn remove(&self, namespace: &str, pod: &Pod) -> Result<bool, kube::Error> {
        let api: Api<Pod> = namespaced(&self.context.client, namespace);
        let name = pod.name_any();
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..Default::default()
        };
        let was_there = match api.delete(&name, &params).await {
            Ok(_) => true,
            Err(error) if matches!(ErrorKind::of(&error), ErrorKind::NotFound | ErrorKind::Conflict) => false,
            Err(error) => return Err(error),
        };
        let going = |now: Option<&Pod>| {
            now.is_none_or(|p| p.metadata.uid != pod.metadata.uid || p.metadata.deletion_timestamp.is_some())
        };
        self.pods.wait_for(&Key::new(namespace, &name), BOUND, going).await;
        Ok(was_there)
    }
}
