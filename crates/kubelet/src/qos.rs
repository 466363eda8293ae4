//! Quality-of-service class and the kernel's out-of-memory score.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};

use crate::pod::{PodExt, SpecExt, is_critical, is_sidecar};
use crate::quantity::{nano, value_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn name(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// The pod's class: as recorded by the API server where it is, else computed.
pub fn of_pod(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => of_spec(pod.spec()),
    }
}

/// The class by the resources of the spec: those of the pod where given, else those of all its containers.
pub fn of_spec(spec: &PodSpec) -> Qos {
    if let Some(pod) = &spec.resources
        && (pod.limits.is_some() || pod.requests.is_some())
    {
        return combine(std::iter::once(Some(pod)));
    }
    combine(spec.init_and_regular().map(|c| c.resources.as_ref()))
}

fn combine<'a>(all: impl Iterator<Item = Option<&'a ResourceRequirements>>) -> Qos {
    let (mut any, mut guaranteed) = (false, true);
    let (mut requests, mut limits) = ([0_i128; 2], [0_i128; 2]);
    for resources in all {
        for (i, name) in COMPUTE.into_iter().enumerate() {
            let amount = |list: Option<&crate::quantity::ResourceList>| {
                list.and_then(|l| l.get(name)).and_then(|q| nano(&q.0)).filter(|v| *v > 0)
            };
            let request = amount(resources.and_then(|r| r.requests.as_ref()));
            let limit = amount(resources.and_then(|r| r.limits.as_ref()));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some();
            requests[i] += request.or(limit).unwrap_or(0);
            limits[i] += limit.unwrap_or(0);
        }
    }
    if !any {
        Qos::BestEffort
    } else if guaranteed && requests == limits {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// The score by which the kernel picks victims: -997 for guaranteed and critical pods, 1000 for best effort, and in
/// between the more a container asked for, the safer it is. `memory` is the node's capacity in bytes.
pub fn oom_score(pod: &Pod, container: &Container, memory: i64) -> i64 {
    if is_critical(pod) {
        return -997;
    }
    match of_pod(pod) {
        Qos::Guaranteed => return -997,
        Qos::BestEffort => return 1000,
        Qos::Burstable => {}
    }
    let request = |c: &Container| value_of(c.resources.as_ref().and_then(|r| r.requests.as_ref()), "memory");
    let score = |c: &Container| 1000 - 1000 * request(c).unwrap_or(0) / memory.max(1);
    let mut adjusted = score(container);
    if is_sidecar(container) && pod.spec().init_containers().iter().any(|c| c.name == container.name) {
        let lowest = pod.spec().containers.iter().map(score).min().unwrap_or(adjusted);
        adjusted = adjusted.min(lowest);
    }
    // Never as protected as guaranteed pods, never as exposed as best-effort ones.
    if adjusted < 3 {
        3
    } else if adjusted == 1000 {
        999
    } else {
        adjusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: &[serde_json::Value]) -> Pod {
        let containers: Vec<_> = resources
            .iter()
            .enumerate()
            .map(|(i, r)| json!({"name": format!("c{i}"), "resources": r}))
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": containers}}))
            .unwrap()
    }

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        for (resources, class) in [
            (vec![json!({})], Qos::BestEffort),
            (vec![full.clone()], Qos::Guaranteed),
            (vec![full.clone(), json!({})], Qos::Burstable),
            (vec![json!({"requests": {"cpu": "1"}})], Qos::Burstable),
            (
                vec![
                    json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
                ],
                Qos::Burstable,
            ),
            (
                vec![
                    json!({"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1024Mi"}}),
                ],
                Qos::Guaranteed,
            ),
            (vec![json!({"requests": {"ephemeral-storage": "1Gi"}})], Qos::BestEffort),
        ] {
            assert_eq!(of_pod(&pod(&resources)), class, "{resources:?}");
        }
    }

    #[test]
    fn oom_scores() {
        let gi = 1 << 30;
        for (resources, score) in [
            (json!({}), 1000),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), -997),
            (json!({"requests": {"memory": "512Mi"}}), 500),
            (json!({"requests": {"memory": "1Gi"}}), 3),
            (json!({"requests": {"cpu": "1"}}), 999),
        ] {
            let pod = pod(&[resources]);
            assert_eq!(oom_score(&pod, &pod.spec().containers[0], gi), score);
        }
    }
}
