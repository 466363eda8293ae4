//! The table of pods.

use jiff::Timestamp;
use machinery::{Get, Value, json};

use super::resources::is_sidecar;
use crate::columns::{CREATED, NAME, age, name, or_none, since};
use crate::{Column, Columns};

pub(crate) const COLUMNS: Columns = Columns { definitions: DEFINITIONS, cells, conditions };

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Ready", "string", "", 0, "The aggregate readiness state of this pod for accepting traffic."),
    ("Status", "string", "", 0, "The aggregate status of the containers in this pod."),
    (
        "Restarts",
        "string",
        "",
        0,
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    ("Age", "string", "", 0, CREATED),
    (
        "IP",
        "string",
        "",
        1,
        "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
    ),
    (
        "Node",
        "string",
        "",
        1,
        "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName. Once this field is set, the kubelet for this node becomes responsible for the lifecycle of this pod. This field should not be used to express a desire for the pod to be scheduled on a specific node. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename",
    ),
    (
        "Nominated Node",
        "string",
        "",
        1,
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods. This field does not guarantee that the pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is scheduled.",
    ),
    (
        "Readiness Gates",
        "string",
        "",
        1,
        "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates",
    ),
];

/// What the containers say of the pod.
#[derive(Default)]
struct Summary<'a> {
    reason: String,
    restarts: i64,
    last: &'a str,
    ready: usize,
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let mut total = spec.list("containers").len();
    total += spec.list("initContainers").iter().filter(|c| is_sidecar(c)).count();
    let mut sum = Summary { reason: plain_reason(status), ..Summary::default() };
    let sidecars = init_containers(spec, status, &mut sum);
    if let Some((restarts, last)) = sidecars {
        (sum.restarts, sum.last) = (restarts, last);
        containers(status, &mut sum);
    }
    if pod.at("metadata").has("deletionTimestamp") {
        if status.text("reason") == "NodeLost" {
            sum.reason = "Unknown".into();
        } else if !matches!(status.text("phase"), "Failed" | "Succeeded") {
            sum.reason = "Terminating".into();
        }
    }
    let restarts = if sum.restarts != 0 && !sum.last.is_empty() {
        format!("{} ({} ago)", sum.restarts, since(sum.last, now))
    } else {
        sum.restarts.to_string()
    };
    let ip = status.list("podIPs").first().map_or("", |ip| ip.text("ip"));
    vec![
        name(pod),
        format!("{}/{total}", sum.ready).into(),
        sum.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(ip),
        or_none(spec.text("nodeName")),
        or_none(status.text("nominatedNodeName")),
        readiness_gates(spec, status).into(),
    ]
}

fn plain_reason(status: &Value) -> String {
    let gated = |c: &Value| c.text("type") == "PodScheduled" && c.text("reason") == "SchedulingGated";
    if status.list("conditions").iter().any(gated) {
        return "SchedulingGated".into();
    }
    let reason = status.text("reason");
    (if reason.is_empty() { status.text("phase") } else { reason }).to_owned()
}

/// When the container last ended, or "".
fn ended(container: &Value) -> &str {
    container.at("lastState").at("terminated").text("finishedAt")
}

fn later<'a>(a: &'a str, b: &'a str) -> &'a str {
    if b > a { b } else { a }
}

/// Goes through the init containers. None if the pod is still initializing (then `sum` tells of that), else the
/// restarts of sidecars and when the last one was.
fn init_containers<'a>(spec: &Value, status: &'a Value, sum: &mut Summary<'a>) -> Option<(i64, &'a str)> {
    let (mut restarts, mut last) = (0, "");
    let mut initializing = false;
    for (i, container) in status.list("initContainerStatuses").iter().enumerate() {
        let state = container.at("state");
        let count = container.int("restartCount").unwrap_or(0);
        sum.restarts += count;
        sum.last = later(sum.last, ended(container));
        let sidecar = spec
            .list("initContainers")
            .iter()
            .any(|c| c.text("name") == container.text("name") && is_sidecar(c));
        if sidecar {
            restarts += count;
            last = later(last, ended(container));
        }
        let terminated = state.at("terminated");
        let waiting = state.at("waiting").text("reason");
        if terminated.is_object() && terminated.int("exitCode").unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && container.flag("started") == Some(true) {
            sum.ready += usize::from(container.flag("ready") == Some(true));
            continue;
        }
        sum.reason = if terminated.is_object() {
            format!("Init:{}", end_reason(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", spec.list("initContainers").len())
        };
        initializing = true;
        break;
    }
    let done = status.list("conditions").iter().find(|c| c.text("type") == "Initialized");
    (!initializing || done.is_some_and(|c| c.text("status") == "True")).then_some((restarts, last))
}

fn end_reason(terminated: &Value) -> String {
    let (reason, signal) = (terminated.text("reason"), terminated.int("signal").unwrap_or(0));
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", terminated.int("exitCode").unwrap_or(0))
    }
}

fn containers<'a>(status: &'a Value, sum: &mut Summary<'a>) {
    let mut running = false;
    let mut error = String::new();
    for container in status.list("containerStatuses").iter().rev() {
        let state = container.at("state");
        sum.restarts += container.int("restartCount").unwrap_or(0);
        sum.last = later(sum.last, ended(container));
        let (waiting, terminated) = (state.at("waiting").text("reason"), state.at("terminated"));
        if !waiting.is_empty() {
            sum.reason = waiting.to_owned();
        } else if terminated.is_object() {
            sum.reason = end_reason(terminated);
            if terminated.int("exitCode").unwrap_or(0) != 0 {
                error.clone_from(&sum.reason);
            }
        } else if container.flag("ready") == Some(true) && state.has("running") {
            running = true;
            sum.ready += 1;
        }
    }
    if sum.reason == "Completed" {
        let ready = |c: &Value| c.text("type") == "Ready" && c.text("status") == "True";
        if running && status.list("conditions").iter().any(ready) {
            sum.reason = "Running".into();
        } else if !error.is_empty() {
            sum.reason = error;
        } else if running {
            sum.reason = "NotReady".into();
        }
    }
}

fn readiness_gates(spec: &Value, status: &Value) -> String {
    let gates = spec.list("readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let held = |gate: &&Value| {
        let condition =
            status.list("conditions").iter().find(|c| c.text("type") == gate.text("conditionType"));
        condition.is_some_and(|c| c.text("status") == "True")
    };
    format!("{}/{}", gates.iter().filter(held).count(), gates.len())
}

fn conditions(pod: &Value) -> Vec<Value> {
    let (reason, message) = match pod.at("status").text("phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
}
