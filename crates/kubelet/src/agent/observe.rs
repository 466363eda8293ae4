//! Asks the runtime about one pod.

use runtime::cri::{Result, v1};
use std::path::Path;

use super::Agent;
use crate::cri::{LABEL_POD_UID, exit_annotations, observe};
use crate::logs::last_text;
use crate::observed::{Container, Observed, State};

/// Limits of a termination message: bytes of the file; lines and bytes of the log that stands in for it.
const MESSAGE_BYTES: u64 = 4096;
const LOG_LINES: u64 = 80;
const LOG_BYTES: usize = 2048;

impl Agent {
    /// Everything the runtime knows about the pod, termination messages included.
    pub async fn observe(&self, uid: &str) -> Result<Observed> {
        let labels = || [(LABEL_POD_UID.to_owned(), uid.to_owned())].into();
        let filter = v1::PodSandboxFilter { label_selector: labels(), ..Default::default() };
        let list = self.runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await?;
        let mut sandboxes = vec![];
        for item in list.items {
            let request = v1::PodSandboxStatusRequest { pod_sandbox_id: item.id, verbose: false };
            match self.runtime.pod_sandbox_status(request).await {
                Ok(answer) => sandboxes.extend(answer.status),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        let filter = v1::ContainerFilter { label_selector: labels(), ..Default::default() };
        let list = self.runtime.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await?;
        let mut containers = vec![];
        let mut owners = std::collections::HashMap::new();
        for item in list.containers {
            owners.insert(item.id.clone(), item.pod_sandbox_id);
            let request = v1::ContainerStatusRequest { container_id: item.id, verbose: false };
            match self.runtime.container_status(request).await {
                Ok(answer) => containers.extend(answer.status),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        for container in &mut containers {
            if container.state == v1::ContainerState::ContainerExited as i32 {
                add_termination_message(container);
            }
        }
        let mut seen = observe(&self.runtime_name, &sandboxes, &containers);
        for container in &mut seen.containers {
            container.sandbox_id = owners.remove(&container.id).unwrap_or_default();
        }
        Ok(seen)
    }
}

fn add_termination_message(container: &mut v1::ContainerStatus) {
    let (path, policy) = exit_annotations(container);
    let file = container.mounts.iter().find(|m| !path.is_empty() && m.container_path == path);
    let mut text = file.and_then(|m| read_end(Path::new(&m.host_path)).ok()).unwrap_or_default();
    if text.is_empty() && policy == "FallbackToLogsOnError" && container.exit_code != 0 {
        text = last_text(Path::new(&container.log_path), LOG_LINES, LOG_BYTES).unwrap_or_default();
    }
    if text.is_empty() {
        return;
    }
    if !container.message.is_empty() {
        container.message.push_str(": ");
    }
    container.message.push_str(&text);
}

fn read_end(path: &Path) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    // The pod could have put anything there; only a plain file is read, and only its end.
    let mut file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(String::new());
    }
    file.seek(SeekFrom::Start(meta.len().saturating_sub(MESSAGE_BYTES)))?;
    let mut raw = vec![];
    file.take(MESSAGE_BYTES).read_to_end(&mut raw)?;
    Ok(String::from_utf8_lossy(&raw).into_owned())
}

/// The containers that may still run.
pub fn alive(seen: &Observed) -> impl Iterator<Item = &Container> {
    seen.containers.iter().filter(|c| matches!(c.state, State::Running | State::Unknown))
}
