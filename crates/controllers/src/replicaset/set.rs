//! What ReplicaSets and ReplicationControllers have in common.

use std::fmt::Debug;

use client::Cached;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    Pod, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::common::{matches, matches_labels};

/// A kind that keeps a number of pods, seen as a ReplicaSet.
pub(super) trait Set:
    Cached
    + Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
    /// The queue's name in metrics.
    const QUEUE: &'static str;

    fn as_set(&self) -> ReplicaSet;

    /// The object with the status that was found for its [`Self::as_set`], if that is another than it has.
    fn with_status(&self, status: ReplicaSetStatus) -> Option<Self>;

    /// True if the selector covers the pod.
    fn covers(&self, pod: &Pod) -> bool;
}

impl Set for ReplicaSet {
    const QUEUE: &'static str = "replicaset";

    fn as_set(&self) -> ReplicaSet {
        self.clone()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Option<Self> {
        (self.status.as_ref() != Some(&status)).then(|| Self { status: Some(status), ..self.clone() })
    }

    fn covers(&self, pod: &Pod) -> bool {
        self.spec.as_ref().is_some_and(|spec| matches(&spec.selector, pod.metadata.labels.as_ref()))
    }
}

impl Set for ReplicationController {
    const QUEUE: &'static str = "replicationmanager";

    fn as_set(&self) -> ReplicaSet {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.as_ref();
        ReplicaSet {
            metadata: self.metadata.clone(),
            spec: Some(ReplicaSetSpec {
                replicas: spec.replicas,
                min_ready_seconds: spec.min_ready_seconds,
                selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
                template: spec.template,
            }),
            status: status.and_then(|status| {
                // The two have the same fields; what only one has is not set by the other.
                serde_json::from_value(serde_json::to_value(status).ok()?).ok()
            }),
        }
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Option<Self> {
        let conditions = status.conditions.map(|conditions| {
            let same = |c: k8s_openapi::api::apps::v1::ReplicaSetCondition| ReplicationControllerCondition {
                type_: c.type_,
                status: c.status,
                reason: c.reason,
                message: c.message,
                last_transition_time: c.last_transition_time,
            };
            conditions.into_iter().map(same).collect()
        });
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions,
        };
        (self.status.as_ref() != Some(&status)).then(|| Self { status: Some(status), ..self.clone() })
    }

    fn covers(&self, pod: &Pod) -> bool {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector
            .is_some_and(|wanted| !wanted.is_empty() && matches_labels(wanted, pod.metadata.labels.as_ref()))
    }
}
