//! `/stats/summary`: use of resources by node, pods and containers, as it is when asked.
//!
//! Source: <https://kubernetes.io/docs/reference/config-api/> (stats.v1alpha1 Summary).

use jiff::Timestamp;
use runtime::cri::v1;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;

use super::{Answer, json as json_answer};
use crate::agent::Agent;
use crate::cri::{LABEL_CONTAINER_NAME, LABEL_POD_UID};
use crate::pod::PodExt;

/// One pod's containers and what the runtime says of the pod as a whole.
#[derive(Default)]
pub(super) struct PodUsage {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub started: Option<Timestamp>,
    pub containers: Vec<(String, v1::ContainerStats)>,
    pub whole: Option<v1::LinuxPodSandboxStats>,
}

/// The machine's use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeUsage {
    pub cpu_nanoseconds: u64,
    pub memory_used: u64,
    pub memory_available: u64,
    pub working_set: u64,
    pub swap_used: u64,
}

pub(super) fn node_usage() -> NodeUsage {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    parse_usage(&stat, &memory)
}

fn parse_usage(stat: &str, memory: &str) -> NodeUsage {
    // The kernel counts in hundredths of a second: user, nice, system, (idle, iowait,) irq, softirq, steal.
    let line = stat.lines().next().and_then(|l| l.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let busy: u64 =
        ticks.iter().enumerate().filter(|(i, _)| matches!(i, 0..=2 | 5..=7)).map(|(_, n)| n).sum();
    let kib = |key: &str| {
        let line = memory.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let total = kib("MemTotal");
    NodeUsage {
        cpu_nanoseconds: busy * 10_000_000,
        memory_used: total.saturating_sub(kib("MemFree")),
        memory_available: kib("MemAvailable"),
        working_set: total.saturating_sub(kib("MemAvailable")),
        swap_used: kib("SwapTotal").saturating_sub(kib("SwapFree")),
    }
}

pub(super) async fn pods(agent: &Agent) -> Vec<PodUsage> {
    let mut out: HashMap<String, PodUsage> = agent
        .entries()
        .iter()
        .map(|(uid, entry)| {
            let pod = entry.api_pod();
            let status = pod.status.as_ref();
            let usage = PodUsage {
                namespace: pod.namespace().to_owned(),
                name: pod.name().to_owned(),
                uid: pod.uid().to_owned(),
                started: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
                ..PodUsage::default()
            };
            (uid.clone(), usage)
        })
        .collect();
    let list = agent.runtime.list_container_stats(v1::ListContainerStatsRequest { filter: None }).await;
    for stats in list.map(|l| l.stats).unwrap_or_default() {
        let labels = stats.attributes.as_ref().map(|a| a.labels.clone()).unwrap_or_default();
        let pod = labels.get(LABEL_POD_UID).and_then(|uid| out.get_mut(uid));
        if let (Some(pod), Some(name)) = (pod, labels.get(LABEL_CONTAINER_NAME)) {
            pod.containers.push((name.clone(), stats));
        }
    }
    let list = agent.runtime.list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest { filter: None }).await;
    for stats in list.map(|l| l.stats).unwrap_or_default() {
        let uid = stats.attributes.as_ref().and_then(|a| a.metadata.as_ref()).map(|m| m.uid.clone());
        if let Some(pod) = uid.and_then(|uid| out.get_mut(&uid)) {
            pod.whole = stats.linux;
        }
    }
    let mut pods: Vec<PodUsage> = out.into_values().filter(|p| !p.containers.is_empty()).collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    pods
}

pub(super) fn number(value: Option<&v1::UInt64Value>) -> Option<u64> {
    value.map(|v| v.value)
}

fn set(map: &mut Map<String, Value>, key: &str, value: Option<u64>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

fn stamp(nanos: i64) -> String {
    let time = Timestamp::from_nanosecond(nanos.into()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cpu(usage: &v1::CpuUsage) -> Value {
    let mut map = Map::from_iter([("time".to_owned(), stamp(usage.timestamp).into())]);
    set(&mut map, "usageNanoCores", number(usage.usage_nano_cores.as_ref()));
    set(&mut map, "usageCoreNanoSeconds", number(usage.usage_core_nano_seconds.as_ref()));
    Value::Object(map)
}

fn memory(usage: &v1::MemoryUsage) -> Value {
    let mut map = Map::from_iter([("time".to_owned(), stamp(usage.timestamp).into())]);
    set(&mut map, "availableBytes", number(usage.available_bytes.as_ref()));
    set(&mut map, "usageBytes", number(usage.usage_bytes.as_ref()));
    set(&mut map, "workingSetBytes", number(usage.working_set_bytes.as_ref()));
    set(&mut map, "rssBytes", number(usage.rss_bytes.as_ref()));
    set(&mut map, "pageFaults", number(usage.page_faults.as_ref()));
    set(&mut map, "majorPageFaults", number(usage.major_page_faults.as_ref()));
    Value::Object(map)
}

fn network(usage: &v1::NetworkUsage) -> Value {
    let interface = |i: &v1::NetworkInterfaceUsage| {
        let mut map = Map::from_iter([("name".to_owned(), i.name.clone().into())]);
        set(&mut map, "rxBytes", number(i.rx_bytes.as_ref()));
        set(&mut map, "rxErrors", number(i.rx_errors.as_ref()));
        set(&mut map, "txBytes", number(i.tx_bytes.as_ref()));
        set(&mut map, "txErrors", number(i.tx_errors.as_ref()));
        map
    };
    let mut map = usage.default_interface.as_ref().map(&interface).unwrap_or_default();
    map.insert("time".into(), stamp(usage.timestamp).into());
    map.insert("interfaces".into(), usage.interfaces.iter().map(|i| Value::Object(interface(i))).collect());
    Value::Object(map)
}

fn disk(path: &Path, now: &str) -> Value {
    let Ok(stat) = rustix::fs::statvfs(path) else { return Value::Null };
    let (capacity, available) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
    json!({"time": now, "availableBytes": available, "capacityBytes": capacity,
        "usedBytes": capacity.saturating_sub(stat.f_bfree * stat.f_frsize),
        "inodesFree": stat.f_ffree, "inodes": stat.f_files, "inodesUsed": stat.f_files.saturating_sub(stat.f_ffree)})
}

fn container(name: &str, stats: &v1::ContainerStats) -> Value {
    let mut map = Map::from_iter([("name".to_owned(), Value::from(name))]);
    let created = stats.cpu.as_ref().map_or(0, |c| c.timestamp);
    map.insert("startTime".into(), stamp(created).into());
    if let Some(usage) = &stats.cpu {
        map.insert("cpu".into(), cpu(usage));
    }
    if let Some(usage) = &stats.memory {
        map.insert("memory".into(), memory(usage));
    }
    if let Some(layer) = &stats.writable_layer {
        let mut rootfs = Map::from_iter([("time".to_owned(), Value::from(stamp(layer.timestamp)))]);
        set(&mut rootfs, "usedBytes", number(layer.used_bytes.as_ref()));
        set(&mut rootfs, "inodesUsed", number(layer.inodes_used.as_ref()));
        map.insert("rootfs".into(), Value::Object(rootfs));
    }
    if let Some(swap) = &stats.swap {
        let mut entry = Map::from_iter([("time".to_owned(), Value::from(stamp(swap.timestamp)))]);
        set(&mut entry, "swapUsageBytes", number(swap.swap_usage_bytes.as_ref()));
        set(&mut entry, "swapAvailableBytes", number(swap.swap_available_bytes.as_ref()));
        map.insert("swap".into(), Value::Object(entry));
    }
    Value::Object(map)
}

/// Sums of the containers, where the runtime does not speak for the pod.
pub(super) fn total(pod: &PodUsage) -> (u64, u64) {
    let cpu =
        |c: &v1::ContainerStats| c.cpu.as_ref().and_then(|u| number(u.usage_core_nano_seconds.as_ref()));
    let memory =
        |c: &v1::ContainerStats| c.memory.as_ref().and_then(|u| number(u.working_set_bytes.as_ref()));
    let sum = |of: &dyn Fn(&v1::ContainerStats) -> Option<u64>| {
        pod.containers.iter().filter_map(|(_, c)| of(c)).sum()
    };
    let whole = pod.whole.as_ref();
    let whole_cpu =
        whole.and_then(|w| w.cpu.as_ref()).and_then(|u| number(u.usage_core_nano_seconds.as_ref()));
    let whole_memory =
        whole.and_then(|w| w.memory.as_ref()).and_then(|u| number(u.working_set_bytes.as_ref()));
    (whole_cpu.unwrap_or_else(|| sum(&cpu)), whole_memory.unwrap_or_else(|| sum(&memory)))
}

fn pod(usage: &PodUsage, short: bool, now: &str) -> Value {
    let (cpu_total, memory_total) = total(usage);
    let whole = usage.whole.as_ref();
    let mut map = Map::new();
    map.insert("podRef".into(), json!({"name": usage.name, "namespace": usage.namespace, "uid": usage.uid}));
    map.insert(
        "startTime".into(),
        usage.started.map(|t| t.to_string()).unwrap_or_else(|| now.to_owned()).into(),
    );
    map.insert("containers".into(), usage.containers.iter().map(|(n, c)| container(n, c)).collect());
    let sum = json!({"time": now, "usageCoreNanoSeconds": cpu_total});
    map.insert("cpu".into(), whole.and_then(|w| w.cpu.as_ref()).map_or(sum, cpu));
    let sum = json!({"time": now, "workingSetBytes": memory_total});
    map.insert("memory".into(), whole.and_then(|w| w.memory.as_ref()).map_or(sum, memory));
    if !short {
        if let Some(usage) = whole.and_then(|w| w.network.as_ref()) {
            map.insert("network".into(), network(usage));
        }
        if let Some(count) =
            whole.and_then(|w| w.process.as_ref()).and_then(|p| number(p.process_count.as_ref()))
        {
            map.insert("process_stats".into(), json!({"process_count": count}));
        }
    }
    Value::Object(map)
}

pub(super) async fn summary(agent: &Agent, short: bool) -> Answer {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let usage = node_usage();
    let mut node = json!({
        "nodeName": agent.config.node_name,
        "startTime": now,
        "cpu": {"time": now, "usageCoreNanoSeconds": usage.cpu_nanoseconds},
        "memory": {"time": now, "availableBytes": usage.memory_available, "usageBytes": usage.memory_used,
            "workingSetBytes": usage.working_set},
    });
    if !short {
        let fs = disk(&agent.config.root, &now);
        node["fs"] = fs.clone();
        node["runtime"] = json!({"imageFs": fs, "containerFs": fs});
        node["swap"] = json!({"time": now, "swapUsageBytes": usage.swap_used});
    }
    let pods: Vec<Value> = pods(agent).await.iter().map(|p| pod(p, short, &now)).collect();
    json_answer(&json!({"node": node, "pods": pods}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine() {
        let usage = parse_usage(
            "cpu  100 1 50 9999 9 2 3 4 0 0\ncpu0 1\n",
            "MemTotal: 100 kB\nMemFree: 20 kB\nMemAvailable: 40 kB\nSwapTotal: 8 kB\nSwapFree: 3 kB\n",
        );
        assert_eq!(usage.cpu_nanoseconds, 160 * 10_000_000);
        assert_eq!((usage.memory_used, usage.working_set, usage.swap_used), (80 << 10, 60 << 10, 5 << 10));
    }
}
