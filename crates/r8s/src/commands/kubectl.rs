//! `r8s kubectl …`: the kubectl installed on this host if there is one (it has every verb), else our own; both with
//! this cluster's admin kubeconfig unless the user names another.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use kubectl::Kubectl;

use crate::paths::Paths;

#[derive(clap::Args)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// `--root DIR` before kubectl's own arguments names the cluster's directory, as for `r8s server`.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut arguments = args.arguments;
    let mut root = None;
    if arguments.len() >= 2 && arguments[0] == "--root" {
        root = Some(PathBuf::from(arguments.remove(1)));
        arguments.remove(0);
    }
    let named = std::env::var_os("KUBECONFIG").is_some() && root.is_none();
    let kubeconfig = (!named).then(|| Paths::new(root).admin_kubeconfig());
    if let Some(installed) = installed() {
        let mut command = Command::new(installed);
        command.args(arguments);
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        bail!("cannot run kubectl: {}", command.exec());
    }
    own(arguments, kubeconfig)
}

fn own(arguments: Vec<OsString>, kubeconfig: Option<PathBuf>) -> Result<ExitCode> {
    let mut line = vec![OsString::from("kubectl")];
    if let Some(kubeconfig) = kubeconfig {
        line.extend(["--kubeconfig".into(), kubeconfig.into_os_string()]);
    }
    line.extend(arguments);
    let kubectl = match Kubectl::try_parse_from(line) {
        Ok(kubectl) => kubectl,
        Err(error) => {
            let _ = error.print();
            return Ok(ExitCode::from(error.exit_code() as u8));
        }
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let outcome = runtime.block_on(kubectl.run());
    // A read of standard input may still be blocked in its thread.
    runtime.shutdown_background();
    match outcome {
        Ok(status) => Ok(ExitCode::from(status)),
        Err(error) => {
            eprintln!("{error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The first `kubectl` in PATH that is not this binary.
fn installed() -> Option<PathBuf> {
    let ourselves = std::env::current_exe().ok()?.canonicalize().ok();
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.is_file() && path.canonicalize().ok() != ourselves)
}
