//! The configuration of one container.

use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::cri::v1;
use std::collections::BTreeMap;

use super::{NodeFacts, pod_labels, security};
use crate::amounts::{Amounts, CPU_PERIOD};
use crate::decide::spec_hash;
use crate::env::expand_command;
use crate::pod::PodExt;
use crate::qos::oom_score;
use crate::quantity::{milli_of, value_of};

/// What a container's configuration is made from, beside its pod.
pub struct ContainerInputs<'a> {
    pub restart_count: i32,
    /// As the runtime named it when it was pulled.
    pub image_ref: &'a str,
    /// (uid, name) of the image.
    pub image_user: (Option<i64>, &'a str),
    pub env: &'a [(String, String)],
    pub mounts: Vec<v1::Mount>,
    pub devices: Vec<v1::Device>,
    /// The container whose process namespace an ephemeral container joins.
    pub target: Option<&'a str>,
    pub userns: Option<&'a v1::UserNamespace>,
}

/// The message `CreateContainer` takes; fails with what stands in `CreateContainerConfigError`.
pub fn container_config(
    pod: &Pod,
    container: &Container,
    node: &NodeFacts,
    inputs: ContainerInputs<'_>,
) -> Result<v1::ContainerConfig, String> {
    security::verify_non_root(pod, container, inputs.image_user)?;
    let mut security = security::context(pod, container, inputs.image_user, inputs.userns, &node.root)?;
    if let (Some(target), Some(options)) = (inputs.target, security.namespace_options.as_mut())
        && options.pid == v1::NamespaceMode::Container as i32
    {
        options.pid = v1::NamespaceMode::Target as i32;
        options.target_id = target.to_owned();
    }
    let mut labels = pod_labels(pod);
    labels.insert(super::LABEL_CONTAINER_NAME.to_owned(), container.name.clone());
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt: u32::try_from(inputs.restart_count).unwrap_or(0),
        }),
        image: Some(v1::ImageSpec {
            image: inputs.image_ref.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expand_command(container.command.as_ref(), inputs.env),
        args: expand_command(container.args.as_ref(), inputs.env),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs
            .env
            .iter()
            .map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone().into_bytes() })
            .collect(),
        mounts: inputs.mounts,
        devices: inputs.devices,
        labels,
        annotations: annotations(pod, container, inputs.restart_count),
        log_path: format!("{}/{}.log", container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(linux_resources(pod, container, node.memory)),
            security_context: Some(security),
        }),
        cdi_devices: vec![],
        stop_signal: stop_signal(container) as i32,
    })
}

fn annotations(pod: &Pod, container: &Container, restart_count: i32) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([
        (super::HASH.to_owned(), spec_hash(container)),
        (super::RESTART_COUNT.to_owned(), restart_count.to_string()),
        (super::MESSAGE_PATH.to_owned(), container.termination_message_path.clone().unwrap_or_default()),
        (super::MESSAGE_POLICY.to_owned(), container.termination_message_policy.clone().unwrap_or_default()),
    ]);
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        out.insert(super::DELETION_GRACE.to_owned(), grace.to_string());
    }
    if let Some(grace) = pod.spec().termination_grace_period_seconds {
        out.insert(super::TERMINATION_GRACE.to_owned(), grace.to_string());
    }
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(text) = pre_stop.and_then(|h| serde_json::to_string(h).ok()) {
        out.insert(super::PRE_STOP.to_owned(), text);
    }
    let ports = container.ports.as_ref().filter(|p| !p.is_empty());
    if let Some(text) = ports.and_then(|p| serde_json::to_string(p).ok()) {
        out.insert(super::PORTS.to_owned(), text);
    }
    out
}

/// Limits of a container for the kernel; those of the pod stand in where it has none of its own.
pub fn linux_resources(pod: &Pod, container: &Container, node_memory: i64) -> v1::LinuxContainerResources {
    let mut amounts = Amounts::of(container.resources.as_ref());
    let of_pod = pod.spec().resources.as_ref().and_then(|r| r.limits.as_ref());
    if amounts.cpu_quota == 0 {
        amounts.cpu_quota = crate::amounts::quota_of_milli(milli_of(of_pod, "cpu").unwrap_or(0));
    }
    if amounts.memory == 0 {
        amounts.memory = value_of(of_pod, "memory").unwrap_or(0);
    }
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    let hugepages = limits.into_iter().flatten().filter_map(|(name, amount)| {
        let size = name.strip_prefix("hugepages-")?.strip_suffix('i')?;
        let limit = u64::try_from(crate::quantity::value(amount)).ok()?;
        Some(v1::HugepageLimit { page_size: format!("{size}B"), limit })
    });
    v1::LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: amounts.cpu_quota,
        cpu_shares: amounts.cpu_shares,
        memory_limit_in_bytes: amounts.memory,
        // Memory and swap together: as much as memory alone, so that nothing is swapped.
        memory_swap_limit_in_bytes: amounts.memory,
        oom_score_adj: oom_score(pod, container, node_memory),
        hugepage_limits: hugepages.collect(),
        ..Default::default()
    }
}

/// The signal a container is asked to stop with; the image's own where the spec says nothing.
pub fn stop_signal(container: &Container) -> v1::Signal {
    let name = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    name.and_then(|n| v1::Signal::from_str_name(&n.replace('+', "PLUS").replace('-', "MINUS")))
        .unwrap_or(v1::Signal::RuntimeDefault)
}

/// The image's name as the API shows it: a tag where there is one, not an id.
pub fn preferred_image_name(image: &v1::ImageSpec) -> String {
    let is_id = image.image.is_empty() || image.image.starts_with("sha256:");
    if is_id && !image.user_specified_image.is_empty() {
        return image.user_specified_image.clone();
    }
    image.image.clone()
}
