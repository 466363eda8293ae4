//! Static pods: manifests in a directory, and the mirror objects that show them in the API.
//!
//! Source: <https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/>.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use rustix::fs::inotify;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::Agent;
use crate::pod::{HASH_ANNOTATION, MIRROR_ANNOTATION, PodExt, SEEN_ANNOTATION, SOURCE_ANNOTATION};
use client::write::ignore_not_found;
use client::{ErrorKind, Key};

/// Reads the directory now and at every change, and sends all pods that are in it. Ends where nobody listens.
pub(super) async fn watch(agent: Arc<Agent>, dir: std::path::PathBuf, pods: mpsc::Sender<Vec<Arc<Pod>>>) {
    if let Err(error) = fs::create_dir_all(&dir) {
        tracing::warn!(%error, dir = %dir.display(), "no static pods: their directory cannot be made");
        return;
    }
    let notices = match open(&dir) {
        Ok(notices) => notices,
        Err(error) => {
            tracing::warn!(%error, "no static pods: their directory cannot be watched");
            return;
        }
    };
    loop {
        if pods.send(read(&dir, &agent.config.node_name)).await.is_err() {
            return;
        }
        tokio::select! {
            () = agent.shutdown.cancelled() => return,
            noticed = drain(&notices) => if noticed.is_err() { return },
        }
    }
}

fn open(dir: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    use inotify::WatchFlags as W;
    inotify::add_watch(&fd, dir, W::CLOSE_WRITE | W::MOVED_TO | W::MOVED_FROM | W::DELETE)?;
    // As in the log reader: `OwnedFd` keeps its descriptor to the end.
    #[allow(deprecated)]
    AsyncFd::new(fd)
}

async fn drain(notices: &AsyncFd<OwnedFd>) -> std::io::Result<()> {
    let mut ready = notices.readable().await?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(ready.get_inner(), &mut buffer);
    while events.next().map(|_| ()).is_ok() {}
    ready.clear_ready();
    Ok(())
}

fn read(dir: &Path, node: &str) -> Vec<Arc<Pod>> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || !path.is_file() {
            continue;
        }
        match fs::read_to_string(&path).map_err(|e| e.to_string()).and_then(|text| parse(&text, &path, node))
        {
            Ok(pod) => found.push(Arc::new(pod)),
            Err(error) => tracing::warn!(path = %path.display(), error, "not a static pod"),
        }
    }
    found
}

/// One manifest, YAML or JSON, named and completed as the API server would.
fn parse(text: &str, path: &Path, node: &str) -> Result<Pod, String> {
    let mut pod: Pod = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let name = pod.metadata.name.clone().filter(|n| !n.is_empty()).ok_or("the pod has no name")?;
    let spec = pod.spec.as_mut().ok_or("the pod has no spec")?;
    if spec.containers.is_empty() {
        return Err("the pod has no containers".into());
    }
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        complete(container);
    }
    spec.node_name = Some(node.to_owned());
    spec.enable_service_links.get_or_insert(true);
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Default::default()
    });
    if pod.metadata.uid.is_none() {
        pod.metadata.uid = Some(hash(text, path, node));
    }
    let uid = pod.uid().to_owned();
    pod.metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(SOURCE_ANNOTATION.into(), "file".into());
    annotations.insert(HASH_ANNOTATION.into(), uid);
    annotations.insert(SEEN_ANNOTATION.into(), Timestamp::now().to_string());
    pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
    Ok(pod)
}

fn complete(container: &mut Container) {
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
    container.termination_message_policy.get_or_insert_with(|| "File".into());
    let latest = super::images::with_tag(container.image.as_deref().unwrap_or_default())
        .is_ok_and(|name| name.ends_with(":latest"));
    container.image_pull_policy.get_or_insert_with(|| if latest { "Always" } else { "IfNotPresent" }.into());
}

/// Names a manifest by its content, where it is and on which node.
fn hash(text: &str, path: &Path, node: &str) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text, path, node).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

/// Brings the mirror of a static pod in line: made where it is missing, deleted where it shows something else.
pub(super) async fn mirror(agent: Arc<Agent>, pod: Arc<Pod>, existing: Option<Arc<Pod>>) {
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), pod.namespace());
    if let Some(found) = existing {
        let same = found.annotation(MIRROR_ANNOTATION) == Some(pod.uid()) && !found.is_deleted();
        if same {
            return;
        }
        delete(&agent, &found).await;
    }
    let mut object = (*pod).clone();
    object.metadata.uid = None;
    object.metadata.resource_version = None;
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(MIRROR_ANNOTATION.into(), pod.uid().to_owned());
    let node = agent.node.get(&Key::cluster(&agent.config.node_name));
    object.metadata.owner_references = node.and_then(|n| n.metadata.uid.clone()).map(|uid| {
        vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: agent.config.node_name.clone(),
            uid,
            controller: Some(true),
            ..Default::default()
        }]
    });
    if let Err(error) = api.create(&PostParams::default(), &object).await
        && ErrorKind::of(&error) != ErrorKind::AlreadyExists
    {
        tracing::warn!(pod = pod.describe(), %error, "the mirror pod cannot be made");
    }
}

/// Deletes a mirror object at once.
pub(super) async fn delete(agent: &Agent, mirror: &Pod) {
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), mirror.namespace());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: mirror.metadata.uid.clone(), ..Default::default() }),
        ..Default::default()
    };
    if let Err(error) = ignore_not_found(api.delete(mirror.name(), &params).await) {
        tracing::warn!(pod = mirror.describe(), %error, "the mirror pod cannot be deleted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests() {
        let text = "metadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: x:1\n";
        let pod = parse(text, Path::new("/m/web.yaml"), "Node").unwrap();
        assert_eq!((pod.name(), pod.namespace()), ("web-node", "default"));
        assert!(pod.is_static() && !pod.is_mirror());
        assert_eq!(pod.uid().len(), 32);
        assert_eq!(pod.annotation(HASH_ANNOTATION), Some(pod.uid()));
        let other = parse(&text.replace("x:1", "x:2"), Path::new("/m/web.yaml"), "Node").unwrap();
        assert_ne!(pod.uid(), other.uid());
        let container = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
        for bad in ["{", "metadata: {}\nspec: {containers: []}", "metadata: {name: x}"] {
            assert!(parse(bad, Path::new("/m/x"), "n").is_err(), "{bad}");
        }
    }
}
