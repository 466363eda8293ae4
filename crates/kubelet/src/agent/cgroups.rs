//! Cgroups of the node's pods: `kubepods`, one below it for each class, one for each pod.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>, KEP-2570.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kernel::cgroup::{Cgroup, CgroupError, Hierarchy, Limits};

use super::Agent;
use super::dispatch::active;
use crate::amounts::{CPU_PERIOD, quota_of_milli, shares_of_milli};
use crate::cri::NodeFacts;
use crate::pod::{PodExt, SpecExt, is_sidecar};
use crate::qos::{Qos, of_pod};
use crate::quantity::{milli, milli_of, value, value_of};

/// Between tries to remove a group whose last process has only just ended, and how many.
const REMOVE_WAIT: Duration = Duration::from_millis(20);
const REMOVE_TRIES: u32 = 50;

/// The node's cgroups; does nothing where it may not (no root) or need not (systemd makes them).
pub(crate) struct Cgroups {
    hierarchy: Option<Arc<Hierarchy>>,
}

fn shares(milli: i64) -> Option<u64> {
    u64::try_from(shares_of_milli(milli)).ok()
}

impl Cgroups {
    /// Makes the groups above the pods. Trouble is told and lived with: the pods run without those limits.
    pub fn open(enabled: bool, facts: &NodeFacts) -> Cgroups {
        let usable = enabled && !facts.systemd_cgroups && rustix::process::geteuid().is_root();
        let hierarchy = if usable { Hierarchy::detect().ok() } else { None };
        let cgroups = Cgroups { hierarchy };
        if let Err(error) = cgroups.make_top(facts) {
            tracing::warn!(error = %error, cause = ?std::error::Error::source(&error), "the cgroups of the pods cannot be limited");
        }
        cgroups
    }

    fn group(&self, path: impl AsRef<Path>) -> Option<Cgroup> {
        self.hierarchy.as_ref().map(|h| h.cgroup(path))
    }

    fn make_top(&self, facts: &NodeFacts) -> Result<(), CgroupError> {
        let top = format!("{}/kubepods", facts.cgroup_root);
        let Some(group) = self.group(&top) else { return Ok(()) };
        group.create()?;
        for class in ["burstable", "besteffort"] {
            let class = group.child(class);
            class.create()?;
            class.set(&Limits { cpu_shares: Some(2), ..Limits::default() })?;
        }
        group.set(&Limits {
            cpu_shares: facts.allocatable.get("cpu").and_then(|q| shares(milli(q))),
            memory: facts.allocatable.get("memory").map(value),
            ..Limits::default()
        })
    }

    /// The weight of all burstable pods together follows what they ask for.
    pub fn weigh_burstable(&self, facts: &NodeFacts, pods: &[Arc<Pod>]) {
        let Some(group) = self.group(format!("{}/kubepods/burstable", facts.cgroup_root)) else { return };
        let sum: i64 = pods.iter().filter(|p| of_pod(p) == Qos::Burstable).map(|p| cpu_request(p)).sum();
        if let Err(error) = group.set(&Limits { cpu_shares: shares(sum), ..Limits::default() }) {
            tracing::debug!(%error, "the burstable class cannot be weighed");
        }
    }

    /// Makes the pod's group, or brings its limits up to date.
    pub fn ensure(&self, facts: &NodeFacts, pod: &Pod) -> Result<(), CgroupError> {
        let Some(group) = self.group(facts.pod_cgroup(pod)) else { return Ok(()) };
        group.create()?;
        group.set(&limits(pod))
    }

    /// Removes the pod's group once nothing is in it any more. Blocks for a second at most.
    pub fn remove(&self, path: &str) {
        let Some(group) = self.group(path) else { return };
        for _ in 0..REMOVE_TRIES {
            match group.remove() {
                Ok(()) => return,
                Err(_) => std::thread::sleep(REMOVE_WAIT),
            }
        }
        tracing::warn!(path, "the pod's cgroup cannot be removed");
    }
}

impl Agent {
    pub(super) fn weigh_classes(&self) {
        let pods = active(&self.entries());
        self.cgroups.weigh_burstable(&self.facts, &pods);
    }
}

fn cpu_request(pod: &Pod) -> i64 {
    crate::agent::admit::requests(pod)
        .get("cpu")
        .map_or(0, |nano| i64::try_from(nano / 1_000_000).unwrap_or(i64::MAX))
}

/// The sum of one limit over the containers, if all have one; what init containers need at once counts too.
fn limit(pod: &Pod, of: impl Fn(Option<&crate::quantity::ResourceList>) -> Option<i64>) -> Option<i64> {
    let spec = pod.spec();
    if let Some(own) = spec.resources.as_ref().and_then(|r| of(r.limits.as_ref())) {
        return Some(own);
    }
    let one =
        |c: &k8s_openapi::api::core::v1::Container| of(c.resources.as_ref().and_then(|r| r.limits.as_ref()));
    let mut sidecars = 0;
    let mut init_most = 0;
    for c in spec.init_containers() {
        let own = one(c)?;
        init_most = init_most.max(sidecars + own);
        if is_sidecar(c) {
            sidecars += own;
        }
    }
    let regular: i64 = spec.containers.iter().map(one).sum::<Option<i64>>()?;
    let overhead = of(spec.overhead.as_ref()).unwrap_or(0);
    Some((regular + sidecars).max(init_most) + overhead).filter(|v| *v > 0)
}

fn limits(pod: &Pod) -> Limits {
    let quota = limit(pod, |l| milli_of(l, "cpu")).map_or(-1, quota_of_milli);
    let memory = limit(pod, |l| value_of(l, "memory")).unwrap_or(-1);
    Limits {
        cpu_shares: shares(if of_pod(pod) == Qos::BestEffort { 0 } else { cpu_request(pod) }),
        cpu_quota: Some(quota),
        cpu_period: u64::try_from(CPU_PERIOD).ok(),
        memory: Some(memory),
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_of_pods() {
        let pod = |containers: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": containers}}))
                .unwrap()
        };
        let full = json!({"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}});
        let got = limits(&pod(json!([full, full])));
        assert_eq!((got.cpu_shares, got.cpu_quota, got.memory), (Some(512), Some(100_000), Some(128 << 20)));
        let got = limits(&pod(json!([full, {"name": "b"}])));
        assert_eq!((got.cpu_quota, got.memory), (Some(-1), Some(-1)), "one without a limit: none at all");
        assert_eq!(limits(&pod(json!([{"name": "b"}]))).cpu_shares, Some(2));
    }
}
