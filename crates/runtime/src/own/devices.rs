//! Device nodes of the host, for containers that ask for them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::spec::HostDevice;
use crate::cri::{self, Error, v1};

/// The devices a container asks for by path; a directory stands for all below it.
pub fn asked(config: &v1::ContainerConfig) -> cri::Result<Vec<HostDevice>> {
    let mut all = Vec::new();
    for device in &config.devices {
        let host = std::fs::canonicalize(&device.host_path).map_err(|error| {
            Error::unknown(format!("error gathering device information for {:?}: {error}", device.host_path))
        })?;
        let found = if host.is_dir() {
            below(&host, &device.container_path, 0)
        } else {
            host_device(&host, &device.container_path).into_iter().collect()
        };
        if found.is_empty() {
            return Err(Error::unknown(format!("{:?} is not a device node", device.host_path)));
        }
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        all.extend(found.into_iter().map(|d| HostDevice { access: access.to_owned(), ..d }));
    }
    Ok(all)
}

fn host_device(path: &Path, inside: &str) -> Option<HostDevice> {
    let meta = std::fs::metadata(path).ok()?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return None,
    };
    Some(HostDevice {
        path: inside.to_owned(),
        kind,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: "rwm".to_owned(),
    })
}

/// All device nodes below `dir`, except what a container has of its own.
pub fn below(dir: &Path, inside: &str, depth: u32) -> Vec<HostDevice> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else { continue };
        if matches!(
            name.as_str(),
            "pts" | "shm" | "fd" | "mqueue" | "console" | "ptmx" | ".lxc" | ".lxd-mounts"
        ) {
            continue;
        }
        let inside = format!("{inside}/{name}");
        if kind.is_dir() && depth < 4 {
            all.extend(below(&entry.path(), &inside, depth + 1));
        } else if kind.is_char_device() || kind.is_block_device() {
            all.extend(host_device(&entry.path(), &inside));
        }
    }
    all
}
