//! ControllerRevisions: the templates that a DaemonSet or StatefulSet has had.

use std::sync::Arc;

use client::Store;
use client::write::{ignore_not_found, namespaced};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::{Context, controller_ref, is_controlled_by, seen};

/// The label with a revision's hash, on revisions and pods.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// An owner's revisions, oldest first, the one of the present template last.
pub struct Revisions {
    pub all: Vec<ControllerRevision>,
}

impl Revisions {
    /// Finds the revision of `template` among those in `store`, or makes it, named by the `hash` of its data.
    pub async fn keep<K: Resource<DynamicType = ()>>(
        context: &Context,
        store: &Store<ControllerRevision>,
        owner: &K,
        template: &PodTemplateSpec,
        hash: impl Fn(&Value) -> String,
    ) -> Result<Self, kube::Error> {
        let namespace = owner.meta().namespace.clone().unwrap_or_default();
        let uid = owner.meta().uid.clone().unwrap_or_default();
        let mut all: Vec<Arc<ControllerRevision>> = store.list_namespace(&namespace);
        all.retain(|revision| is_controlled_by(&revision.metadata, &uid));
        all.sort_by_key(|revision| (revision.revision, revision.metadata.name.clone()));
        let mut all: Vec<ControllerRevision> = all.iter().map(|revision| (**revision).clone()).collect();
        let api: Api<ControllerRevision> = namespaced(&context.client, &namespace);
        let next = all.last().map_or(0, |revision| revision.revision) + 1;
        let data = data(template);
        let current =
            match all.iter().rposition(|revision| revision.data.as_ref().is_some_and(|d| d.0 == data)) {
                Some(place) if place + 1 == all.len() => return Ok(Self { all }),
                Some(place) => {
                    // An old template is back: it becomes the newest again.
                    let mut revision = all.remove(place);
                    revision.revision = next;
                    api.replace(&revision.name_any(), &PostParams::default(), &revision).await?
                }
                None => {
                    let revision = new_revision(owner, template, hash(&data), data, next);
                    api.create(&PostParams::default(), &revision).await?
                }
            };
        seen(store, &current).await;
        all.push(current);
        Ok(Self { all })
    }

    /// The hash of the present template.
    pub fn hash(&self) -> String {
        self.all.last().map(hash_of).unwrap_or_default()
    }

    /// The present revision's name.
    pub fn name(&self) -> String {
        self.all.last().map(ResourceExt::name_any).unwrap_or_default()
    }

    /// The template of the revision of that name.
    pub fn template(&self, name: &str) -> Option<PodTemplateSpec> {
        let revision = self.all.iter().find(|revision| revision.name_any() == name)?;
        let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
        template.as_object_mut()?.remove("$patch");
        serde_json::from_value(template).ok()
    }

    /// Deletes the oldest beyond `limit` that no pod (`in_use`, by hash or name) is of.
    pub async fn clean_up(
        &self,
        context: &Context,
        limit: usize,
        in_use: impl Fn(&str) -> bool,
    ) -> Result<(), kube::Error> {
        let old = &self.all[..self.all.len().saturating_sub(1)];
        let idle: Vec<&ControllerRevision> =
            old.iter().filter(|r| !in_use(&hash_of(r)) && !in_use(&r.name_any())).collect();
        for revision in idle.iter().take(idle.len().saturating_sub(limit)) {
            let api: Api<ControllerRevision> =
                namespaced(&context.client, &revision.namespace().unwrap_or_default());
            ignore_not_found(api.delete(&revision.name_any(), &DeleteParams::default()).await)?;
        }
        Ok(())
    }
}

fn hash_of(revision: &ControllerRevision) -> String {
    revision.labels().get(REVISION_LABEL).cloned().unwrap_or_default()
}

/// A patch of the owner that brings the template back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn new_revision<K: Resource<DynamicType = ()>>(
    owner: &K,
    template: &PodTemplateSpec,
    hash: String,
    data: Value,
    revision: i64,
) -> ControllerRevision {
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(REVISION_LABEL.into(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.meta().name.as_deref().unwrap_or_default())),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![controller_ref(owner)]),
            ..Default::default()
        },
        data: Some(RawExtension(data)),
        revision,
    }
}
