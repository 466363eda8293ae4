//! The mounts of one container: its volumes, its hosts file, its termination message.

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use runtime::cri::v1;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Prepared, PreparedVolumes, subpath};
use crate::cri::NodeFacts;
use crate::env::expand_strictly;
use crate::pod::{PodExt, SpecExt};

/// What a container's mounts are made from.
pub struct MountInputs<'a> {
    pub node: &'a NodeFacts,
    pub volumes: &'a PreparedVolumes,
    pub env: &'a [(String, String)],
    pub pod_ips: &'a [String],
    /// How often the container was started; keeps the message files apart.
    pub attempt: i32,
    /// The image behind each image volume, by volume name, once it is pulled.
    pub images: &'a std::collections::HashMap<String, v1::ImageSpec>,
    pub userns: Option<&'a v1::UserNamespace>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreparedMounts {
    pub mounts: Vec<v1::Mount>,
    pub devices: Vec<v1::Device>,
}

/// Makes what the mounts need (sub-paths, hosts file, message file). The text of a failure stands in
/// `CreateContainerConfigError`.
pub fn container_mounts(
    pod: &Pod,
    container: &Container,
    inputs: &MountInputs<'_>,
) -> Result<PreparedMounts, String> {
    let mut out = PreparedMounts::default();
    let mut own_hosts = false;
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        own_hosts |= mount.mount_path == "/etc/hosts";
        let prepared = inputs.volumes.get(&mount.name).ok_or_else(|| {
            format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name)
        })?;
        let made = match prepared {
            Prepared::Path { path, read_only } => {
                volume_mount(pod, container, mount, i, path, *read_only, inputs)?
            }
            Prepared::Image => image_mount(mount, inputs)?,
            Prepared::Device(_) => {
                return Err(format!(
                    "volume {:?} has volumeMode Block, but is specified in volumeMounts",
                    mount.name
                ));
            }
        };
        out.mounts.push(made);
    }
    for device in container.volume_devices.iter().flatten() {
        match inputs.volumes.get(&device.name) {
            Some(Prepared::Device(path)) => out.devices.push(v1::Device {
                container_path: device.device_path.clone(),
                host_path: path.to_string_lossy().into_owned(),
                permissions: "mrw".into(),
            }),
            _ => {
                return Err(format!(
                    "cannot find block volume {:?} for container {:?}",
                    device.name, container.name
                ));
            }
        }
    }
    let io = |what: &str, e: io::Error| format!("failed to prepare {what}: {e}");
    if !own_hosts {
        let path = hosts_file(pod, inputs).map_err(|e| io("the hosts file", e))?;
        out.mounts.push(plain(&path, "/etc/hosts"));
    }
    if let Some(at) = container.termination_message_path.as_deref().filter(|p| !p.is_empty()) {
        let path = message_file(pod, container, inputs).map_err(|e| io("the termination message file", e))?;
        out.mounts.push(plain(&path, at));
    }
    if let Some(userns) = inputs.userns {
        for mount in &mut out.mounts {
            mount.uid_mappings = userns.uids.clone();
            mount.gid_mappings = userns.gids.clone();
        }
    }
    Ok(out)
}

fn plain(host: &Path, container: &str) -> v1::Mount {
    v1::Mount {
        container_path: container.to_owned(),
        host_path: host.to_string_lossy().into_owned(),
        ..Default::default()
    }
}

fn sub_path<'a>(
    mount: &'a VolumeMount,
    env: &[(String, String)],
) -> Result<Option<std::borrow::Cow<'a, str>>, String> {
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        let expanded = expand_strictly(expression, env).map_err(|name| {
            format!("failed to expand subPathExpr {expression:?}: missing value for {name:?}")
        })?;
        return Ok(Some(expanded.into()));
    }
    Ok(mount.sub_path.as_deref().filter(|s| !s.is_empty()).map(Into::into))
}

fn volume_mount(
    pod: &Pod,
    container: &Container,
    mount: &VolumeMount,
    index: usize,
    volume: &Path,
    volume_read_only: bool,
    inputs: &MountInputs<'_>,
) -> Result<v1::Mount, String> {
    let host_path = match sub_path(mount, inputs.env)? {
        None => volume.to_owned(),
        Some(sub) => {
            let places = inputs.node.pod_dir(pod.uid()).join("volume-subpaths");
            let target = places.join(&mount.name).join(&container.name).join(index.to_string());
            subpath::bind(volume, &sub, &target).map_err(|e| {
                format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}: {e}",
                    mount.name, container.name
                )
            })?
        }
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    };
    let readonly = mount.read_only == Some(true) || volume_read_only;
    let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
    let container_path = if mount.mount_path.starts_with('/') {
        mount.mount_path.clone()
    } else {
        format!("/{}", mount.mount_path)
    };
    Ok(v1::Mount {
        container_path,
        host_path: host_path.to_string_lossy().into_owned(),
        readonly,
        propagation: propagation as i32,
        recursive_read_only: recursive && mount.read_only == Some(true),
        ..Default::default()
    })
}

fn image_mount(mount: &VolumeMount, inputs: &MountInputs<'_>) -> Result<v1::Mount, String> {
    let image = inputs.images.get(&mount.name);
    let image = image.ok_or_else(|| format!("image of volume {:?} is not pulled", mount.name))?;
    Ok(v1::Mount {
        container_path: mount.mount_path.clone(),
        readonly: true,
        image: Some(image.clone()),
        image_sub_path: sub_path(mount, inputs.env)?.map(Into::into).unwrap_or_default(),
        ..Default::default()
    })
}

fn hosts_file(pod: &Pod, inputs: &MountInputs<'_>) -> io::Result<PathBuf> {
    let path = inputs.node.pod_dir(pod.uid()).join("etc-hosts");
    let host = match pod.spec().is_host_network() {
        true => Some(fs::read_to_string("/etc/hosts").unwrap_or_default()),
        false => None,
    };
    let text = crate::dns::hosts_file(pod, inputs.pod_ips, &inputs.node.dns.cluster_domain, host.as_deref());
    if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
        fs::write(&path, text)?;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    Ok(path)
}

/// An empty file that any user of the container may write.
fn message_file(pod: &Pod, container: &Container, inputs: &MountInputs<'_>) -> io::Result<PathBuf> {
    let dir = inputs.node.pod_dir(pod.uid()).join("containers").join(&container.name);
    fs::DirBuilder::new().recursive(true).mode(0o750).create(&dir)?;
    let path = dir.join(format!("message-{}", inputs.attempt));
    fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o666).open(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(path)
}
