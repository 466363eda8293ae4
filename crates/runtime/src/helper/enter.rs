//! A process put into a running container: exec.
//!
//! Done here and not by libcontainer, which does not join the container's user namespace and takes two forks
//! more. The order of the steps is the point; each says why it stands where it stands.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use kernel::cgroup::Hierarchy;
use kernel::fork::{Alone, Side, close_on_exec_from};
use rustix::process::DumpableBehavior;
use rustix::pty::OpenptFlags;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, ThreadNameSpaceType, Uid};
use serde::{Deserialize, Serialize};

use super::command;
use crate::confine::Confinement;

/// What the agent writes for the helper: an OCI process, and where to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    pub process: Process,
    /// A process of the container.
    pub pid: i32,
    /// The container's id, which its cgroup's name has.
    pub container: String,
    pub cgroup: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: PathBuf,
    #[serde(default)]
    pub terminal: bool,
    pub user: User,
    pub capabilities: Capabilities,
    #[serde(default)]
    pub no_new_privileges: bool,
    pub oom_score_adj: Option<i32>,
    pub apparmor_profile: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Capabilities {
    bounding: Vec<String>,
    #[serde(default)]
    inheritable: Vec<String>,
    #[serde(default)]
    ambient: Vec<String>,
}

fn because<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// Starts the process described in `file`; answers its pid once its command has been executed.
pub fn enter(file: &Path, console: &str) -> Result<i32, String> {
    let text = std::fs::read(file).map_err(because("read the process"))?;
    let entry: Entry = serde_json::from_slice(&text).map_err(because("read the process"))?;
    let confinement = Confinement::load(file.parent().unwrap_or(Path::new("/")))?;
    // From here on nobody in the container may look into this process or through its /proc entries.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(because("hide the helper"))?;
    let pid = rustix::process::Pid::from_raw(entry.pid).ok_or("the container has no process")?;
    let container = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(because("the container has ended"))?;
    // The pid could be another's by now; but then it is not in this container's cgroup.
    let member = std::fs::read_to_string(format!("/proc/{}/cgroup", entry.pid)).unwrap_or_default();
    if !member.contains(&entry.container) {
        return Err("the container has ended".to_owned());
    }
    let console = match entry.process.terminal {
        // By a path of the host, so before the mount namespace is joined.
        true => Some(crate::shim::connect_to(Path::new(console)).map_err(because("connect the console"))?),
        false => None,
    };
    super::own_stdio(entry.process.user.uid, entry.process.user.gid);
    if let Some(score) = entry.process.oom_score_adj {
        let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
    }
    // Before the cgroup namespace is joined, whose root the cgroup is.
    let hierarchy = Hierarchy::detect().map_err(because("cgroups"))?;
    hierarchy.cgroup(&entry.cgroup).add(std::process::id()).map_err(|error| crate::image::chain(&error))?;
    let (mut failure, say_failure) = std::io::pipe().map_err(because("pipe"))?;
    let flags = foreign_namespaces(entry.pid)?;
    let alone = Alone::check().map_err(because("fork"))?;
    if !flags.is_empty() {
        rustix::thread::move_into_thread_name_spaces(container.as_fd(), flags)
            .map_err(because("join namespaces"))?;
    }
    match alone.fork_sibling().map_err(because("fork"))? {
        Side::Parent(pid) => {
            drop(say_failure);
            let mut text = String::new();
            failure.read_to_string(&mut text).map_err(because("wait for the command"))?;
            if text.is_empty() { Ok(pid) } else { Err(text) }
        }
        Side::Child => {
            let Err(text) = become_command(&entry.process, console, confinement.as_ref());
            let _ = (&say_failure).write_all(text.as_bytes());
            std::process::exit(255)
        }
    }
}

/// The namespaces that are not this process's own.
fn foreign_namespaces(pid: i32) -> Result<ThreadNameSpaceType, String> {
    let mut flags = ThreadNameSpaceType::empty();
    for (name, flag) in [
        ("user", ThreadNameSpaceType::USER),
        ("mnt", ThreadNameSpaceType::MOUNT),
        ("pid", ThreadNameSpaceType::PROCESS_ID),
        ("net", ThreadNameSpaceType::NETWORK),
        ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
    ] {
        let link = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}"));
        if link("self").ok() != Some(link(&pid.to_string()).map_err(because("the container has ended"))?) {
            flags |= flag;
        }
    }
    Ok(flags)
}

/// The rest happens inside; returns only on failure.
fn become_command(
    process: &Process,
    console: Option<UnixStream>,
    confinement: Option<&Confinement>,
) -> Result<std::convert::Infallible, String> {
    rustix::process::setsid().map_err(because("new session"))?;
    if let Some(console) = console {
        open_terminal(&console, process.user.uid)?;
    }
    // As root first, who may go where the user may not; else as the user.
    let entered = std::env::set_current_dir(&process.cwd);
    let path = command::find(&process.args, &process.env)?;
    if let Some(profile) = &process.apparmor_profile {
        let file = ["/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"]
            .into_iter()
            .find(|p| Path::new(p).exists());
        std::fs::write(file.unwrap_or("/proc/self/attr/exec"), format!("exec {profile}"))
            .map_err(because("AppArmor"))?;
    }
    close_on_exec_from(3).map_err(because("descriptors"))?;
    become_user(process, confinement)?;
    if entered.is_err() {
        std::env::set_current_dir(&process.cwd).map_err(because("working directory"))?;
    }
    if let Some(confinement) = confinement.filter(|_| process.no_new_privileges) {
        confinement.load_filter()?;
    }
    let env = process.env.iter().filter_map(|entry| entry.split_once('='));
    let mut command = std::process::Command::new(&path);
    let error = command.arg0(&process.args[0]).args(&process.args[1..]).env_clear().envs(env).exec();
    Err(format!("exec {}: {error}", path.display()))
}

/// User, groups, capabilities; and between, while it still may, the seccomp filter.
fn become_user(process: &Process, confinement: Option<&Confinement>) -> Result<(), String> {
    let failed = |error: rustix::io::Errno| format!("become the user: {error}");
    let named = |names: &[String]| CapabilitySet::from_bits_retain(command::capability_mask(names));
    let wanted = match confinement.and_then(|confinement| confinement.capabilities) {
        Some(mask) => CapabilitySet::from_bits_retain(mask),
        None => named(&process.capabilities.bounding),
    };
    let have = rustix::thread::capabilities(None).map_err(failed)?.permitted;
    for one in (have - wanted).iter() {
        rustix::thread::remove_capability_from_bounding_set(one).map_err(failed)?;
    }
    rustix::thread::set_keep_capabilities(true).map_err(failed)?;
    let groups: Vec<Gid> = process.user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(process.user.uid), Gid::from_raw(process.user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)?;
    rustix::thread::set_keep_capabilities(false).map_err(failed)?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(failed)?;
    } else if let Some(confinement) = confinement {
        // The change of user has taken the effective ones.
        let inheritable = CapabilitySet::empty();
        let all = CapabilitySets { effective: have, permitted: have, inheritable };
        rustix::thread::set_capabilities(None, all).map_err(failed)?;
        confinement.load_filter()?;
    }
    let inheritable = named(&process.capabilities.inheritable) & wanted;
    let permitted = have & wanted;
    let sets = CapabilitySets { effective: permitted, permitted, inheritable };
    rustix::thread::set_capabilities(None, sets).map_err(failed)?;
    for one in (named(&process.capabilities.ambient) & inheritable & permitted).iter() {
        rustix::thread::configure_capability_in_ambient_set(one, true).map_err(failed)?;
    }
    Ok(())
}

/// A terminal of the container's own devpts, its master sent to who holds the console.
fn open_terminal(console: &UnixStream, uid: u32) -> Result<(), String> {
    let failed = because::<rustix::io::Errno>;
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).map_err(failed("open a terminal"))?;
    rustix::pty::unlockpt(&master).map_err(failed("unlock the terminal"))?;
    let slave: OwnedFd = rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)
        .map_err(failed("open the terminal's other side"))?;
    rustix::process::ioctl_tiocsctty(&slave).map_err(failed("make the terminal controlling"))?;
    rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None)
        .map_err(failed("own the terminal"))?;
    rustix::stdio::dup2_stdin(&slave).map_err(failed("terminal"))?;
    rustix::stdio::dup2_stdout(&slave).map_err(failed("terminal"))?;
    rustix::stdio::dup2_stderr(&slave).map_err(failed("terminal"))?;
    let fds = [master.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
    let bytes = [std::io::IoSlice::new(b"tty")];
    rustix::net::sendmsg(console, &bytes, &mut control, rustix::net::SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(failed("hand over the terminal"))
}
