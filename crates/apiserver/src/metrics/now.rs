//! Metrics that are read off the server when somebody asks: what it holds, what it runs on, what it is.

use std::collections::BTreeMap;
use std::fs;

use machinery::GroupResource;

use super::family::{About, about, write_now};
use crate::server::Core;

type Parts = Vec<(About, String)>;

pub const CHECKS: About = about(
    "kubernetes_healthchecks_total",
    "STABLE",
    "Health checks that were made, by result.",
    &["name", "type", "status"],
);

const HEALTH: About = about(
    "kubernetes_healthcheck",
    "STABLE",
    "The result of the last health check: 1 for fine.",
    &["name", "type"],
);

struct Writer(Parts);

impl Writer {
    fn add(&mut self, about: About, kind: &str, series: Vec<(Vec<String>, f64)>) {
        let mut text = String::new();
        write_now(&mut text, &about, kind, &series);
        self.0.push((about, text));
    }

    fn one(&mut self, about: About, kind: &str, value: f64) {
        self.add(about, kind, vec![(Vec::new(), value)]);
    }
}

pub fn parts(core: &Core) -> Parts {
    let mut out = Writer(Vec::new());
    objects(core, &mut out);
    inflight(core, &mut out);
    levels(core, &mut out);
    caches(core, &mut out);
    services(core, &mut out);
    aggregated(core, &mut out);
    build(core, &mut out);
    process(&mut out);
    let mut parts = out.0;
    parts.push((HEALTH, health(core)));
    parts
}

fn objects(core: &Core, out: &mut Writer) {
    let map = core.kinds.now();
    let (mut counts, mut sizes, mut by_group, mut versions) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for home in map.homes() {
        let stored = home.cache.stored();
        let labels = vec![home.name.group.clone(), home.name.resource.clone()];
        let name = GroupResource::new(&*home.name.group, &*home.name.resource).to_string();
        counts.push((vec![name], stored.objects as f64));
        sizes.push((labels.clone(), stored.bytes as f64));
        by_group.push((labels.clone(), stored.objects as f64));
        versions.push((labels, home.cache.revision() as f64));
    }
    let by = &["group", "resource"];
    out.add(
        about("apiserver_storage_objects", "STABLE", "Objects that are stored, by resource.", &["resource"]),
        "gauge",
        counts,
    );
    out.add(about("apiserver_resource_objects", "ALPHA", "Objects that are stored.", by), "gauge", by_group);
    out.add(
        about("apiserver_resource_size_estimate_bytes", "ALPHA", "Bytes of the objects as JSON.", by),
        "gauge",
        sizes,
    );
    out.add(
        about("apiserver_watch_cache_resource_version", "ALPHA", "The last change of a resource.", by),
        "gauge",
        versions,
    );
}

/// How large the store is. Nothing if it does not say.
pub async fn storage(core: &Core) -> Parts {
    let mut out = Writer(Vec::new());
    if let Ok(status) = core.store.status().await {
        let words = "Bytes of the database behind the API.";
        let size = about("apiserver_storage_size_bytes", "STABLE", words, &["storage_cluster_id"]);
        out.add(size, "gauge", vec![(vec!["etcd-0".to_owned()], status.size as f64)]);
    }
    out.0
}

fn caches(core: &Core, out: &mut Writer) {
    let map = core.kinds.now();
    let all: Vec<_> = map
        .homes()
        .map(|home| {
            let labels = vec![home.name.group.clone(), home.name.resource.clone()];
            (labels, home.cache.counts(), home.cache.window())
        })
        .collect();
    let by = &["group", "resource"];
    let mut add = |name, stability, help, value: fn(&crate::cache::Counts) -> u64| {
        let series = all.iter().filter(|(_, counts, _)| value(counts) > 0);
        let series = series.map(|(labels, counts, _)| (labels.clone(), value(counts) as f64)).collect();
        out.add(about(name, stability, help, by), "counter", series);
    };
    add("apiserver_storage_events_received_total", "BETA", "Changes that the store told of.", |c| c.received);
    add("apiserver_watch_cache_events_received_total", "ALPHA", "Changes that reached a watch cache.", |c| {
        c.received
    });
    add("apiserver_watch_cache_events_dispatched_total", "ALPHA", "Changes given to watches.", |c| {
        c.dispatched
    });
    add("apiserver_watch_cache_initializations_total", "ALPHA", "Complete loads of a watch cache.", |c| {
        c.loads
    });
    add("apiserver_init_events_total", "ALPHA", "Objects that loads of a watch cache brought.", |c| {
        c.initial
    });
    let windows = all.iter().map(|(labels, _, window)| (labels.clone(), *window as f64)).collect();
    let words = "Changes of a resource that stay watchable.";
    out.add(about("watch_cache_capacity", "ALPHA", words, by), "gauge", windows);
}

fn services(core: &Core, out: &mut Writer) {
    let ranges = core.services.addresses();
    let mut add = |name, help, value: fn(&(String, u64, u64)) -> u64| {
        let series = ranges.iter().map(|range| (vec![range.0.clone()], value(range) as f64)).collect();
        out.add(about(name, "ALPHA", help, &["cidr"]), "gauge", series);
    };
    add("kube_apiserver_clusterip_allocator_allocated_ips", "Addresses that Services have.", |r| r.1);
    add("kube_apiserver_clusterip_allocator_available_ips", "Addresses that are free for Services.", |r| r.2);
    let (all, used) = (core.services.ports().clone().count(), core.services.allocated_ports());
    let mut add = |name, help, value: usize| out.one(about(name, "ALPHA", help, &[]), "gauge", value as f64);
    add("kube_apiserver_nodeport_allocator_allocated_ports", "Node ports that Services have.", used);
    let free = all.saturating_sub(used);
    add("kube_apiserver_nodeport_allocator_available_ports", "Node ports that are free.", free);
}

/// Versions that are served here are always available.
fn aggregated(core: &Core, out: &mut Writer) {
    let mut series: Vec<(Vec<String>, f64)> = Vec::new();
    for group in core.kinds.now().groups.iter().filter(|group| !group.name.is_empty()) {
        series.extend(group.versions.iter().map(|version| (vec![format!("{version}.{}", group.name)], 0.0)));
    }
    series.push((vec!["v1.".to_owned()], 0.0));
    for remote in core.aggregator.now().remotes.values() {
        let name = format!("{}.{}", remote.version, remote.group);
        series.push((vec![name], f64::from(u8::from(!remote.available))));
    }
    let words = "APIServices that are not available: 1.";
    out.add(about("aggregator_unavailable_apiservice", "ALPHA", words, &["name"]), "gauge", series);
}

fn inflight(core: &Core, out: &mut Writer) {
    let running = core.flow.running();
    let kinds = |reading: usize, mutating: usize| {
        vec![(vec!["mutating".to_owned()], mutating as f64), (vec!["readOnly".to_owned()], reading as f64)]
    };
    let labels = &["request_kind"];
    out.add(
        about("apiserver_current_inflight_requests", "STABLE", "Requests that run now.", labels),
        "gauge",
        kinds(running.reading, running.mutating),
    );
    out.add(
        about("apiserver_current_inqueue_requests", "ALPHA", "Requests that wait in a queue now.", labels),
        "gauge",
        kinds(running.reading_waiting, running.mutating_waiting),
    );
}

fn levels(core: &Core, out: &mut Writer) {
    let level = &["priority_level"];
    let both = &["priority_level", "flow_schema"];
    let levels = core.flow.levels();
    let mut add = |name, stability, help, value: fn(&crate::flow::Shown) -> f64| {
        let series = levels.iter().map(|shown| (vec![shown.name.clone()], value(shown))).collect();
        out.add(about(name, stability, help, level), "gauge", series);
    };
    add("apiserver_flowcontrol_nominal_limit_seats", "BETA", "Seats by share.", |l| l.limits.nominal as f64);
    add("apiserver_flowcontrol_request_concurrency_limit", "ALPHA", "Seats by share.", |l| {
        l.limits.nominal as f64
    });
    add("apiserver_flowcontrol_lower_limit_seats", "ALPHA", "Seats that are not lent.", |l| {
        l.limits.least as f64
    });
    add("apiserver_flowcontrol_upper_limit_seats", "ALPHA", "Seats with all that may be borrowed.", |l| {
        l.limits.most as f64
    });
    add("apiserver_flowcontrol_current_limit_seats", "ALPHA", "Seats now.", |l| l.seats as f64);
    add("apiserver_flowcontrol_demand_seats_average", "ALPHA", "Seats wanted, on average.", |l| {
        l.stats.average
    });
    add("apiserver_flowcontrol_demand_seats_stdev", "ALPHA", "Deviation of the seats wanted.", |l| {
        l.stats.deviation
    });
    add("apiserver_flowcontrol_demand_seats_high_watermark", "ALPHA", "Most seats wanted.", |l| l.stats.peak);
    add("apiserver_flowcontrol_demand_seats_smoothed", "ALPHA", "Envelope of the seats wanted.", |l| {
        l.stats.smoothed
    });
    add("apiserver_flowcontrol_current_r", "ALPHA", "The level's virtual time.", |l| l.counts.r);
    let mut add = |name, stability, help, value: fn(&crate::flow::Use) -> usize| {
        let series = |shown: &crate::flow::Shown| {
            let pairs = shown.used.iter();
            pairs
                .map(|(schema, used)| (vec![shown.name.clone(), schema.to_string()], value(used) as f64))
                .collect::<Vec<_>>()
        };
        out.add(about(name, stability, help, both), "gauge", levels.iter().flat_map(series).collect());
    };
    add("apiserver_flowcontrol_current_executing_requests", "BETA", "Requests that hold seats.", |u| {
        u.running
    });
    add("apiserver_flowcontrol_current_executing_seats", "BETA", "Seats that are held.", |u| u.seats);
    add("apiserver_flowcontrol_request_concurrency_in_use", "ALPHA", "Seats that are held.", |u| u.seats);
    add("apiserver_flowcontrol_current_inqueue_requests", "BETA", "Requests that wait.", |u| u.waiting);
    add("apiserver_flowcontrol_current_inqueue_seats", "ALPHA", "Seats that are waited for.", |u| {
        u.seats_waiting
    });
}

fn build(core: &Core, out: &mut Writer) {
    let version: serde_json::Value = serde_json::from_slice(&core.version_json()).unwrap_or_default();
    let labels = &[
        "build_date",
        "compiler",
        "git_commit",
        "git_tree_state",
        "git_version",
        "go_version",
        "major",
        "minor",
        "platform",
    ];
    let fields = [
        "buildDate",
        "compiler",
        "gitCommit",
        "gitTreeState",
        "gitVersion",
        "goVersion",
        "major",
        "minor",
        "platform",
    ];
    let values = fields.map(|field| version[field].as_str().unwrap_or("").to_owned()).to_vec();
    let info = about("kubernetes_build_info", "BETA", "What was built, from what: always 1.", labels);
    out.add(info, "gauge", vec![(values, 1.0)]);
    let binary = core.config.git_version.trim_start_matches('v').to_owned();
    let values = vec![binary, "kube".to_owned(), "1.36".to_owned(), "1.35".to_owned()];
    let labels = &["binary", "component", "emulation", "min_compat"];
    let words = "The versions that the server is, acts as and is compatible with: always 1.";
    out.add(about("version_info", "ALPHA", words, labels), "gauge", vec![(values, 1.0)]);
    let words = "Metrics that are hidden.";
    out.one(about("hidden_metrics_total", "BETA", words, &[]), "counter", 0.0);
    let words = "Metrics that are switched off.";
    out.one(about("disabled_metrics_total", "BETA", words, &[]), "counter", 0.0);
    let set = &core.config.feature_gates;
    let gates = crate::gates::known().map(|gate| {
        let stage = if gate.stage == "GA" { "" } else { gate.stage };
        (vec![gate.name.to_owned(), stage.to_owned()], f64::from(u8::from(gate.is_on(set))))
    });
    let gates = gates.collect();
    let words = "This metric records the data about the stage and enablement of a k8s feature.";
    let enabled = about("kubernetes_feature_enabled", "BETA", words, &["name", "stage"]);
    out.add(enabled, "gauge", gates);
}

/// Clock ticks a second and the size of a page, on every Linux that we run on.
const TICKS: f64 = 100.0;
const PAGE: f64 = 4096.0;

/// What the kernel says of this process (`/proc/self/stat`), from the state on.
fn stat() -> Option<Vec<f64>> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // the name, in parentheses, may hold blanks
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect())
}

fn started(fields: &[f64]) -> f64 {
    let boot = fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<f64>().ok()))
        .unwrap_or(0.0);
    boot + fields.get(19).copied().unwrap_or(0.0) / TICKS
}

/// When this process began, in seconds since 1970.
pub fn process_start() -> f64 {
    stat().map_or(0.0, |fields| started(&fields))
}

fn process(out: &mut Writer) {
    let Some(fields) = stat() else { return };
    let field = |at: usize| fields.get(at).copied().unwrap_or(0.0);
    let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = |name: &str| {
        let line = limits.lines().find(|l| l.starts_with(name))?;
        line[name.len()..].split_whitespace().next()?.parse::<f64>().ok()
    };
    let mut add = |name, kind, help, value| out.one(about(name, "ALPHA", help, &[]), kind, value);
    add("process_cpu_seconds_total", "counter", "User and system time.", (field(11) + field(12)) / TICKS);
    add("process_start_time_seconds", "gauge", "When the process began, since 1970.", started(&fields));
    add("process_virtual_memory_bytes", "gauge", "Address space in use.", field(20));
    add("process_resident_memory_bytes", "gauge", "Memory in use.", field(21) * PAGE);
    add("process_open_fds", "gauge", "Open files.", files as f64);
    add("process_max_fds", "gauge", "Files that may be open.", limit("Max open files").unwrap_or(0.0));
    let most = limit("Max address space").unwrap_or(u64::MAX as f64);
    add("process_virtual_memory_max_bytes", "gauge", "Address space that may be used.", most);
}

/// The health checks as they stand.
pub fn health(core: &Core) -> String {
    let mut series = Vec::new();
    for kind in ["healthz", "livez", "readyz"] {
        for (name, fine) in crate::front::health::results(core, kind) {
            core.metrics.checked(&name, kind, fine);
            series.push((vec![name, kind.to_owned()], f64::from(u8::from(fine))));
        }
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::new();
    write_now(&mut out, &HEALTH, "gauge", &series);
    out
}

/// How many metrics there are, by stability.
pub fn registered(parts: &mut Parts) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (about, _) in parts.iter() {
        *counts.entry(about.stability).or_default() += 1;
    }
    let labels = &["stability_level", "deprecated_version"];
    let about = about("registered_metrics_total", "BETA", "Metrics that there are, by stability.", labels);
    let series: Vec<_> =
        counts.into_iter().map(|(level, n)| (vec![level.to_owned(), String::new()], n as f64)).collect();
    let mut text = String::new();
    write_now(&mut text, &about, "counter", &series);
    parts.push((about, text));
}
