//! The runtime's answers as [`Observed`].

use jiff::Timestamp;
use runtime::cri::v1;
use std::collections::BTreeMap;

use crate::amounts::Amounts;
use crate::observed::{Container, Observed, Sandbox, State, User};

fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanos.into()).unwrap_or_default()
}

/// What one sandbox and one container status say. Order is made here: the newest of a name first.
pub fn observe(
    runtime_name: &str,
    sandboxes: &[v1::PodSandboxStatus],
    containers: &[v1::ContainerStatus],
) -> Observed {
    let mut seen = Observed {
        sandboxes: sandboxes.iter().map(sandbox_status).collect(),
        containers: containers.iter().map(container_status).collect(),
        runtime_name: runtime_name.to_owned(),
    };
    seen.sandboxes.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(b.attempt.cmp(&a.attempt)));
    // The clock may stand still between two attempts, or step back: the count decides.
    seen.containers.sort_by(|a, b| {
        let newest_first = b.restart_count.cmp(&a.restart_count).then(b.created_at.cmp(&a.created_at));
        a.name.cmp(&b.name).then(newest_first)
    });
    seen
}

fn sandbox_status(s: &v1::PodSandboxStatus) -> Sandbox {
    let network = s.network.as_ref();
    let options = s.linux.as_ref().and_then(|l| l.namespaces.as_ref()).and_then(|n| n.options.as_ref());
    let first = network.map(|n| n.ip.clone()).filter(|ip| !ip.is_empty());
    let more = network.into_iter().flat_map(|n| n.additional_ips.iter().map(|ip| ip.ip.clone()));
    Sandbox {
        id: s.id.clone(),
        attempt: s.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: s.state == v1::PodSandboxState::SandboxReady as i32,
        created_at: time(s.created_at),
        host_network: options.is_some_and(|o| o.network == v1::NamespaceMode::Node as i32),
        ips: first.into_iter().chain(more).collect(),
    }
}

/// One container. Its sandbox is not in the message: whoever listed it fills that in.
pub fn container_status(c: &v1::ContainerStatus) -> Container {
    let state = match v1::ContainerState::try_from(c.state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    let annotation = |key: &str| c.annotations.get(key).cloned().unwrap_or_default();
    let attempt = c.metadata.as_ref().map_or(0, |m| i32::try_from(m.attempt).unwrap_or(0));
    let resources = c.resources.as_ref().and_then(|r| r.linux.as_ref());
    let user = c.user.as_ref().and_then(|u| u.linux.as_ref());
    let signal = v1::Signal::try_from(c.stop_signal).ok().filter(|s| *s != v1::Signal::RuntimeDefault);
    Container {
        id: c.id.clone(),
        name: c.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
        state,
        created_at: time(c.created_at),
        started_at: time(c.started_at),
        finished_at: time(c.finished_at),
        exit_code: c.exit_code,
        reason: c.reason.clone(),
        message: c.message.clone(),
        image: c.image.as_ref().map(super::preferred_image_name).unwrap_or_default(),
        image_ref: c.image_ref.clone(),
        spec_hash: annotation(super::HASH),
        restart_count: annotation(super::RESTART_COUNT).parse().unwrap_or(attempt),
        sandbox_id: String::new(),
        log_path: c.log_path.clone(),
        user: user.map(|u| User {
            uid: u.uid,
            gid: u.gid,
            supplemental_groups: u.supplemental_groups.clone(),
        }),
        applied: resources.map(|r| Amounts {
            cpu_shares: r.cpu_shares,
            cpu_quota: r.cpu_quota.max(0),
            memory: r.memory_limit_in_bytes.max(0),
        }),
        stop_signal: signal.map(|s| s.as_str_name().replace("PLUS", "+").replace("MINUS", "-")),
    }
}

/// (namespace, name, uid) of the pod that labels speak of.
pub fn pod_of_labels(labels: &BTreeMap<String, String>) -> Option<(String, String, String)> {
    let get = |key: &str| labels.get(key).cloned();
    Some((get(super::LABEL_POD_NAMESPACE)?, get(super::LABEL_POD_NAME)?, get(super::LABEL_POD_UID)?))
}

/// Where an ended container's message is to be read: (path in the container, policy).
pub fn exit_annotations(c: &v1::ContainerStatus) -> (String, String) {
    let get = |key: &str| c.annotations.get(key).cloned().unwrap_or_default();
    (get(super::MESSAGE_PATH), get(super::MESSAGE_POLICY))
}
