//! Prometheus texts: `/metrics/resource` for the metrics server, `/metrics/cadvisor` and the agent's own figures.

use http::StatusCode;
use std::fmt::Write;

use super::stats::{node_usage, number, pods, total};
use super::{Answer, with_type};
use crate::agent::Agent;

pub(super) fn text_answer(body: String) -> Answer {
    with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}

/// Collects samples and writes each family with its head.
#[derive(Default)]
struct Families(String);

impl Families {
    fn family(&mut self, name: &str, help: &str, kind: &str, samples: &[(String, f64)]) {
        if samples.is_empty() {
            return;
        }
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

/// `{name="value",…}`, escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let list: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
    format!("{{{}}}", list.join(","))
}

pub(super) fn own(agent: &Agent) -> Answer {
    let mut out = Families::default();
    let count = agent.entries().len() as f64;
    out.family(
        "kubelet_running_pods",
        "[ALPHA] Number of pods that have a worker",
        "gauge",
        &[(String::new(), count)],
    );
    let node = labels(&[("node", &agent.config.node_name)]);
    out.family(
        "kubelet_node_name",
        "[ALPHA] The node's name. The count is always 1.",
        "gauge",
        &[(node, 1.0)],
    );
    text_answer(out.0)
}

pub(super) async fn resource(agent: &Agent) -> Answer {
    let mut out = Families::default();
    let node = node_usage();
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    out.family(
        "node_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        "counter",
        &[(String::new(), seconds(node.cpu_nanoseconds))],
    );
    out.family(
        "node_memory_working_set_bytes",
        "[STABLE] Current working set of the node in bytes",
        "gauge",
        &[(String::new(), node.working_set as f64)],
    );
    let pods = pods(agent).await;
    let (mut cpu, mut memory, mut pod_cpu, mut pod_memory) = (vec![], vec![], vec![], vec![]);
    for pod in &pods {
        for (name, stats) in &pod.containers {
            let at = labels(&[("container", name), ("namespace", &pod.namespace), ("pod", &pod.name)]);
            if let Some(n) = stats.cpu.as_ref().and_then(|u| number(u.usage_core_nano_seconds.as_ref())) {
                cpu.push((at.clone(), seconds(n)));
            }
            if let Some(n) = stats.memory.as_ref().and_then(|u| number(u.working_set_bytes.as_ref())) {
                memory.push((at, n as f64));
            }
        }
        let at = labels(&[("namespace", &pod.namespace), ("pod", &pod.name)]);
        let (all_cpu, all_memory) = total(pod);
        pod_cpu.push((at.clone(), seconds(all_cpu)));
        pod_memory.push((at, all_memory as f64));
    }
    let families = [
        (
            "container_cpu_usage_seconds_total",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            "counter",
            cpu,
        ),
        (
            "container_memory_working_set_bytes",
            "[STABLE] Current working set of the container in bytes",
            "gauge",
            memory,
        ),
        (
            "pod_cpu_usage_seconds_total",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
            "counter",
            pod_cpu,
        ),
        (
            "pod_memory_working_set_bytes",
            "[STABLE] Current working set of the pod in bytes",
            "gauge",
            pod_memory,
        ),
    ];
    for (name, help, kind, samples) in &families {
        out.family(name, help, kind, samples);
    }
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    out.family("resource_scrape_error", help, "gauge", &[(String::new(), 0.0)]);
    text_answer(out.0)
}

/// The figures of cAdvisor that dashboards use most.
pub(super) async fn cadvisor(agent: &Agent) -> Answer {
    let mut out = Families::default();
    let (mut cpu, mut working, mut usage, mut rss, mut rx, mut tx) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for pod in &pods(agent).await {
        for (name, stats) in &pod.containers {
            let id = stats.attributes.as_ref().map(|a| a.id.clone()).unwrap_or_default();
            let at = labels(&[
                ("container", name),
                ("id", &id),
                ("namespace", &pod.namespace),
                ("pod", &pod.name),
            ]);
            if let Some(n) = stats.cpu.as_ref().and_then(|u| number(u.usage_core_nano_seconds.as_ref())) {
                cpu.push((at.clone(), n as f64 / 1e9));
            }
            if let Some(m) = &stats.memory {
                for (list, value) in [
                    (&mut working, &m.working_set_bytes),
                    (&mut usage, &m.usage_bytes),
                    (&mut rss, &m.rss_bytes),
                ] {
                    list.extend(number(value.as_ref()).map(|n| (at.clone(), n as f64)));
                }
            }
        }
        let network = pod.whole.as_ref().and_then(|w| w.network.as_ref());
        for interface in network.into_iter().flat_map(|n| n.default_interface.iter().chain(&n.interfaces)) {
            let at =
                labels(&[("interface", &interface.name), ("namespace", &pod.namespace), ("pod", &pod.name)]);
            rx.extend(number(interface.rx_bytes.as_ref()).map(|n| (at.clone(), n as f64)));
            tx.extend(number(interface.tx_bytes.as_ref()).map(|n| (at.clone(), n as f64)));
        }
    }
    let families = [
        ("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "counter", cpu),
        ("container_memory_working_set_bytes", "Current working set in bytes.", "gauge", working),
        (
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory.",
            "gauge",
            usage,
        ),
        ("container_memory_rss", "Size of RSS in bytes.", "gauge", rss),
        ("container_network_receive_bytes_total", "Cumulative count of bytes received", "counter", rx),
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", "counter", tx),
    ];
    for (name, help, kind, samples) in &families {
        out.family(name, help, kind, samples);
    }
    text_answer(out.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(labels(&[("a", "x\"y"), ("b", "1")]), "{a=\"x\\\"y\",b=\"1\"}");
        let mut out = Families::default();
        out.family("m", "h", "gauge", &[(String::new(), 1.5)]);
        out.family("none", "h", "gauge", &[]);
        assert_eq!(out.0, "# HELP m h\n# TYPE m gauge\nm 1.5\n");
    }
}
