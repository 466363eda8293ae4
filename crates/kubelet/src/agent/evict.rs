//! Which pods the node ends for what they use: the one whose end helps most when the node runs short, and whoever
//! writes more to the disk than its limits allow.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>,
//! <https://kubernetes.io/docs/concepts/storage/ephemeral-storage/#ephemeral-storage-consumption-management>.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::cri::v1;

use super::Agent;
use super::housekeeping::Signal;
use crate::cri::{LABEL_CONTAINER_NAME, LABEL_POD_UID};
use crate::pod::{PodExt, SpecExt, is_critical, is_sidecar};
use crate::quantity::{value, value_of};
use crate::status::is_terminal;
use crate::worker::lifecycle::Ending;

const DISK: &str = "ephemeral-storage";

/// The pods that may be ended.
fn candidates(agent: &Agent) -> Vec<Arc<Pod>> {
    let entries = agent.entries();
    let may_end = entries.values().map(|entry| (entry.pod(), entry)).filter(|(pod, entry)| {
        !is_critical(pod)
            && !pod.is_deleted()
            && !entry.is_removed()
            && !entry.is_ending()
            && !is_terminal(entry.with_status().phase())
    });
    may_end.map(|(pod, _)| pod).collect()
}

fn evict(agent: &Agent, pod: &Pod, message: String) {
    tracing::warn!(pod = pod.describe(), message, "evicting a pod");
    agent.recorder.warning(pod, "Evicted", message.clone());
    let ending = Ending { reason: "Evicted".into(), message, grace: Some(1) };
    if let Some(entry) = agent.entries().get(pod.uid()) {
        entry.end(ending);
    }
}

/// Ends the pods that keep more on the disk than they may. Only what has a limit is measured.
pub(super) async fn over_limits(agent: &Arc<Agent>) {
    let limited: Vec<Arc<Pod>> = candidates(agent).into_iter().filter(|pod| has_limits(pod)).collect();
    if limited.is_empty() {
        return;
    }
    let by_container = match limited.iter().any(|pod| pod_limit(pod).is_some()) {
        true => usage_by_container(agent, DISK).await,
        false => HashMap::new(),
    };
    for pod in limited {
        let volume = |name: &str| folder_bytes(&agent.empty_dirs(pod.uid()).join(name));
        let container =
            |name: &str| by_container.get(&(pod.uid().to_owned(), name.to_owned())).copied().unwrap_or(0);
        if let Some(message) = over_limit(&pod, volume, container) {
            evict(agent, &pod, message);
        }
    }
}

fn has_limits(pod: &Pod) -> bool {
    let volumes = pod.spec().volumes.iter().flatten();
    volumes.filter_map(|v| v.empty_dir.as_ref()?.size_limit.as_ref()).any(|limit| value(limit) > 0)
        || pod_limit(pod).is_some()
}

fn limit(container: &Container) -> Option<i64> {
    value_of(container.resources.as_ref().and_then(|r| r.limits.as_ref()), DISK)
}

/// What a pod's containers may write together: the sum of those that run at once, or an init container's if it is more.
fn pod_limit(pod: &Pod) -> Option<i64> {
    let (init, regular) = (pod.spec().init_containers(), &pod.spec().containers);
    init.iter().chain(regular).find_map(limit)?;
    let (mut beside, mut most) = (0, 0);
    for container in init {
        let own = limit(container).unwrap_or(0);
        if is_sidecar(container) {
            beside += own;
        }
        most = most.max(if is_sidecar(container) { beside } else { beside + own });
    }
    let together = regular.iter().filter_map(limit).sum::<i64>() + beside;
    Some(together.max(most))
}

/// Why a pod has to end: the first limit that what it uses (bytes, by the name of a volume or container) is above.
fn over_limit(pod: &Pod, volume: impl Fn(&str) -> i64, container: impl Fn(&str) -> i64) -> Option<String> {
    let mut in_volumes = 0;
    for v in pod.spec().volumes.iter().flatten() {
        let Some(dir) = &v.empty_dir else { continue };
        let used = volume(&v.name);
        if dir.medium.as_deref().unwrap_or_default().is_empty() {
            in_volumes += used;
        }
        if let Some(limit) = dir.size_limit.as_ref().filter(|l| value(l) > 0 && used > value(l)) {
            return Some(format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", v.name, limit.0));
        }
    }
    let total = pod_limit(pod)?;
    let init = pod.spec().init_containers().iter();
    let in_containers: i64 = init.chain(&pod.spec().containers).map(|c| container(&c.name)).sum();
    if in_volumes + in_containers > total {
        let total = crate::quantity::from_bytes(total).0;
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
        ));
    }
    let over = |c: &&Container| limit(c).is_some_and(|limit| limit > 0 && container(&c.name) > limit);
    let over = pod.spec().containers.iter().find(over)?;
    let limit = over.resources.as_ref().and_then(|r| r.limits.as_ref()?.get(DISK)).map_or("", |l| &l.0);
    Some(format!("Container {} exceeded its local ephemeral storage limit {limit:?}. ", over.name))
}

/// Ends the pod whose end helps most: the ones that use more than they asked for first, then by priority, then by
/// how much more that is.
///
/// Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction>
pub(super) async fn one(agent: &Arc<Agent>, signal: &Signal) {
    let resource = match signal.condition {
        "MemoryPressure" => "memory",
        "PIDPressure" => "pids",
        _ => DISK,
    };
    let usage = usage_by_container(agent, resource).await;
    let used =
        |pod: &Pod, name: &str| usage.get(&(pod.uid().to_owned(), name.to_owned())).copied().unwrap_or(0);
    let rank = |pod: &Arc<Pod>| {
        let asked: i64 = pod.spec().containers.iter().map(|c| request(c, resource)).sum();
        let volumes = if resource == DISK { folder_bytes(&agent.empty_dirs(pod.uid())) } else { 0 };
        let all: i64 = pod.spec().containers.iter().map(|c| used(pod, &c.name)).sum();
        let over = all + volumes - asked;
        (over <= 0, pod.spec().priority.unwrap_or(0), -over)
    };
    let Some(pod) = candidates(agent).into_iter().min_by_key(rank) else { return };
    let amount = |n: i64| crate::quantity::from_bytes(n).0;
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        amount(signal.threshold),
        amount(signal.available),
    );
    for container in &pod.spec().containers {
        let (used, asked) = (used(&pod, &container.name), request(container, resource));
        if resource != "pids" && used > asked {
            message += &format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                container.name,
                amount(used),
                amount(asked)
            );
        }
    }
    evict(agent, &pod, message);
}

fn request(container: &Container, resource: &str) -> i64 {
    value_of(container.resources.as_ref().and_then(|r| r.requests.as_ref()), resource).unwrap_or(0)
}

/// What containers (by pod and name) use of a resource: working set, or bytes of logs and writable layer.
async fn usage_by_container(agent: &Agent, resource: &str) -> HashMap<(String, String), i64> {
    let list = agent.runtime.list_container_stats(v1::ListContainerStatsRequest { filter: None }).await;
    let mut out = HashMap::new();
    for stats in list.map(|l| l.stats).unwrap_or_default() {
        let labels = stats.attributes.as_ref().map(|a| a.labels.clone()).unwrap_or_default();
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let number = match resource {
            "memory" => stats.memory.and_then(|m| m.working_set_bytes),
            DISK => stats.writable_layer.and_then(|layer| layer.used_bytes),
            _ => None,
        };
        let used = number.map_or(0, |v| i64::try_from(v.value).unwrap_or(i64::MAX));
        out.insert((label(LABEL_POD_UID), label(LABEL_CONTAINER_NAME)), used);
    }
    if resource == DISK {
        for entry in agent.entries().values() {
            let pod = entry.pod();
            for container in &pod.spec().containers {
                let logs = agent.facts.pod_logs(&pod).join(&container.name);
                *out.entry((pod.uid().to_owned(), container.name.clone())).or_insert(0) +=
                    folder_bytes(&logs);
            }
        }
    }
    out
}

impl Agent {
    /// Where a pod's emptyDir volumes are.
    fn empty_dirs(&self, uid: &str) -> std::path::PathBuf {
        self.config.root.join("pods").join(uid).join("volumes/kubernetes.io~empty-dir")
    }
}

/// Bytes on disk below a folder; does not follow links or look into other file systems.
fn folder_bytes(folder: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(own) = fs::symlink_metadata(folder) else { return 0 };
    let mut left = vec![folder.to_owned()];
    let mut sum = 0;
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != own.dev() {
                continue;
            }
            sum += i64::try_from(meta.blocks()).unwrap_or(0) * 512;
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn folders_are_measured() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![7; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let bytes = folder_bytes(dir.path());
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        assert_eq!(folder_bytes(&dir.path().join("none")), 0);
    }

    #[test]
    fn who_writes_more_than_its_limits_is_told_which() {
        let limits = |size: &str| json!({"limits": {"ephemeral-storage": size}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [{"name": "early", "resources": limits("2Mi")}],
            "containers": [{"name": "a", "resources": limits("1Mi")}, {"name": "b", "resources": limits("2Mi")}],
            "volumes": [{"name": "work", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "free", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}}, {"name": "none", "configMap": {"name": "x"}}]}}))
        .unwrap();
        let cases: [(&[(&str, i64)], Option<&str>); 7] = [
            (&[], None),
            (&[("work", 1 << 20), ("a", 1 << 20), ("memory", 9 << 20)], None),
            (
                &[("work", (1 << 20) + 1)],
                Some("Usage of EmptyDir volume \"work\" exceeds the limit \"1Mi\". "),
            ),
            (
                &[("free", 3 << 20), ("b", 4096)],
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "),
            ),
            (&[("free", 3 << 20)], None),
            (&[("early", 2 << 20), ("b", 1 << 20)], None),
            (
                &[("a", (1 << 20) + 1)],
                Some("Container a exceeded its local ephemeral storage limit \"1Mi\". "),
            ),
        ];
        for (used, message) in cases {
            let of = |name: &str| used.iter().find(|(n, _)| *n == name).map_or(0, |(_, bytes)| *bytes);
            assert_eq!(over_limit(&pod, of, of).as_deref(), message, "{used:?}");
        }
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": limits("4Mi")});
        let cases = [
            (json!({"containers": [{"name": "a"}]}), None),
            (
                json!({"containers": [{"name": "a", "resources": limits("1Mi")}], "initContainers": [sidecar.clone()]}),
                Some(5 << 20),
            ),
            (
                json!({"containers": [{"name": "a"}], "initContainers": [sidecar, {"name": "i", "resources": limits("1Mi")}]}),
                Some(5 << 20),
            ),
        ];
        for (spec, limit) in cases {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(pod_limit(&pod), limit, "{spec}");
        }
    }
}
