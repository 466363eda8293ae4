//! Which ReplicaSet holds the current template, names and revisions of ReplicaSets, and the annotations they carry.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::scale::{max_surge, replicas, wanted};
use crate::common::controller_ref;

pub(super) const HASH_LABEL: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The longest a revision history may become, in bytes.
const HISTORY_LENGTH: usize = 2000;
const NAME_LENGTH: usize = 253;

/// Annotations that a ReplicaSet does not take over from its Deployment.
pub(super) fn is_own(key: &str) -> bool {
    matches!(key, LAST_APPLIED | REVISION | REVISION_HISTORY | DESIRED_REPLICAS | MAX_REPLICAS | ROLLBACK_TO)
}

pub(super) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// 0 for a ReplicaSet without revision, or with one that is no number.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) fn template(set: &ReplicaSet) -> PodTemplateSpec {
    set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
}

/// Templates are the same if they differ in nothing but the hash label.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    normal(a) == normal(b)
}

fn normal(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    // Absent and empty mean the same.
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    template
}

/// The hash that names a template's ReplicaSet; `collisions` gives another one where two templates met on the same.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let value = serde_json::to_value(template).unwrap_or_default();
    crate::common::template_hash(&value, collisions)
}

/// A ReplicaSet for the Deployment's template, without replicas yet.
pub(super) fn new_replica_set(deployment: &Deployment, new_revision: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let room = NAME_LENGTH - 1 - hash.len();
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", &name[..name.len().min(room)])),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_ref(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(deployment, &mut set, new_revision);
    set_size_annotations(deployment, &mut set);
    set
}

/// Brings over the Deployment's annotations and raises the revision, keeping the former one in the history.
/// True if that changed anything.
pub(super) fn annotate(deployment: &Deployment, set: &mut ReplicaSet, new_revision: i64) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let before = annotations.clone();
    for (key, value) in deployment.metadata.annotations.iter().flatten().filter(|(key, _)| !is_own(key)) {
        annotations.insert(key.clone(), value.clone());
    }
    let old = annotations.get(REVISION).cloned();
    let parsed = old.as_deref().filter(|text| !text.is_empty()).map_or(Ok(0), str::parse::<i64>);
    if let Ok(number) = parsed
        && number < new_revision
    {
        annotations.insert(REVISION.into(), new_revision.to_string());
        if let Some(old) = old {
            let history = annotations.entry(REVISION_HISTORY.into()).or_default();
            extend_history(history, &old);
        }
    }
    let changed = *annotations != before;
    if annotations.is_empty() {
        set.metadata.annotations = None;
    }
    changed
}

/// Appends a revision, dropping the oldest ones where it grows too long.
fn extend_history(history: &mut String, revision: &str) {
    if history.is_empty() {
        *history = revision.to_owned();
        return;
    }
    let mut kept: Vec<&str> = history.split(',').collect();
    let mut length = history.len() + revision.len() + 1;
    while length > HISTORY_LENGTH && !kept.is_empty() {
        length -= kept.remove(0).len() + 1;
    }
    kept.push(revision);
    *history = kept.join(",");
}

/// Notes on the set how large the whole Deployment is and may become. True if that changed anything.
pub(super) fn set_size_annotations(deployment: &Deployment, set: &mut ReplicaSet) -> bool {
    let desired = wanted(deployment);
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, desired + max_surge(deployment))] {
        changed |= annotations.insert(key.into(), value.to_string()) != Some(value.to_string());
    }
    changed
}

/// A number that must not be negative, from an annotation.
pub(super) fn count_annotation(set: &ReplicaSet, key: &str) -> Option<i32> {
    annotation(&set.metadata, key)?.parse().ok().filter(|count| *count >= 0)
}

/// By revision, then age, then name: oldest first.
pub(super) fn by_revision(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    revision(a).cmp(&revision(b)).then_with(|| by_age(a, b))
}

/// Oldest first, by name where age is the same.
pub(super) fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    let age = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    age(a).cmp(&age(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

/// Largest first; of the same size the oldest (`newest_first`: the newest) first.
pub(super) fn by_size(a: &ReplicaSet, b: &ReplicaSet, newest_first: bool) -> std::cmp::Ordering {
    let age = if newest_first { by_age(b, a) } else { by_age(a, b) };
    replicas(b).cmp(&replicas(a)).then(age)
}
