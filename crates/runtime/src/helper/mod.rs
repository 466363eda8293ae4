//! The short-lived helper process that creates containers, by libcontainer, and puts processes into them.
//!
//! libcontainer forks without exec and so must never be called where there are threads. The pod's shim runs
//! the r8s binary again with `runtime-create …`; the container's init becomes the shim's own child. The
//! outcome goes to descriptor 3: `pid N`, or the error's text.

mod command;
mod complaints;
mod enter;
mod foreign;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use kernel::cgroup::Hierarchy;
use kernel::devices::{self, Allow, Kind};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::{LinuxDeviceType, Spec};

use crate::confine::Confinement;

pub use command::capability_mask;

/// Runs the helper with its arguments (what follows `runtime-create`) and answers its exit status. Call it
/// before anything has started a thread.
pub fn helper_main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let args: Vec<String> = args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    // By path, because a number alone can't be made a file safely; and at once, while /proc is the host's.
    let report = std::fs::File::options().write(true).open("/proc/self/fd/3");
    let complaints = complaints::catch();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["create", root, id, bundle, console] => create(Path::new(root), id, Path::new(bundle), console),
        ["create-with", runtime, root, id, bundle, console] => {
            foreign::create(runtime, root, id, bundle, console)
        }
        ["exec", _, _, process, console] => enter::enter(Path::new(process), console),
        _ => Err("usage: runtime-create create|exec ROOT ID BUNDLE|PROCESS CONSOLE".to_owned()),
    };
    let (text, status) = match outcome {
        Ok(pid) => (format!("pid {pid}"), 0),
        // A command that can't be run is explained well enough.
        Err(error) if error.starts_with("exec: ") => (error, 1),
        Err(error) => match complaints.and_then(complaints::Complaints::first) {
            Some(cause) => (format!("{error}: {cause}"), 1),
            None => (error, 1),
        },
    };
    match report.and_then(|mut report| report.write_all(text.as_bytes())) {
        Ok(()) => status,
        Err(_) => 2,
    }
}

fn builder(
    root: &Path,
    id: &str,
    console: &str,
    confinement: Option<Confinement>,
) -> Result<ContainerBuilder, String> {
    let console = (!console.is_empty()).then(|| PathBuf::from(console));
    ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_executor(Workload { confinement })
        .with_root_path(root)
        .map(|builder| builder.with_console_socket(console))
        .map_err(|error| explain(&error))
}

/// Creates and starts the container of `bundle`.
fn create(root: &Path, id: &str, bundle: &Path, console: &str) -> Result<i32, String> {
    let spec = Spec::load(bundle.join("config.json")).map_err(|error| explain(&error))?;
    if let Some(process) = spec.process() {
        own_stdio(process.user().uid(), process.user().gid());
    }
    let confinement = Confinement::load(bundle)?;
    let mut container = builder(root, id, console, confinement)?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| explain(&error))?;
    let pid = container.pid().ok_or("the container has no process")?;
    restrict_devices(&spec)?;
    container.start().map_err(|error| explain(&error))?;
    Ok(pid.as_raw())
}

/// On cgroup v2, where libcontainer needs a C library for it. On v1 it has set the devices controller.
fn restrict_devices(spec: &Spec) -> Result<(), String> {
    let hierarchy = Hierarchy::detect().map_err(|error| explain(&error))?;
    let linux = spec.linux().as_ref().ok_or("no linux section")?;
    let rules =
        linux.resources().as_ref().and_then(|resources| resources.devices().clone()).unwrap_or_default();
    let all_allowed = rules.iter().any(|rule| rule.allow() && rule.typ().is_none() && rule.major().is_none());
    if !hierarchy.is_unified() || all_allowed {
        return Ok(());
    }
    let mut allowed = devices::usual();
    for rule in rules.iter().filter(|rule| rule.allow()) {
        let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
        let access = rule.access().clone().unwrap_or_else(|| "rwm".to_owned());
        let kinds = match rule.typ() {
            Some(LinuxDeviceType::B) => vec![Kind::Block],
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => vec![Kind::Char],
            _ => vec![Kind::Char, Kind::Block],
        };
        allowed.extend(
            kinds
                .into_iter()
                .map(|kind| Allow::new(kind, number(rule.major()), number(rule.minor()), &access)),
        );
    }
    let path = linux.cgroups_path().clone().unwrap_or_default();
    let cgroup = hierarchy.cgroup(&path);
    let dir = cgroup.directory("").ok_or("no cgroup v2 tree")?;
    devices::restrict(&dir, &allowed).map_err(|error| format!("restrict devices: {error}"))
}

/// The process may open `/dev/stdout` and its like by path, so the pipes behind must be its own.
fn own_stdio(uid: u32, gid: u32) {
    if uid == 0 {
        return;
    }
    for fd in 0..3 {
        let path = format!("/proc/self/fd/{fd}");
        let is_pipe = |meta: std::fs::Metadata| std::os::unix::fs::FileTypeExt::is_fifo(&meta.file_type());
        if std::fs::metadata(&path).is_ok_and(is_pipe) {
            let _ = std::os::unix::fs::chown(&path, Some(uid), Some(gid));
        }
    }
}

/// An error with its causes; where the cause is the command itself, that alone, as runc words it.
fn explain(error: &dyn std::error::Error) -> String {
    let text = crate::image::chain(error);
    match text.find("exec: \"") {
        Some(at) => text[at..].trim_end_matches(['"', ')']).to_owned(),
        None => text,
    }
}

/// The last steps inside the container: find the command and become it.
#[derive(Clone)]
struct Workload {
    confinement: Option<Confinement>,
}

impl Executor for Workload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find_command(spec).map(drop).map_err(ExecutorValidationError::ArgValidationError)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (path, args) = find_command(spec).map_err(ExecutorError::Other)?;
        if let Some(confinement) = &self.confinement {
            confinement.apply().map_err(ExecutorError::Other)?;
        }
        // The command's environment is this process's by now.
        let error = std::process::Command::new(&path).arg0(&args[0]).args(&args[1..]).exec();
        // Too late for the creator to hear: the container's stderr and exit status tell it.
        eprintln!("exec {}: {error}", path.display());
        std::process::exit(255)
    }

    fn setup_envs(
        &self,
        envs: HashMap<String, String>,
    ) -> Result<(), libcontainer::workload::ExecutorSetEnvsError> {
        libcontainer::workload::default::DefaultExecutor {}.setup_envs(envs)
    }
}

/// The file to execute, and the arguments.
fn find_command(spec: &Spec) -> Result<(PathBuf, Vec<String>), String> {
    let process = spec.process().as_ref().ok_or("no process to run")?;
    let args = process.args().clone().unwrap_or_default();
    let env = process.env().clone().unwrap_or_default();
    Ok((command::find(&args, &env)?, args))
}
