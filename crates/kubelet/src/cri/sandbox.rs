//! The sandbox of a pod.

use k8s_openapi::api::core::v1::Pod;
use runtime::cri::v1;

use super::{NodeFacts, pod_labels};
use crate::amounts::{CPU_PERIOD, quota_of_milli, shares_of_milli};
use crate::dns;
use crate::pod::{PodExt, SpecExt, is_sidecar, map};
use crate::quantity::{milli_of, value_of};

/// The namespaces a pod's containers share, with each other or with the node.
pub fn namespaces(pod: &Pod, userns: Option<&v1::UserNamespace>) -> v1::NamespaceOption {
    let spec = pod.spec();
    let host_or_pod = |host: Option<bool>| {
        if host == Some(true) { v1::NamespaceMode::Node } else { v1::NamespaceMode::Pod }
    };
    let pid = if spec.host_pid == Some(true) {
        v1::NamespaceMode::Node
    } else if spec.share_process_namespace == Some(true) {
        v1::NamespaceMode::Pod
    } else {
        v1::NamespaceMode::Container
    };
    v1::NamespaceOption {
        network: host_or_pod(spec.host_network) as i32,
        pid: pid as i32,
        ipc: host_or_pod(spec.host_ipc) as i32,
        target_id: String::new(),
        userns_options: userns.cloned(),
    }
}

/// The configuration of a pod's sandbox, and messages for events about its DNS. Fails where the host name is too long.
pub fn sandbox_config(
    pod: &Pod,
    attempt: u32,
    node: &NodeFacts,
    userns: Option<&v1::UserNamespace>,
) -> Result<(v1::PodSandboxConfig, Vec<(&'static str, String)>), String> {
    let spec = pod.spec();
    let mut labels = pod_labels(pod);
    for (k, v) in map(&pod.metadata.labels) {
        labels.entry(k.clone()).or_insert_with(|| v.clone());
    }
    let (resolver, warnings) = dns::resolver(pod, &node.dns);
    let hostname = if spec.is_host_network() {
        String::new()
    } else {
        dns::sandbox_hostname(pod, &node.dns.cluster_domain)?
    };
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        }),
        hostname,
        log_directory: node.pod_logs(pod).to_string_lossy().into_owned(),
        dns_config: Some(v1::DnsConfig {
            servers: resolver.servers,
            searches: resolver.searches,
            options: resolver.options,
        }),
        port_mappings: port_mappings(pod),
        labels,
        annotations: map(&pod.metadata.annotations).map(|(k, v)| (k.clone(), v.clone())).collect(),
        linux: Some(linux(pod, node, userns)),
    };
    Ok((config, warnings))
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    let sidecars = pod.spec().init_containers().iter().filter(|c| is_sidecar(c));
    pod.spec()
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .map(|p| v1::PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            } as i32,
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn linux(pod: &Pod, node: &NodeFacts, userns: Option<&v1::UserNamespace>) -> v1::LinuxPodSandboxConfig {
    let spec = pod.spec();
    let context = spec.security_context.clone().unwrap_or_default();
    let int = |v: Option<i64>| v.map(|value| v1::Int64Value { value });
    let privileged = spec
        .init_and_regular()
        .any(|c| c.security_context.as_ref().is_some_and(|s| s.privileged == Some(true)));
    let mut groups: Vec<i64> = context.fs_group.into_iter().collect();
    groups.extend(context.supplemental_groups.iter().flatten());
    v1::LinuxPodSandboxConfig {
        cgroup_parent: node.pod_cgroup(pod),
        security_context: Some(v1::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(pod, userns)),
            selinux_options: context.se_linux_options.as_ref().map(super::security::selinux),
            run_as_user: int(context.run_as_user),
            run_as_group: int(context.run_as_group),
            supplemental_groups: groups,
            supplemental_groups_policy: super::security::groups_policy(&context) as i32,
            privileged,
            seccomp: Some(v1::SecurityProfile {
                profile_type: v1::security_profile::ProfileType::RuntimeDefault as i32,
                localhost_ref: String::new(),
            }),
            ..Default::default()
        }),
        sysctls: context
            .sysctls
            .iter()
            .flatten()
            .map(|s| (s.name.replace('/', "."), s.value.clone()))
            .collect(),
        overhead: Some(overhead(pod)),
        resources: Some(total(pod)),
    }
}

fn overhead(pod: &Pod) -> v1::LinuxContainerResources {
    let list = pod.spec().overhead.as_ref();
    let cpu = milli_of(list, "cpu").unwrap_or(0);
    v1::LinuxContainerResources {
        cpu_shares: if cpu > 0 { shares_of_milli(cpu) } else { 0 },
        cpu_quota: quota_of_milli(cpu),
        cpu_period: if cpu > 0 { CPU_PERIOD } else { 0 },
        memory_limit_in_bytes: value_of(list, "memory").unwrap_or(0),
        ..Default::default()
    }
}

/// The sum over the containers, for runtimes that size a virtual machine by it.
fn total(pod: &Pod) -> v1::LinuxContainerResources {
    let spec = pod.spec();
    let (mut request, mut limit, mut memory) = (0, Some(0), Some(0));
    for c in &spec.containers {
        let amounts = c.resources.as_ref();
        let limits = amounts.and_then(|r| r.limits.as_ref());
        let cpu_limit = milli_of(limits, "cpu");
        request += milli_of(amounts.and_then(|r| r.requests.as_ref()), "cpu").or(cpu_limit).unwrap_or(0);
        limit = limit.and_then(|sum| cpu_limit.map(|l| sum + l));
        memory = memory.and_then(|sum| value_of(limits, "memory").map(|l| sum + l));
    }
    v1::LinuxContainerResources {
        cpu_shares: shares_of_milli(request),
        cpu_quota: quota_of_milli(limit.unwrap_or(0)),
        cpu_period: CPU_PERIOD,
        memory_limit_in_bytes: memory.unwrap_or(0),
        ..Default::default()
    }
}
