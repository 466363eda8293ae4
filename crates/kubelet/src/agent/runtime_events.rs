//! Wakes pod workers when something happens to their containers: by the runtime's event stream, or where it has none,
//! by listing.

use futures_util::StreamExt;
use runtime::cri::{Code, v1};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Agent;
use crate::cri::LABEL_POD_UID;

/// Between looks at a runtime that has no events, as upstream.
const RELIST: Duration = Duration::from_secs(1);
/// Before the stream is opened again after it broke.
const REOPEN: Duration = Duration::from_secs(1);

pub(super) async fn run(agent: Arc<Agent>) {
    loop {
        match agent.runtime.get_container_events(v1::GetEventsRequest {}).await {
            Ok(mut events) => {
                // Something may have happened before the stream was open.
                agent.wake_all();
                while let Some(Ok(event)) = events.next().await {
                    let uid = event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
                    match uid {
                        Some(uid) => agent.wake(&uid),
                        None => agent.wake_all(),
                    }
                }
            }
            Err(e) if e.code == Code::Unimplemented => return relist(agent).await,
            Err(e) => tracing::warn!(error = %e, "the runtime's event stream does not open"),
        }
        tokio::time::sleep(REOPEN).await;
    }
}

async fn relist(agent: Arc<Agent>) {
    tracing::info!(
        "the container runtime has no event stream; its containers are listed every second instead"
    );
    let mut known: HashMap<String, Vec<(String, i32)>> = HashMap::new();
    loop {
        if let Some(now) = list(&agent).await {
            for uid in now.keys().chain(known.keys()) {
                if now.get(uid) != known.get(uid) {
                    agent.wake(uid);
                }
            }
            known = now;
        }
        tokio::time::sleep(RELIST).await;
    }
}

/// Ids and states of all containers and sandboxes, by pod.
async fn list(agent: &Agent) -> Option<HashMap<String, Vec<(String, i32)>>> {
    let containers = agent.runtime.list_containers(v1::ListContainersRequest { filter: None }).await.ok()?;
    let sandboxes = agent.runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await.ok()?;
    let mut out: HashMap<String, Vec<(String, i32)>> = HashMap::new();
    let containers =
        containers.containers.into_iter().map(|c| (c.labels.get(LABEL_POD_UID).cloned(), c.id, c.state));
    let sandboxes = sandboxes.items.into_iter().map(|s| (s.metadata.map(|m| m.uid), s.id, s.state));
    for (uid, id, state) in containers.chain(sandboxes) {
        out.entry(uid.unwrap_or_default()).or_default().push((id, state));
    }
    out.values_mut().for_each(|list| list.sort());
    Some(out)
}
