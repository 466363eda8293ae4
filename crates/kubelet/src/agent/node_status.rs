//! The Node object: made at start, its status kept true.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use runtime::cri::v1;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine::Machine;
use super::{Agent, Config};
use crate::status::whole_seconds;
use client::ErrorKind;

/// Images named in the Node object.
const MAX_IMAGES: usize = 50;

fn own_labels(config: &Config) -> BTreeMap<String, String> {
    let arch = arch();
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), config.hostname.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), arch.to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), arch.to_owned()),
    ]);
    labels.extend(config.labels.clone());
    labels
}

/// The architecture as Go names it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "x86" => "386",
        other => other,
    }
}

/// Makes the Node object, or brings the labels of the one that is there up to date.
pub(super) async fn register(
    config: &Config,
    port: u16,
    client: &kube::Client,
    machine: &Machine,
    version: &v1::VersionResponse,
) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let name = &config.node_name;
    if let Some(found) = api.get_opt(name).await? {
        let labels = own_labels(config);
        let current = found.metadata.labels.unwrap_or_default();
        if labels.iter().any(|(k, v)| current.get(k) != Some(v)) {
            let patch = Patch::Strategic(json!({"metadata": {"labels": labels}}));
            api.patch(name, &PatchParams::default(), &patch).await?;
        }
        return Ok(());
    }
    if !config.register {
        return Ok(());
    }
    let status = status(config, port, machine, version, &Observed::default(), None, Timestamp::now());
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(own_labels(config)),
            annotations: Some(BTreeMap::from([(
                "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                "true".to_owned(),
            )])),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            provider_id: config.provider_id.clone(),
            ..Default::default()
        }),
        status: Some(status),
    };
    match api.create(&PostParams::default(), &node).await {
        Err(e) if ErrorKind::of(&e) == ErrorKind::AlreadyExists => Ok(()),
        other => other.map(|_| ()),
    }
}

/// What changes on a node while it runs.
#[derive(Clone, Debug, Default)]
struct Observed {
    /// Why the node is not ready; none where it is.
    not_ready: Vec<String>,
    images: Vec<ContainerImage>,
    handlers: Vec<NodeRuntimeHandler>,
    pressure: super::Pressure,
}

fn status(
    config: &Config,
    port: u16,
    machine: &Machine,
    version: &v1::VersionResponse,
    seen: &Observed,
    last: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> = config
        .node_ips
        .iter()
        .map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() })
        .collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: config.hostname.clone() });
    NodeStatus {
        capacity: Some(machine.capacity(config)),
        allocatable: Some(machine.allocatable(config)),
        addresses: Some(addresses),
        conditions: Some(conditions(seen, last, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: arch().into(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.into(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            swap: (machine.swap > 0)
                .then(|| k8s_openapi::api::core::v1::NodeSwapStatus { capacity: Some(machine.swap) }),
        }),
        images: (!seen.images.is_empty()).then(|| seen.images.clone()),
        runtime_handlers: (!seen.handlers.is_empty()).then(|| seen.handlers.clone()),
        features: last.and_then(|l| l.features.clone()),
        volumes_attached: last.and_then(|l| l.volumes_attached.clone()),
        volumes_in_use: last.and_then(|l| l.volumes_in_use.clone()),
        ..Default::default()
    }
}

/// The version the node says it speaks.
const KUBELET_VERSION: &str = "v1.36.0";

fn conditions(seen: &Observed, last: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let pressure = |kind: &str, is: bool, bad: (&str, &str), good: (&str, &str)| {
        let (reason, message) = if is { bad } else { good };
        (kind.to_owned(), is, reason.to_owned(), message.to_owned())
    };
    let mut rows = vec![
        pressure(
            "MemoryPressure",
            seen.pressure.memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            seen.pressure.disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            seen.pressure.pids,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
    ];
    rows.push(match seen.not_ready.as_slice() {
        [] => ("Ready".into(), true, "KubeletReady".into(), "kubelet is posting ready status".into()),
        [one] => ("Ready".into(), false, "KubeletNotReady".into(), one.clone()),
        many => ("Ready".into(), false, "KubeletNotReady".into(), format!("[{}]", many.join(", "))),
    });
    let former = |kind: &str| last.and_then(|l| l.conditions.as_ref()?.iter().find(|c| c.type_ == kind));
    let mut list: Vec<NodeCondition> = rows
        .into_iter()
        .map(|(type_, is, reason, message)| {
            let status = if is { "True" } else { "False" }.to_owned();
            let same = former(&type_).filter(|f| f.status == status);
            let since = same.and_then(|f| f.last_transition_time.clone());
            NodeCondition {
                last_heartbeat_time: Some(whole_seconds(now)),
                last_transition_time: since.or_else(|| Some(whole_seconds(now))),
                type_,
                status,
                reason: Some(reason),
                message: Some(message),
            }
        })
        .collect();
    // NetworkUnavailable and the like belong to others.
    let ours: Vec<String> = list.iter().map(|c| c.type_.clone()).collect();
    let foreign =
        last.iter().flat_map(|l| l.conditions.iter().flatten()).filter(|c| !ours.contains(&c.type_));
    list.extend(foreign.cloned());
    list
}

async fn observe(agent: &Agent) -> Observed {
    let mut seen = Observed { pressure: agent.pressure(), ..Observed::default() };
    match agent.runtime.status(v1::StatusRequest { verbose: false }).await {
        Ok(answer) => {
            for condition in answer.status.iter().flat_map(|s| &s.conditions).filter(|c| !c.status) {
                let words = match condition.r#type.as_str() {
                    "RuntimeReady" => "container runtime not ready",
                    "NetworkReady" => "container runtime network not ready",
                    _ => continue,
                };
                seen.not_ready.push(format!(
                    "{words}: {}=false reason:{} message:{}",
                    condition.r#type, condition.reason, condition.message
                ));
            }
            seen.handlers = answer
                .runtime_handlers
                .into_iter()
                .map(|h| NodeRuntimeHandler {
                    name: Some(h.name),
                    features: h.features.map(|f| NodeRuntimeHandlerFeatures {
                        recursive_read_only_mounts: Some(f.recursive_read_only_mounts),
                        user_namespaces: Some(f.user_namespaces),
                    }),
                })
                .collect();
        }
        Err(e) => seen.not_ready.push(format!("container runtime is down: {e}")),
    }
    if let Ok(answer) = agent.runtime.list_images(v1::ListImagesRequest { filter: None }).await {
        let mut images = answer.images;
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        seen.images = images
            .into_iter()
            .take(MAX_IMAGES)
            .map(|i| ContainerImage {
                names: Some(i.repo_digests.into_iter().chain(i.repo_tags).take(5).collect()),
                size_bytes: i64::try_from(i.size).ok(),
            })
            .collect();
    }
    seen
}

/// Keeps the status true: written when something changed, else as often as the settings say.
pub(super) async fn run(agent: Arc<Agent>, machine: Machine) {
    let api: Api<Node> = Api::all(agent.client.clone());
    let version = v1::VersionResponse {
        runtime_name: agent.runtime_name.clone(),
        runtime_version: agent.runtime_version.clone(),
        ..Default::default()
    };
    let mut written: Option<(NodeStatus, Timestamp)> = None;
    loop {
        let now = Timestamp::now();
        let seen = observe(&agent).await;
        let ready = seen.not_ready.is_empty();
        match update(&agent, &api, &machine, &version, &seen, &written, now).await {
            Ok(Some(status)) => written = Some((status, now)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "writing the node's status failed");
                written = None;
            }
        }
        // A node that is not ready yet looks again soon; so does one whose write failed.
        let wait = match ready && written.is_some() {
            true => agent.config.status_update,
            false => std::time::Duration::from_millis(200),
        };
        tokio::select! {
            () = agent.shutdown.cancelled() => return,
            () = agent.node_wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn update(
    agent: &Agent,
    api: &Api<Node>,
    machine: &Machine,
    version: &v1::VersionResponse,
    seen: &Observed,
    written: &Option<(NodeStatus, Timestamp)>,
    now: Timestamp,
) -> Result<Option<NodeStatus>, kube::Error> {
    let config = &agent.config;
    let last = match written {
        Some((last, _)) => last.clone(),
        None => match api.get_opt(&config.node_name).await? {
            Some(node) => node.status.unwrap_or_default(),
            None => {
                register(config, agent.port, &agent.client, machine, version).await?;
                NodeStatus::default()
            }
        },
    };
    let new = status(config, agent.port, machine, version, seen, Some(&last), now);
    let report = SignedDuration::try_from(config.status_report).unwrap_or(SignedDuration::from_mins(5));
    let due = written.as_ref().is_none_or(|(_, at)| now.duration_since(*at) >= report);
    if !due && same(&last, &new) {
        return Ok(None);
    }
    // Conditions are merged by type, so that those of others stay.
    let mut body = json!({"status": new});
    body["status"]["conditions"] = json!(conditions(seen, Some(&last), now));
    let patched = api.patch_status(&config.node_name, &PatchParams::default(), &Patch::Strategic(body)).await;
    match patched {
        Ok(node) => Ok(node.status),
        Err(e) if ErrorKind::of(&e) == ErrorKind::NotFound && config.register => {
            register(config, agent.port, &agent.client, machine, version).await?;
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Equal but for the heartbeat.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let plain = |s: &NodeStatus| {
        let mut s = s.clone();
        for c in s.conditions.iter_mut().flatten() {
            c.last_heartbeat_time = None;
        }
        s.conditions.iter_mut().for_each(|l| l.sort_by(|x, y| x.type_.cmp(&y.type_)));
        (s.capacity, s.allocatable, s.addresses, s.conditions, s.images, s.node_info, s.runtime_handlers)
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_and_heartbeats() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let good = Observed::default();
        let first = NodeStatus { conditions: Some(conditions(&good, None, at(10))), ..Default::default() };
        let again =
            NodeStatus { conditions: Some(conditions(&good, Some(&first), at(20))), ..Default::default() };
        assert!(same(&first, &again));
        let bad = Observed { not_ready: vec!["a".into(), "b".into()], ..Observed::default() };
        let worse = conditions(&bad, Some(&again), at(30));
        let ready = worse.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.message.as_deref()), ("False", Some("[a, b]")));
        assert_eq!(ready.last_transition_time, Some(whole_seconds(at(30))));
        let memory = worse.iter().find(|c| c.type_ == "MemoryPressure").unwrap();
        assert_eq!(memory.last_transition_time, Some(whole_seconds(at(10))));
    }
}
