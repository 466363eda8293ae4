//! A pod's volumes on this node: made before its containers start, kept up to date while they run, removed after.
//!
//! [`prepare`] is safe to repeat: it makes what is missing and rewrites what has changed. It blocks; callers run it on a
//! thread of its own. What a volume's content comes from is given to it.

pub mod atomic;
mod container_mounts;
mod fs_group;
mod host_path;
mod mounts;
pub mod payload;
mod subpath;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use container_mounts::{MountInputs, PreparedMounts, container_mounts};
pub use mounts::remove_tree;
pub use payload::{Payload, PayloadError, Sources, TokenKey, bundle_key, token_keys};

use crate::cri::NodeFacts;
use crate::pod::{PodExt, SpecExt};
use crate::quantity::value;

/// What a container mounts for a volume.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// A directory or file of the host.
    Path { path: PathBuf, read_only: bool },
    /// A block device of the host.
    Device(PathBuf),
    /// An image, which the runtime mounts.
    Image,
}

/// By volume name.
pub type PreparedVolumes = HashMap<String, Prepared>;

/// A claim as found bound to what this node can mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    Local {
        path: PathBuf,
        block: bool,
        kind: String,
        read_only: bool,
    },
    /// Why it cannot be mounted (yet).
    NotUsable(String),
}

#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {cause}")]
pub struct VolumeError {
    pub volume: String,
    pub cause: Cause,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Other(String),
}

/// What volumes are made from.
pub struct VolumeInputs<'a> {
    pub node: &'a NodeFacts,
    pub sources: Sources<'a>,
    /// By claim name.
    pub claims: &'a HashMap<String, Claim>,
    pub now: Timestamp,
}

/// Makes or updates all volumes of a pod. Stops at the first that fails.
pub fn prepare(pod: &Pod, inputs: &VolumeInputs<'_>) -> Result<PreparedVolumes, VolumeError> {
    let mut done = PreparedVolumes::new();
    for volume in pod.spec().volumes.iter().flatten() {
        let prepared =
            one(pod, volume, inputs).map_err(|cause| VolumeError { volume: volume.name.clone(), cause })?;
        done.insert(volume.name.clone(), prepared);
    }
    Ok(done)
}

fn group(pod: &Pod) -> Option<u32> {
    pod.spec().security_context.as_ref().and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok())
}

/// Where a volume of a plugin stands: `PODS/UID/volumes/kubernetes.io~PLUGIN/NAME`.
fn volume_dir(pod: &Pod, plugin: &str, name: &str, node: &NodeFacts) -> PathBuf {
    node.pod_dir(pod.uid()).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

fn make_dir(dir: &Path, mode: u32) -> io::Result<bool> {
    if let Some(parent) = dir.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode))?;
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

fn one(pod: &Pod, volume: &Volume, inputs: &VolumeInputs<'_>) -> Result<Prepared, Cause> {
    let name = &volume.name;
    let files =
        |plugin: &str, payload: Result<Payload, PayloadError>, in_memory: bool| -> Result<Prepared, Cause> {
            let payload = payload?;
            let dir = volume_dir(pod, plugin, name, inputs.node);
            make_dir(&dir, 0o755)?;
            if in_memory {
                memory_backed(&dir)?;
            }
            atomic::write(&dir, &payload, group(pod), inputs.now)?;
            // Written by the node only.
            Ok(Prepared::Path { path: dir, read_only: true })
        };
    let sources = &inputs.sources;
    if let Some(v) = &volume.config_map {
        return files("configmap", payload::config_map(v, sources), false);
    }
    if let Some(v) = &volume.secret {
        return files("secret", payload::secret(v, sources), true);
    }
    if let Some(v) = &volume.downward_api {
        return files("downward-api", payload::downward(v.items.as_ref(), v.default_mode, sources), false);
    }
    if let Some(v) = &volume.projected {
        return files("projected", payload::projected(v, sources), true);
    }
    if let Some(v) = &volume.empty_dir {
        return empty_dir(pod, name, v, inputs.node);
    }
    if let Some(v) = &volume.host_path {
        let path = PathBuf::from(&v.path);
        host_path::check(&path, v.type_.as_deref().unwrap_or_default()).map_err(Cause::Other)?;
        return Ok(Prepared::Path { path, read_only: false });
    }
    if volume.image.is_some() {
        return Ok(Prepared::Image);
    }
    let claim = match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(v), _) => Some(v.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{name}", pod.name())),
        (None, None) => None,
    };
    if let Some(claim) = claim {
        return persistent(pod, &claim, volume, inputs);
    }
    Err(Cause::Other(format!("no volume plugin matched volume {name:?}")))
}

/// Secrets stay in memory. Without the right to mount, they stay on disk, readable by root only.
fn memory_backed(dir: &Path) -> io::Result<()> {
    match mounts::tmpfs(dir, "mode=0755") {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !is_root() => Ok(()),
        other => other,
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn empty_dir(pod: &Pod, name: &str, v: &EmptyDirVolumeSource, node: &NodeFacts) -> Result<Prepared, Cause> {
    let dir = volume_dir(pod, "empty-dir", name, node);
    let fresh = make_dir(&dir, 0o777)?;
    match v.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            let limit = v.size_limit.as_ref().map(value).filter(|v| *v > 0);
            let size = [limit, pod_memory_limit(pod), Some(node.memory).filter(|m| *m > 0)]
                .into_iter()
                .flatten()
                .min();
            let size = size.map(|s| format!("size={s},")).unwrap_or_default();
            match mounts::tmpfs(&dir, &format!("{size}mode=0777")) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !is_root() => {}
                other => other?,
            }
        }
        huge => {
            let page = huge.strip_prefix("HugePages").map(|p| p.trim_start_matches('-'));
            let page = page.ok_or_else(|| Cause::Other(format!("unknown storage medium {huge:?}")))?;
            let option = page.strip_suffix('i').map(|p| format!("pagesize={p}")).unwrap_or_default();
            mounts::mount_fs("hugetlbfs", &dir, &option)?;
        }
    }
    if let (Some(group), true) = (group(pod), fresh) {
        fs_group::apply(&dir, group, false)?;
    }
    Ok(Prepared::Path { path: dir, read_only: false })
}

/// The sum of the containers' memory limits, if all have one.
fn pod_memory_limit(pod: &Pod) -> Option<i64> {
    let of = |c: &k8s_openapi::api::core::v1::Container| {
        crate::quantity::value_of(c.resources.as_ref().and_then(|r| r.limits.as_ref()), "memory")
    };
    let spec = pod.spec();
    let own = spec.resources.as_ref().and_then(|r| crate::quantity::value_of(r.limits.as_ref(), "memory"));
    if own.is_some() {
        return own;
    }
    let regular = spec.containers.iter().map(of).sum::<Option<i64>>()?;
    let init = spec.init_containers().iter().map(of).collect::<Option<Vec<_>>>()?;
    Some(init.into_iter().max().unwrap_or(0).max(regular)).filter(|v| *v > 0)
}

fn persistent(pod: &Pod, claim: &str, volume: &Volume, inputs: &VolumeInputs<'_>) -> Result<Prepared, Cause> {
    let found = inputs.claims.get(claim);
    match found {
        Some(Claim::Local { path, block: true, .. }) => Ok(Prepared::Device(path.clone())),
        Some(Claim::Local { path, block: false, kind, read_only }) => {
            if kind == "local" && !path.exists() {
                return Err(Cause::Other(format!("path {:?} does not exist", path.display().to_string())));
            }
            if kind != "local" {
                host_path::check(path, kind).map_err(Cause::Other)?;
            }
            let read_only = *read_only
                || volume.persistent_volume_claim.as_ref().is_some_and(|v| v.read_only == Some(true));
            if let (Some(group), false, "local") = (group(pod), read_only, kind.as_str()) {
                let policy =
                    pod.spec().security_context.as_ref().and_then(|s| s.fs_group_change_policy.as_deref());
                fs_group::apply(path, group, policy == Some("OnRootMismatch"))?;
            }
            Ok(Prepared::Path { path: path.clone(), read_only })
        }
        Some(Claim::NotUsable(why)) => Err(Cause::Other(why.clone())),
        None => Err(Cause::Other(format!("persistentvolumeclaim {claim:?} not found"))),
    }
}

#[cfg(test)]
mod tests;
