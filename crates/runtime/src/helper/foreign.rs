//! Containers made by an OCI command-line runtime (runc, crun, …) instead of libcontainer, for RuntimeClasses
//! and as the tests' oracle. It exits once the container is created; the container's init then is the pod
//! shim's child, because the shim is the nearest subreaper.

use std::path::Path;
use std::process::{Command, Stdio};

/// Creates and starts the container of `bundle` with the runtime `program`.
pub fn create(program: &str, root: &str, id: &str, bundle: &str, console: &str) -> Result<i32, String> {
    let pid_file = Path::new(bundle).join("pid");
    let log = Path::new(bundle).join("runtime.log");
    let mut command = Command::new(program);
    command.arg("--root").arg(root).arg("--log").arg(&log).args(["create", "--bundle", bundle, "--pid-file"]);
    command.arg(&pid_file);
    if !console.is_empty() {
        // A socket's path may have 107 bytes only; runtimes go to the bundle first.
        let short = Path::new(bundle).join("tty");
        let linked = std::fs::remove_file(&short)
            .or(Ok(()))
            .and_then(|()| std::os::unix::fs::symlink(console, &short));
        linked.map_err(|error| format!("{}: {error}", short.display()))?;
        command.current_dir(bundle).args(["--console-socket", "tty"]);
    }
    // stdin, stdout and stderr are the container's.
    finish(command.arg(id).status(), &log, program)?;
    let pid = std::fs::read_to_string(&pid_file).map_err(|error| format!("{program}: pid file: {error}"))?;
    let pid = pid.trim().parse().map_err(|_| format!("{program}: pid file says {pid:?}"))?;
    let mut command = Command::new(program);
    command.arg("--root").arg(root).arg("--log").arg(&log).args(["start", id]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = finish(command.status(), &log, program) {
        let mut command = Command::new(program);
        let _ = command.arg("--root").arg(root).args(["delete", "--force", id]).stdin(Stdio::null()).status();
        return Err(error);
    }
    Ok(pid)
}

fn finish(
    status: std::io::Result<std::process::ExitStatus>,
    log: &Path,
    program: &str,
) -> Result<(), String> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            Err(text.lines().rev().find_map(message).unwrap_or_else(|| format!("{program} has failed")))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// The text of a log line: `… level=error msg="…"`.
fn message(line: &str) -> Option<String> {
    let text = match line.split_once("msg=\"") {
        Some((_, text)) => text.strip_suffix('"').unwrap_or(text).replace("\\\"", "\""),
        None => line.splitn(3, ' ').nth(2)?.to_owned(),
    };
    // As our own helper words it.
    Some(text.find("exec: \"").map_or(text.clone(), |at| text[at..].to_owned()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_error_is_found() {
        let runc = r#"time="2026-01-01T00:00:00Z" level=error msg="runc create failed: unable to start container process: exec: \"x\": executable file not found in $PATH""#;
        assert_eq!(super::message(runc).unwrap(), r#"exec: "x": executable file not found in $PATH"#);
        assert_eq!(super::message("time level plain text").unwrap(), "plain text");
    }
}
