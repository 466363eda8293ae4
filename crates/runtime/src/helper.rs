//! The short-lived helper process that creates containers and puts processes into them, by libcontainer.
//!
//! libcontainer forks without exec and so must never be called where there are threads. The pod's shim runs
//! the r8s binary again with `runtime-create …`; the container's init becomes the shim's own child. The
//! outcome goes to descriptor 3: `pid N`, or the error's text.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::Spec;

/// Runs the helper with its arguments (what follows `runtime-create`) and answers its exit status. Call it
/// before anything has started a thread.
pub fn helper_main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let args: Vec<String> = args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["create", root, id, bundle, console] => create(Path::new(root), id, Path::new(bundle), console),
        ["exec", root, id, process, console] => exec(Path::new(root), id, Path::new(process), console),
        _ => Err("usage: runtime-create create|exec ROOT ID BUNDLE|PROCESS CONSOLE".to_owned()),
    };
    let (text, status) = match outcome {
        Ok(pid) => (format!("pid {pid}"), 0),
        Err(error) => (error, 1),
    };
    // By path, because a number alone can't be made a file safely.
    let report = std::fs::File::options().write(true).open("/proc/self/fd/3");
    match report.and_then(|mut report| report.write_all(text.as_bytes())) {
        Ok(()) => status,
        Err(_) => 2,
    }
}

fn builder(root: &Path, id: &str, console: &str) -> Result<ContainerBuilder, String> {
    let console = (!console.is_empty()).then(|| PathBuf::from(console));
    ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_executor(Workload)
        .with_root_path(root)
        .map(|builder| builder.with_console_socket(console))
        .map_err(|error| explain(&error))
}

/// Creates and starts the container of `bundle`.
fn create(root: &Path, id: &str, bundle: &Path, console: &str) -> Result<i32, String> {
    let spec = Spec::load(bundle.join("config.json")).map_err(|error| explain(&error))?;
    own_stdio(&spec);
    let mut container = builder(root, id, console)?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| explain(&error))?;
    let pid = container.pid().ok_or("the container has no process")?;
    container.start().map_err(|error| explain(&error))?;
    Ok(pid.as_raw())
}

/// Runs one more process, described in the file `process`, in a running container.
fn exec(root: &Path, id: &str, process: &Path, console: &str) -> Result<i32, String> {
    // What libcontainer knows of the container must be fresh.
    Container::load(root.join(id)).map_err(|error| explain(&error))?;
    let pid = builder(root, id, console)?
        .as_tenant()
        .with_process(Some(process))
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| explain(&error))?;
    Ok(pid.as_raw())
}

/// The process may open `/dev/stdout` and its like by path, so the pipes behind must be its own.
fn own_stdio(spec: &Spec) {
    let Some(process) = spec.process() else { return };
    let (uid, gid) = (process.user().uid(), process.user().gid());
    if uid == 0 {
        return;
    }
    for fd in 0..3 {
        let path = format!("/proc/self/fd/{fd}");
        let is_pipe = std::fs::metadata(&path)
            .is_ok_and(|meta| std::os::unix::fs::FileTypeExt::is_fifo(&meta.file_type()));
        if is_pipe {
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
struct Workload;

impl Executor for Workload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find_command(spec).map(drop).map_err(ExecutorValidationError::ArgValidationError)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (path, args) = find_command(spec).map_err(ExecutorError::Other)?;
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
    let name = args.first().filter(|name| !name.is_empty()).ok_or("no command specified")?.clone();
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(&name)]
    } else {
        let env = process.env().iter().flatten().find_map(|entry| entry.strip_prefix("PATH="));
        env.unwrap_or(crate::own::DEFAULT_PATH).split(':').map(|dir| Path::new(dir).join(&name)).collect()
    };
    let mut denied = None;
    for path in candidates {
        match rustix::fs::accessat(
            rustix::fs::CWD,
            &path,
            rustix::fs::Access::EXEC_OK,
            rustix::fs::AtFlags::EACCESS,
        ) {
            Ok(()) if path.is_dir() => denied = Some("is a directory"),
            Ok(()) => return Ok((path, args)),
            Err(rustix::io::Errno::ACCESS) => denied = Some("permission denied"),
            Err(_) => {}
        }
    }
    Err(match (denied, name.contains('/')) {
        (Some(why), _) => format!("exec: \"{name}\": {why}"),
        (None, true) => format!("exec: \"{name}\": stat {name}: no such file or directory"),
        (None, false) => format!("exec: \"{name}\": executable file not found in $PATH"),
    })
}
