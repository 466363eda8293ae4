//! Which path is answered by what.

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json as value;
use std::sync::Arc;

use super::query::Query;
use super::{Answer, container_logs, json, metrics, stats, stream, text};
use crate::agent::Agent;
use crate::cri::LABEL_POD_UID;
use crate::observed::State;
use crate::pod::{PodExt, SpecExt};
use runtime::cri::v1;

pub(super) async fn route(agent: Arc<Agent>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let query = Query::parse(request.uri().query());
    let is_get = request.method() == Method::GET;
    match parts.as_slice() {
        ["healthz", ..] if is_get => text(StatusCode::OK, "ok"),
        ["pods"] if is_get => pods(&agent),
        ["runningpods"] if is_get => running_pods(&agent).await,
        ["configz"] if is_get => json(&value!({"kubeletconfig": {"kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "maxPods": agent.config.max_pods,
            "clusterDomain": agent.config.cluster_domain}})),
        ["stats", "summary"] => stats::summary(&agent, query.flag("only_cpu_and_memory")).await,
        ["metrics"] if is_get => metrics::own(&agent),
        ["metrics", "resource"] if is_get => metrics::resource(&agent).await,
        ["metrics", "cadvisor"] if is_get => metrics::cadvisor(&agent).await,
        ["metrics", "probes"] if is_get => metrics::text_answer(String::new()),
        ["containerLogs", namespace, pod, container] if is_get => {
            container_logs::answer(&agent, namespace, pod, container, &query).await
        }
        ["exec", rest @ ..] => stream::exec(agent.clone(), rest, &query, request).await,
        ["attach", rest @ ..] => stream::attach(agent.clone(), rest, &query, request).await,
        ["portForward", rest @ ..] => stream::port_forward(agent.clone(), rest, &query, request).await,
        ["run", rest @ ..] if request.method() == Method::POST => stream::run(&agent, rest, &query).await,
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn pods(agent: &Agent) -> Answer {
    let items: Vec<Pod> = agent.entries().values().map(|entry| entry.with_status()).collect();
    json(&value!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// Pods that have a running container, as the runtime knows them.
async fn running_pods(agent: &Agent) -> Answer {
    let uids: Vec<(String, Arc<Pod>)> =
        agent.entries().iter().map(|(uid, e)| (uid.clone(), e.pod())).collect();
    let mut items = vec![];
    for (uid, pod) in uids {
        let Ok(seen) = agent.observe(&uid).await else { continue };
        let running = seen.containers.iter().filter(|c| c.state == State::Running);
        let containers: Vec<_> =
            running.map(|c| value!({"name": c.name, "image": c.image_ref, "resources": {}})).collect();
        if !containers.is_empty() {
            items.push(value!({"metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": uid},
                "spec": {"containers": containers}, "status": {}}));
        }
    }
    json(&value!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The pod of this name and, where given, uid.
pub(super) fn find_pod(agent: &Agent, namespace: &str, name: &str, uid: Option<&str>) -> Option<Pod> {
    let entries = agent.entries();
    let mut found = entries.iter().filter(|(u, e)| {
        e.is(namespace, name) && uid.is_none_or(|uid| uid == u.as_str() || e.api_pod().uid() == uid)
    });
    // Of two of one name, the one that is not on its end.
    let first = found.next()?;
    let newest = found.find(|(_, e)| !e.is_removed()).filter(|_| first.1.is_removed()).unwrap_or(first);
    Some(newest.1.with_status())
}

/// The running container of a pod, by name.
pub(super) async fn find_container(agent: &Agent, pod: &Pod, name: &str) -> Result<String, Answer> {
    let missing = || text(StatusCode::NOT_FOUND, format!("container not found ({name:?})"));
    if pod.spec().container(name).is_none() {
        return Err(missing());
    }
    let filter = v1::ContainerFilter {
        label_selector: [
            (LABEL_POD_UID.to_owned(), pod.uid().to_owned()),
            (crate::cri::LABEL_CONTAINER_NAME.to_owned(), name.to_owned()),
        ]
        .into(),
        state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning as i32 }),
        ..Default::default()
    };
    let list = agent.runtime.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await;
    match list {
        Ok(list) => {
            let running = v1::ContainerState::ContainerRunning as i32;
            let found =
                list.containers.into_iter().filter(|c| c.state == running).max_by_key(|c| c.created_at);
            found.map(|c| c.id).ok_or_else(missing)
        }
        Err(e) => Err(text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string())),
    }
}
