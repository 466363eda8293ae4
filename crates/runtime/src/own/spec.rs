//! From a CRI container to an OCI runtime configuration (`config.json`). Pure: everything that must be
//! looked up on the machine comes in [`Input`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::users::User;
use crate::cri::v1::{self, MountPropagation, NamespaceMode};
use crate::image::manifest::RunConfig;

/// What a container gets when it asks for nothing, as with containerd and docker.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All there are, in the kernel's order.
pub const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// All that the configuration is made of.
#[derive(Debug)]
pub struct Input<'a> {
    pub container: &'a v1::ContainerConfig,
    pub sandbox: &'a v1::PodSandboxConfig,
    pub image: &'a RunConfig,
    pub user: &'a User,
    pub rootfs: &'a Path,
    /// `/…`
    pub cgroup: &'a str,
    /// The process whose namespaces are the pod's.
    pub holder: i32,
    /// With `NamespaceMode::TARGET`: the process whose pid namespace it joins.
    pub target: Option<i32>,
    /// Files and directories of the sandbox.
    pub sandbox_dir: &'a Path,
    pub hostname: &'a str,
    pub unified_cgroups: bool,
    /// The kernel accounts for swap.
    pub swap_is_limited: bool,
    /// On cgroup v1: each controller's name and this container's directory in it.
    pub v1_cgroups: &'a [(String, PathBuf)],
    /// Capabilities the kernel and this process have; others can't be given.
    pub known_capabilities: &'a [String],
    /// The lowest oom_score_adj that can be set; where that is forbidden, this process's own.
    pub least_oom_score: Option<i64>,
    /// For privileged containers: every device of the host.
    pub host_devices: &'a [HostDevice],
    /// For asked ones, in order of `container.devices`.
    pub devices: &'a [HostDevice],
    /// Image volumes, by index of `container.mounts`.
    pub image_mounts: &'a BTreeMap<usize, PathBuf>,
}

/// A device node on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    pub path: String,
    /// `c` or `b`.
    pub kind: char,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub access: String,
}

/// The configuration, or what is wrong with the request.
pub fn make(input: &Input<'_>) -> Result<Value, String> {
    let linux = input.container.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let resources = linux.resources.unwrap_or_default();
    let mounts = mounts(input, &security)?;
    let mut oci = json!({
        "ociVersion": "1.0.2",
        "process": process(input, &security, &resources)?,
        "root": { "path": input.rootfs, "readonly": security.readonly_rootfs },
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces(input, &security)?,
            "cgroupsPath": input.cgroup,
            "resources": limits(input, &security, &resources),
            "maskedPaths": security.masked_paths,
            "readonlyPaths": security.readonly_paths,
        },
    });
    let mut devices: Vec<&HostDevice> = input.devices.iter().collect();
    if security.privileged {
        devices.extend(input.host_devices);
    }
    oci["linux"]["devices"] = devices
        .iter()
        .map(|d| {
            json!({ "path": d.path, "type": d.kind.to_string(), "major": d.major, "minor": d.minor,
                "fileMode": d.mode, "uid": d.uid, "gid": d.gid })
        })
        .collect();
    let propagation = input.container.mounts.iter().map(v1::Mount::propagation).max_by_key(|p| *p as i32);
    match propagation {
        Some(MountPropagation::PropagationBidirectional) => {
            oci["linux"]["rootfsPropagation"] = json!("shared")
        }
        Some(MountPropagation::PropagationHostToContainer) => {
            oci["linux"]["rootfsPropagation"] = json!("slave")
        }
        _ => {}
    }
    if !security.privileged {
        let profile = security.apparmor.as_ref();
        if let Some(profile) =
            profile.filter(|p| p.profile_type() == v1::security_profile::ProfileType::Localhost)
        {
            oci["process"]["apparmorProfile"] = json!(profile.localhost_ref.trim_start_matches("localhost/"));
        }
    }
    Ok(oci)
}

fn process(
    input: &Input<'_>,
    security: &v1::LinuxContainerSecurityContext,
    resources: &v1::LinuxContainerResources,
) -> Result<Value, String> {
    let config = input.container;
    let mut args =
        if config.command.is_empty() { input.image.entrypoint.clone() } else { config.command.clone() };
    match config.args.is_empty() {
        false => args.extend(config.args.iter().cloned()),
        true if config.command.is_empty() => args.extend(input.image.cmd.iter().cloned()),
        true => {}
    }
    if args.is_empty() {
        return Err("no command specified".to_owned());
    }
    let cwd = [&config.working_dir, &input.image.working_dir].into_iter().find(|dir| !dir.is_empty());
    let cwd = cwd.map_or("/", String::as_str);
    let score = match input.least_oom_score {
        Some(least) => resources.oom_score_adj.max(least),
        None => resources.oom_score_adj,
    };
    let capabilities = capabilities(input, security)?;
    let mut process = json!({
        "terminal": config.tty,
        "user": { "uid": input.user.uid, "gid": input.user.gid, "additionalGids": input.user.groups },
        "args": args,
        "env": environment(input),
        "cwd": if cwd.starts_with('/') { cwd.to_owned() } else { format!("/{cwd}") },
        "capabilities": capabilities,
        "noNewPrivileges": security.no_new_privs,
        "oomScoreAdj": score.clamp(-1000, 1000),
    });
    if !security.no_new_privs {
        // libcontainer tells "set" and "false" apart.
        process.as_object_mut().map(|process| process.remove("noNewPrivileges"));
    }
    Ok(process)
}

fn environment(input: &Input<'_>) -> Vec<String> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match all.iter_mut().find(|(have, _)| have == name) {
        Some((_, old)) => value.clone_into(old),
        None => all.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", super::DEFAULT_PATH);
    set("HOSTNAME", input.hostname);
    if input.container.tty {
        set("TERM", "xterm");
    }
    for entry in &input.image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    for entry in &input.container.envs {
        set(&entry.key, &String::from_utf8_lossy(&entry.value));
    }
    if !all.iter().any(|(name, _)| name == "HOME") {
        all.push(("HOME".to_owned(), input.user.home.clone().unwrap_or_else(|| "/".to_owned())));
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The capability sets. `ALL` stands for all; drops go before adds when all are dropped, as CRI has it.
fn capabilities(input: &Input<'_>, security: &v1::LinuxContainerSecurityContext) -> Result<Value, String> {
    let known = |name: &String| input.known_capabilities.contains(name);
    let wanted = security.capabilities.clone().unwrap_or_default();
    let full = |name: &String| {
        let name = name.to_uppercase();
        if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let all = || ALL_CAPABILITIES.iter().map(|name| (*name).to_owned());
    let set: Vec<String> = if security.privileged {
        all().filter(known).collect()
    } else {
        let (adds, drops): (Vec<String>, Vec<String>) = (
            wanted.add_capabilities.iter().map(full).collect(),
            wanted.drop_capabilities.iter().map(full).collect(),
        );
        for name in adds.iter().chain(&drops) {
            if name != "CAP_ALL" && !ALL_CAPABILITIES.contains(&name.as_str()) {
                return Err(format!("unknown capability {name:?}"));
            }
        }
        let has = |list: &[String], name: &str| list.iter().any(|have| have == name);
        let base = |name: &String| match (has(&adds, "CAP_ALL"), has(&drops, "CAP_ALL")) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => DEFAULT_CAPABILITIES.contains(&name.as_str()),
        };
        all().filter(|name| (base(name) && !has(&drops, name)) || has(&adds, name)).filter(known).collect()
    };
    let ambient: Vec<String> =
        wanted.add_ambient_capabilities.iter().map(full).filter(|name| set.contains(name)).collect();
    Ok(
        json!({ "bounding": set, "effective": set, "permitted": set, "inheritable": ambient, "ambient": ambient }),
    )
}

fn namespaces(input: &Input<'_>, security: &v1::LinuxContainerSecurityContext) -> Result<Value, String> {
    let options = security.namespace_options.clone().unwrap_or_default();
    let of = |pid: i32, kind: &str| json!(format!("/proc/{pid}/ns/{kind}"));
    let mut all = vec![json!({ "type": "mount" })];
    if options.network() != NamespaceMode::Node {
        all.push(json!({ "type": "network", "path": of(input.holder, "net") }));
        all.push(json!({ "type": "uts", "path": of(input.holder, "uts") }));
    }
    if options.ipc() != NamespaceMode::Node {
        all.push(json!({ "type": "ipc", "path": of(input.holder, "ipc") }));
    }
    match options.pid() {
        NamespaceMode::Node => {}
        NamespaceMode::Pod => all.push(json!({ "type": "pid", "path": of(input.holder, "pid") })),
        NamespaceMode::Container => all.push(json!({ "type": "pid" })),
        NamespaceMode::Target => {
            let target =
                input.target.ok_or_else(|| format!("container {:?} is not running", options.target_id))?;
            all.push(json!({ "type": "pid", "path": of(target, "pid") }));
        }
    }
    let sandbox = input.sandbox.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let userns = sandbox.and_then(|s| s.namespace_options.as_ref()).and_then(|o| o.userns_options.as_ref());
    if userns.is_some_and(|userns| userns.mode() == NamespaceMode::Pod) {
        all.push(json!({ "type": "user", "path": of(input.holder, "user") }));
    }
    if input.unified_cgroups && !security.privileged {
        all.push(json!({ "type": "cgroup" }));
    }
    Ok(Value::Array(all))
}

fn limits(
    input: &Input<'_>,
    security: &v1::LinuxContainerSecurityContext,
    resources: &v1::LinuxContainerResources,
) -> Value {
    let mut devices = vec![json!({ "allow": security.privileged, "access": "rwm" })];
    for d in input.devices {
        devices.push(json!({ "allow": true, "type": d.kind.to_string(), "major": d.major, "minor": d.minor, "access": d.access }));
    }
    let mut all = json!({ "devices": devices });
    let mut cpu = serde_json::Map::new();
    for (key, value) in
        [("shares", resources.cpu_shares), ("quota", resources.cpu_quota), ("period", resources.cpu_period)]
    {
        if value != 0 {
            cpu.insert(key.to_owned(), json!(value));
        }
    }
    for (key, value) in [("cpus", &resources.cpuset_cpus), ("mems", &resources.cpuset_mems)] {
        if !value.is_empty() {
            cpu.insert(key.to_owned(), json!(value));
        }
    }
    if !cpu.is_empty() {
        all["cpu"] = Value::Object(cpu);
    }
    if resources.memory_limit_in_bytes != 0 {
        all["memory"] = json!({ "limit": resources.memory_limit_in_bytes });
        if resources.memory_swap_limit_in_bytes != 0 && input.swap_is_limited {
            all["memory"]["swap"] = json!(resources.memory_swap_limit_in_bytes);
        }
    }
    let huge = resources.hugepage_limits.iter().filter(|limit| limit.limit > 0);
    let huge: Vec<Value> =
        huge.map(|limit| json!({ "pageSize": limit.page_size, "limit": limit.limit })).collect();
    if !huge.is_empty() {
        all["hugepageLimits"] = json!(huge);
    }
    if !resources.unified.is_empty() && input.unified_cgroups {
        all["unified"] = json!(resources.unified);
    }
    all
}

fn mounts(input: &Input<'_>, security: &v1::LinuxContainerSecurityContext) -> Result<Vec<Value>, String> {
    let mount = |at: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": source, "options": options });
    let options = security.namespace_options.clone().unwrap_or_default();
    let asked = |at: &str| input.container.mounts.iter().any(|m| clean(&m.container_path) == at);
    let sys_mode = if security.privileged { "rw" } else { "ro" };
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys_mode]),
    ];
    // libcontainer leaves cgroup v1 mounts writable whatever is asked; binds it makes read-only as it should.
    if input.unified_cgroups {
        let options = ["nosuid", "noexec", "nodev", "relatime", sys_mode];
        all.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &options));
    } else if !input.v1_cgroups.is_empty() {
        let options = ["nosuid", "noexec", "nodev", "mode=755", "size=64k"];
        all.push(mount("/sys/fs/cgroup", "tmpfs", "tmpfs", &options));
        for (name, dir) in input.v1_cgroups {
            let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"];
            all.push(mount(&format!("/sys/fs/cgroup/{name}"), "bind", &dir.to_string_lossy(), &options));
        }
    }
    if !asked("/dev/shm") {
        let host = options.ipc() == NamespaceMode::Node;
        let shm = if host { PathBuf::from("/dev/shm") } else { input.sandbox_dir.join("shm") };
        all.push(mount("/dev/shm", "bind", &shm.to_string_lossy(), &["rbind", "nosuid", "noexec", "nodev"]));
    }
    let file_mode = if security.readonly_rootfs { "ro" } else { "rw" };
    for (at, name) in
        [("/etc/hostname", "hostname"), ("/etc/resolv.conf", "resolv.conf"), ("/etc/hosts", "hosts")]
    {
        let file = input.sandbox_dir.join(name);
        if !asked(at) {
            all.push(mount(at, "bind", &file.to_string_lossy(), &["rbind", "rprivate", file_mode]));
        }
    }
    // Outer before inner, else the order asked for.
    let mut wanted: Vec<(usize, &v1::Mount)> = input.container.mounts.iter().enumerate().collect();
    wanted.sort_by_key(|(_, m)| Path::new(&m.container_path).components().count());
    for (index, m) in wanted {
        let at = clean(&m.container_path);
        let propagation = match m.propagation() {
            MountPropagation::PropagationPrivate => "rprivate",
            MountPropagation::PropagationHostToContainer => "rslave",
            MountPropagation::PropagationBidirectional => "rshared",
        };
        let image = input.image_mounts.get(&index);
        let source = image.map_or_else(|| m.host_path.clone(), |path| path.to_string_lossy().into_owned());
        let readonly = m.readonly || image.is_some();
        if m.recursive_read_only && (!m.readonly || m.propagation() != MountPropagation::PropagationPrivate) {
            return Err(format!(
                "mount {at}: recursive read-only needs a read-only mount with private propagation"
            ));
        }
        let mode = match (m.recursive_read_only, readonly) {
            (true, _) => "rro",
            (_, true) => "ro",
            _ => "rw",
        };
        all.retain(|old| old["destination"] != at.as_str());
        let mut value = mount(&at, "bind", &source, &["rbind", propagation, mode]);
        if !m.uid_mappings.is_empty() {
            value["uidMappings"] = id_mappings(&m.uid_mappings);
            value["gidMappings"] = id_mappings(&m.gid_mappings);
        }
        all.push(value);
    }
    Ok(all)
}

fn id_mappings(mappings: &[v1::IdMapping]) -> Value {
    mappings
        .iter()
        .map(|m| json!({ "hostID": m.host_id, "containerID": m.container_id, "size": m.length }))
        .collect()
}

/// Without a trailing `/` and doubled ones.
fn clean(path: &str) -> String {
    let path: PathBuf = Path::new("/").join(path).components().collect();
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
