//! Reading pods, and making them from templates.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;

use super::controller_of;

/// The index of pods by their controller's uid; those without one stand under `orphan/NAMESPACE`.
pub const BY_CONTROLLER: &str = "controller";

pub fn pod_controller(pod: &Pod) -> Vec<String> {
    match controller_of(&pod.metadata) {
        Some(owner) => vec![owner.uid.clone()],
        None => vec![orphans(pod.metadata.namespace.as_deref().unwrap_or_default())],
    }
}

/// The index of pods by their node; those without one are not in it.
pub const BY_NODE: &str = "node";

pub fn pod_node(pod: &Pod) -> Vec<String> {
    let node = node_name(pod);
    if node.is_empty() { Vec::new() } else { vec![node.to_owned()] }
}

/// Where [`BY_CONTROLLER`] has a namespace's pods without controller.
pub fn orphans(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_some()
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Ready for at least `min_ready` seconds.
pub fn is_available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    is_ready(pod) && available_in(pod, min_ready, now).is_none()
}

/// How long a ready pod still has to stay so to be available; none if it is, or is not ready.
pub fn available_in(pod: &Pod, min_ready: i32, now: Timestamp) -> Option<Duration> {
    if min_ready == 0 || !is_ready(pod) {
        return None;
    }
    let since = condition(pod, "Ready")?.last_transition_time.as_ref()?.0;
    let passed = now.duration_since(since);
    let wanted = k8s_openapi::jiff::SignedDuration::from_secs(min_ready.into());
    if passed >= wanted { None } else { Some((wanted - passed).unsigned_abs()) }
}

pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// A pod as `template` wants it, owned by `owner` and named after it by the server.
pub fn pod_from_template(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
