//! `r8s kubectl …`: a first cut that runs the kubectl installed on this host with this cluster's admin kubeconfig.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::paths::Paths;

#[derive(clap::Args)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes kubectl; returns only if that fails. A kubeconfig that the user names (KUBECONFIG, --kubeconfig) wins.
/// `--root DIR` before kubectl's own arguments names the cluster's directory, as for `r8s server`.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut arguments = args.arguments;
    let mut root = None;
    if arguments.len() >= 2 && arguments[0] == "--root" {
        root = Some(PathBuf::from(arguments.remove(1)));
        arguments.remove(0);
    }
    let Some(kubectl) = installed() else {
        bail!(
            "kubectl is not installed on this host\nhint: install kubectl 1.35 or later; the kubeconfig is {}",
            Paths::new(root).admin_kubeconfig().display()
        );
    };
    let mut command = Command::new(kubectl);
    command.args(arguments);
    if std::env::var_os("KUBECONFIG").is_none() || root.is_some() {
        command.env("KUBECONFIG", Paths::new(root).admin_kubeconfig());
    }
    let error = command.exec();
    bail!("cannot run kubectl: {error}")
}

/// The first `kubectl` in PATH that is not this binary.
fn installed() -> Option<PathBuf> {
    let ourselves = std::env::current_exe().ok()?.canonicalize().ok();
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.is_file() && path.canonicalize().ok() != ourselves)
}
