//! Security contexts: the container's over the pod's.

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile};
use runtime::cri::v1;
use runtime::cri::v1::security_profile::ProfileType;
use std::path::Path;

use super::namespaces;
use crate::pod::PodExt;

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn selinux(o: &SELinuxOptions) -> v1::SeLinuxOption {
    v1::SeLinuxOption {
        user: o.user.clone().unwrap_or_default(),
        role: o.role.clone().unwrap_or_default(),
        r#type: o.type_.clone().unwrap_or_default(),
        level: o.level.clone().unwrap_or_default(),
    }
}

pub(super) fn groups_policy(context: &PodSecurityContext) -> v1::SupplementalGroupsPolicy {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict,
        _ => v1::SupplementalGroupsPolicy::Merge,
    }
}

fn profile(kind: ProfileType, path: String) -> v1::SecurityProfile {
    v1::SecurityProfile { profile_type: kind as i32, localhost_ref: path }
}

fn seccomp(
    pod: Option<&SeccompProfile>,
    own: Option<&SeccompProfile>,
    root: &Path,
) -> Result<v1::SecurityProfile, String> {
    let Some(wanted) = own.or(pod) else { return Ok(profile(ProfileType::Unconfined, String::new())) };
    Ok(match wanted.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        "Localhost" => {
            let name = wanted.localhost_profile.as_deref().filter(|n| !n.is_empty());
            let name = name.ok_or("localhostProfile must be set if seccompProfile type is Localhost.")?;
            profile(ProfileType::Localhost, root.join("seccomp").join(name).to_string_lossy().into_owned())
        }
        _ => profile(ProfileType::Unconfined, String::new()),
    })
}

fn apparmor(pod: &PodSecurityContext, container: &Container) -> Option<v1::SecurityProfile> {
    let own = container.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
    let wanted = own.or(pod.app_armor_profile.as_ref())?;
    Some(match wanted.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        "Localhost" => profile(ProfileType::Localhost, wanted.localhost_profile.clone().unwrap_or_default()),
        _ => profile(ProfileType::Unconfined, String::new()),
    })
}

/// The security context of a container. `image_user`: (uid, name) the image asks for.
pub(super) fn context(
    pod: &Pod,
    container: &Container,
    image_user: (Option<i64>, &str),
    userns: Option<&v1::UserNamespace>,
    root: &Path,
) -> Result<v1::LinuxContainerSecurityContext, String> {
    let of_pod = pod.spec().security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let int = |v: Option<i64>| v.map(|value| v1::Int64Value { value });
    let user = own.run_as_user.or(of_pod.run_as_user);
    let mut groups: Vec<i64> = of_pod.fs_group.into_iter().collect();
    groups.extend(of_pod.supplemental_groups.iter().flatten());
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths =
        |list: &[&str]| if unmasked { vec![] } else { list.iter().map(|p| (*p).to_owned()).collect() };
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|c| v1::Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            ..Default::default()
        }),
        privileged: own.privileged.unwrap_or(false),
        namespace_options: Some(namespaces(pod, userns)),
        selinux_options: own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref()).map(selinux),
        run_as_user: int(user.or(image_user.0)),
        run_as_group: int(own.run_as_group.or(of_pod.run_as_group)),
        run_as_username: if user.is_none() { image_user.1.to_owned() } else { String::new() },
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups,
        supplemental_groups_policy: groups_policy(&of_pod) as i32,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(of_pod.seccomp_profile.as_ref(), own.seccomp_profile.as_ref(), root)?),
        apparmor: apparmor(&of_pod, container),
    })
}

/// `runAsNonRoot` held against the user of spec and image.
pub fn verify_non_root(
    pod: &Pod,
    container: &Container,
    image_user: (Option<i64>, &str),
) -> Result<(), String> {
    let of_pod = pod.spec().security_context.as_ref();
    let own = container.security_context.as_ref();
    let non_root = own.and_then(|s| s.run_as_non_root).or(of_pod.and_then(|s| s.run_as_non_root));
    if non_root != Some(true) {
        return Ok(());
    }
    let whose = format!("(pod: {:?}, container: {})", pod.describe(), container.name);
    match own.and_then(|s| s.run_as_user).or(of_pod.and_then(|s| s.run_as_user)) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {whose}")),
        Some(_) => return Ok(()),
        None => {}
    }
    match image_user {
        (Some(0), _) => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        (Some(_), _) => Ok(()),
        (None, "") => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        (None, name) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {whose}"
        )),
    }
}
