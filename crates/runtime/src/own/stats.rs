//! Statistics of containers and pods, read from their cgroups when asked.

use std::path::Path;

use kernel::cgroup::Usage;

use super::filter;
use super::lifecycle::Inner;
use super::state::{Container, Phase, Sandbox, lock, now};
use crate::cri::v1::{self, NamespaceMode};

fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(usage: &Usage, timestamp: i64) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(usage.cpu_nanoseconds),
        usage_nano_cores: None,
        psi: None,
    }
}

fn memory(usage: &Usage, timestamp: i64) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: value(usage.working_set_bytes),
        available_bytes: usage
            .memory_limit
            .and_then(|limit| value(limit.saturating_sub(usage.working_set_bytes))),
        usage_bytes: value(usage.memory_bytes),
        rss_bytes: value(usage.rss_bytes),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
        psi: None,
    }
}

impl Inner {
    pub fn container_stats(&self, container: &Container) -> v1::ContainerStats {
        let timestamp = now();
        let usage = self.hierarchy.cgroup(container.state().cgroup.as_str()).usage();
        let upper = container.dir.join("upper");
        let (bytes, inodes) = disk_usage(&upper);
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: container.id.clone(),
                metadata: container.config.metadata.clone(),
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            }),
            cpu: Some(cpu(&usage, timestamp)),
            memory: Some(memory(&usage, timestamp)),
            writable_layer: Some(v1::FilesystemUsage {
                timestamp,
                fs_id: Some(v1::FilesystemIdentifier { mountpoint: upper.to_string_lossy().into_owned() }),
                used_bytes: value(bytes),
                inodes_used: value(inodes),
            }),
            swap: Some(v1::SwapUsage {
                timestamp,
                swap_available_bytes: None,
                swap_usage_bytes: value(usage.swap_bytes),
            }),
            io: None,
        }
    }

    pub fn list_container_stats(&self, wanted: Option<v1::ContainerStatsFilter>) -> Vec<v1::ContainerStats> {
        let wanted = wanted.unwrap_or_default();
        let all: Vec<_> = lock(&self.containers).values().cloned().collect();
        all.iter()
            .filter(|c| c.state().phase == Phase::Running)
            .filter(|c| {
                filter::id_matches(&c.id, &wanted.id)
                    && filter::id_matches(&c.sandbox_id, &wanted.pod_sandbox_id)
            })
            .filter(|c| filter::labels_match(&c.config.labels, &wanted.label_selector))
            .map(|c| self.container_stats(c))
            .collect()
    }

    pub fn pod_stats(&self, sandbox: &Sandbox) -> v1::PodSandboxStats {
        let timestamp = now();
        // The kubelet's pod cgroup, which all containers and the shim are below.
        let usage = self.hierarchy.cgroup(sandbox.cgroup_parent()).usage();
        let containers = self.containers_of(&sandbox.id);
        let running = containers.iter().filter(|c| c.state().phase == Phase::Running);
        v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: sandbox.config.metadata.clone(),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: Some(cpu(&usage, timestamp)),
                memory: Some(memory(&usage, timestamp)),
                network: network(sandbox, timestamp),
                process: Some(v1::ProcessUsage { timestamp, process_count: value(usage.processes) }),
                containers: running.map(|c| self.container_stats(c)).collect(),
                io: None,
            }),
        }
    }

    pub fn list_pod_stats(&self, wanted: Option<v1::PodSandboxStatsFilter>) -> Vec<v1::PodSandboxStats> {
        let wanted = wanted.unwrap_or_default();
        let all: Vec<_> = lock(&self.sandboxes).values().cloned().collect();
        all.iter()
            .filter(|s| s.state().ready && filter::id_matches(&s.id, &wanted.id))
            .filter(|s| filter::labels_match(&s.config.labels, &wanted.label_selector))
            .map(|s| self.pod_stats(s))
            .collect()
    }
}

/// The interfaces of a process in the pod's network namespace; none for pods on the host's network.
fn network(sandbox: &Sandbox, timestamp: i64) -> Option<v1::NetworkUsage> {
    if sandbox.namespace_options().network() == NamespaceMode::Node {
        return None;
    }
    let text = std::fs::read_to_string(format!("/proc/{}/net/dev", sandbox.state().holder)).ok()?;
    let interfaces = interfaces(&text);
    let default_interface =
        interfaces.iter().find(|interface| interface.name == "eth0").or(interfaces.first()).cloned();
    Some(v1::NetworkUsage { timestamp, default_interface, interfaces })
}

fn interfaces(net_dev: &str) -> Vec<v1::NetworkInterfaceUsage> {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied().and_then(value);
        Some(v1::NetworkInterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: at(0),
            rx_errors: at(2),
            tx_bytes: at(8),
            tx_errors: at(10),
        })
    };
    net_dev.lines().filter_map(line).filter(|interface| interface.name != "lo").collect()
}

/// Bytes on disk and number of files below a directory, links and mounts not followed.
fn disk_usage(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut files) = (0, 0);
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            files += 1;
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    (bytes, files + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn interfaces_are_read() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 1 2 0 0 0 0 0 30 1 4 0 0 0 0 0\n";
        let found = super::interfaces(text);
        assert_eq!(found.len(), 1);
        let numbers = [&found[0].rx_bytes, &found[0].rx_errors, &found[0].tx_bytes, &found[0].tx_errors];
        assert_eq!(numbers.map(|n| n.as_ref().unwrap().value), [10, 2, 30, 4]);
    }
}
