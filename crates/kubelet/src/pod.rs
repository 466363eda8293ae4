//! Questions one asks a pod: its containers by class, its policies, where it came from.

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, EphemeralContainer, Pod, PodSpec, PodStatus, Probe,
};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where the kubelet learnt of the pod: `api`, `file`.
pub const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// On a mirror pod: the hash of the static pod it shows.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// On a static pod: the hash of its manifest.
pub const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
/// When the kubelet first saw the static pod.
pub const SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";

/// The class of a container within its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Init,
    Regular,
    Ephemeral,
}

/// Read access to what defaulting guarantees but the types leave optional.
pub trait PodExt {
    fn uid(&self) -> &str;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn spec(&self) -> &PodSpec;
    fn annotation(&self, key: &str) -> Option<&str>;
    fn is_static(&self) -> bool;
    fn is_mirror(&self) -> bool;
    fn is_deleted(&self) -> bool;
    fn phase(&self) -> &str;
    fn generation(&self) -> Option<i64>;
    /// `name_namespace(uid)`, as messages name a pod.
    fn describe(&self) -> String;
}

static EMPTY_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

impl PodExt for Pod {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }
    fn spec(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&EMPTY_SPEC)
    }
    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
    fn is_static(&self) -> bool {
        self.annotation(SOURCE_ANNOTATION).is_some_and(|s| s != "api")
    }
    fn is_mirror(&self) -> bool {
        self.annotation(MIRROR_ANNOTATION).is_some()
    }
    fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
    }
    fn generation(&self) -> Option<i64> {
        self.metadata.generation
    }
    fn describe(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }
}

/// Read access to a pod spec.
pub trait SpecExt {
    fn init_containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    fn restart_policy(&self) -> &str;
    fn is_host_network(&self) -> bool;
    fn grace_period(&self) -> i64;
    /// The container of that name with its class, ephemeral ones included.
    fn container(&self, name: &str) -> Option<(Class, Cow<'_, Container>)>;
    fn restarts_on_failure(&self) -> bool;
    /// Init and regular containers, in the order of the spec.
    fn init_and_regular(&self) -> impl Iterator<Item = &Container>;
}

impl SpecExt for PodSpec {
    fn init_containers(&self) -> &[Container] {
        self.init_containers.as_deref().unwrap_or_default()
    }
    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        self.ephemeral_containers.as_deref().unwrap_or_default()
    }
    fn restart_policy(&self) -> &str {
        self.restart_policy.as_deref().unwrap_or("Always")
    }
    fn is_host_network(&self) -> bool {
        self.host_network.unwrap_or(false)
    }
    fn grace_period(&self) -> i64 {
        self.termination_grace_period_seconds.unwrap_or(30)
    }
    fn container(&self, name: &str) -> Option<(Class, Cow<'_, Container>)> {
        if let Some(found) = self.containers.iter().find(|c| c.name == name) {
            return Some((Class::Regular, Cow::Borrowed(found)));
        }
        if let Some(found) = self.init_containers().iter().find(|c| c.name == name) {
            return Some((Class::Init, Cow::Borrowed(found)));
        }
        let found = self.ephemeral_containers().iter().find(|c| c.name == name)?;
        Some((Class::Ephemeral, Cow::Owned(ephemeral_as_container(found))))
    }
    fn restarts_on_failure(&self) -> bool {
        self.restart_policy() != "Never"
    }
    fn init_and_regular(&self) -> impl Iterator<Item = &Container> {
        self.init_containers().iter().chain(&self.containers)
    }
}

/// The fields an ephemeral container shares with the others.
pub fn ephemeral_as_container(e: &EphemeralContainer) -> Container {
    let e = e.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        lifecycle: e.lifecycle,
        liveness_probe: e.liveness_probe,
        name: e.name,
        ports: e.ports,
        readiness_probe: e.readiness_probe,
        resize_policy: e.resize_policy,
        resources: e.resources,
        restart_policy: e.restart_policy,
        restart_policy_rules: e.restart_policy_rules,
        security_context: e.security_context,
        startup_probe: e.startup_probe,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
    }
}

/// A sidecar: an init container that keeps running beside the others (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The first restart rule (KEP-5307) that speaks about this exit code.
pub fn matching_rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.iter().flatten().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|on| {
            let listed = on.values.as_ref().is_some_and(|v| v.contains(&exit_code));
            match on.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    })
}

/// Whether a container that ended so is to be started again, by its own rules and policy or else the pod's.
pub fn restarts_after(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    if let Some(own) = container.restart_policy.as_deref() {
        if let Some(rule) = matching_rule(container, exit_code)
            && matches!(rule.action.as_str(), "Restart" | "RestartAllContainers")
        {
            return true;
        }
        match own {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match spec.restart_policy() {
        "OnFailure" => exit_code != 0,
        "Never" => false,
        _ => true,
    }
}

/// Whether some container asks for all to be restarted on certain exit codes (KEP-5532).
pub fn may_restart_all(spec: &PodSpec) -> bool {
    spec.init_and_regular()
        .flat_map(|c| c.restart_policy_rules.iter().flatten())
        .any(|rule| rule.action == "RestartAllContainers")
}

/// The probe's numbers with their defaults.
pub struct ProbeTiming {
    pub initial_delay: std::time::Duration,
    pub period: std::time::Duration,
    pub timeout: std::time::Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl From<&Probe> for ProbeTiming {
    fn from(p: &Probe) -> Self {
        let at_least = |value: Option<i32>, default: u32| match value {
            Some(v) if v > 0 => v.unsigned_abs(),
            _ => default,
        };
        let seconds = |n: u32| std::time::Duration::from_secs(n.into());
        ProbeTiming {
            initial_delay: seconds(at_least(p.initial_delay_seconds, 0)),
            period: seconds(at_least(p.period_seconds, 10)),
            timeout: seconds(at_least(p.timeout_seconds, 1)),
            success_threshold: at_least(p.success_threshold, 1),
            failure_threshold: at_least(p.failure_threshold, 3),
        }
    }
}

/// Critical pods are never evicted by the node: static ones, mirrors, and those of system priority.
pub fn is_critical(pod: &Pod) -> bool {
    const SYSTEM_PRIORITY: i32 = 2_000_000_000;
    pod.is_static() || pod.is_mirror() || pod.spec().priority.is_some_and(|p| p >= SYSTEM_PRIORITY)
}

/// A condition's status by type.
pub fn condition<'a>(
    status: &'a PodStatus,
    kind: &str,
) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// An empty map where there is none, to iterate labels and annotations.
pub fn map(of: &Option<BTreeMap<String, String>>) -> impl Iterator<Item = (&String, &String)> {
    of.iter().flatten()
}
