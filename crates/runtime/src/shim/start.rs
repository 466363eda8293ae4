//! Starting a pod's shim.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncReadExt;

/// The shim program, built by the build script.
static PROGRAM: &[u8] = include_bytes!(env!("POD_SHIM"));

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("start the pod shim {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("pod shim: {0}")]
    Failed(String),
}

/// The namespaces a pod has of its own.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    pub net: bool,
    pub ipc: bool,
    pub uts: bool,
    /// One pid namespace for all containers.
    pub pid: bool,
    /// User namespace: uid and gid maps, lines of `INSIDE OUTSIDE COUNT`.
    pub user: Option<(Vec<String>, Vec<String>)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Started {
    pub shim: i32,
    /// The process whose namespaces are the pod's: the pause process, or the shim itself.
    pub holder: i32,
}

/// Writes the shim program into `run` (once per version) and answers its path.
pub fn install(run: &Path) -> Result<PathBuf, StartError> {
    let digest = crate::image::digest_of(PROGRAM);
    let path = run.join(format!("pod-shim-{}", &digest[7..19]));
    if path.exists() {
        return Ok(path);
    }
    let write = || {
        let new = path.with_extension("new");
        std::fs::write(&new, PROGRAM)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|source| StartError::Io { path: path.clone(), source })?;
    Ok(path)
}

/// Starts a shim in `dir` (which exists) with new namespaces. It detaches and outlives this process. A
/// sysctl whose name begins with `?` may be missing in this kernel.
pub async fn start(
    program: &Path,
    dir: &Path,
    hostname: &str,
    new: &Namespaces,
    sysctls: &BTreeMap<String, String>,
) -> Result<Started, StartError> {
    let failed = |source| StartError::Io { path: program.to_owned(), source };
    let mut names = Vec::new();
    for (name, wanted) in
        [("net", new.net), ("ipc", new.ipc), ("uts", new.uts), ("pid", new.pid), ("user", new.user.is_some())]
    {
        if wanted {
            names.push(name);
        }
    }
    let mut command = tokio::process::Command::new(program);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
    command.arg(format!("dir={}", dir.display())).arg(format!("hostname={hostname}"));
    command.arg(format!("new={}", names.join(",")));
    if let Some((uids, gids)) = &new.user {
        command.arg(format!("uid-map={}", uids.join(","))).arg(format!("gid-map={}", gids.join(",")));
    }
    for (name, value) in sysctls {
        command.arg(format!("sysctl={name}={value}"));
    }
    let mut child = command.spawn().map_err(failed)?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // Until the shim lets go of it.
        stdout.read_to_string(&mut said).await.map_err(failed)?;
    }
    child.wait().await.map_err(failed)?;
    let words: Vec<&str> = said.split_whitespace().collect();
    match words.as_slice() {
        ["ready", shim, pause] => {
            let number = |text: &str| text.parse::<i32>().map_err(|_| StartError::Failed(said.clone()));
            let (shim, pause) = (number(shim)?, number(pause)?);
            Ok(Started { shim, holder: if pause != 0 { pause } else { shim } })
        }
        _ => Err(StartError::Failed(said.trim().trim_start_matches("error ").to_owned())),
    }
}

/// The shims (and their pause processes) of sandboxes below `sandboxes`, wherever they come from: process and sandbox.
pub fn running_in(sandboxes: &Path) -> Vec<(rustix::process::Pid, String)> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let found = numbers.filter_map(|number| {
        let arguments = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let argument = arguments.split(|byte| *byte == 0).nth(1)?;
        let dir = Path::new(std::str::from_utf8(argument).ok()?.strip_prefix("dir=")?);
        let id = dir.strip_prefix(sandboxes).ok()?.to_str()?;
        Some((rustix::process::Pid::from_raw(number)?, id.to_owned()))
    });
    found.collect()
}
