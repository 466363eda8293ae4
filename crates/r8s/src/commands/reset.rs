//! `r8s reset`: ends all pods of this host and takes away their network and rules. With `--data`, all files too.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use podnet::Network;
use runtime::Runtime;
use runtime::cri::{RuntimeService, v1};
use rustix::mount::UnmountFlags;

use crate::host;
use crate::instance::Instance;
use crate::paths::Paths;

#[derive(clap::Args)]
pub struct Args {
    /// Directory of the cluster [default: /]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Also remove the cluster's data, images, certificates and logs
    #[arg(long)]
    data: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let Args { root, data, yes } = args;
    host::require_root()?;
    let paths = Paths::new(root);
    let _instance = Instance::acquire(&paths)?;
    if !yes && !confirmed(&paths, data)? {
        return Ok(ExitCode::FAILURE);
    }
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pods = executor.block_on(end_pods(&paths))?;
    unmount_below(&[paths.lib(), paths.run()])?;
    // Also on a host that never had a pod: nothing there is success.
    proxy::remove().context("cannot remove the Services' packet rules")?;
    println!("ended {pods} pods and removed their network");
    if data {
        for dir in [paths.lib(), paths.etc(), paths.pod_logs()] {
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", dir.display()));
                }
                _ => println!("removed {}", dir.display()),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn confirmed(paths: &Paths, data: bool) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("this ends all pods of the cluster in {}\nhint: say --yes", paths.root().display());
    }
    let what = if data { "End all pods and remove all data" } else { "End all pods" };
    print!("{what} of the cluster in {}? [y/N] ", paths.root().display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Takes away what is mounted below these folders (volumes, namespaces, container roots), the deepest first.
fn unmount_below(folders: &[PathBuf]) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut ours: Vec<&str> =
        points.filter(|point| folders.iter().any(|folder| Path::new(point).starts_with(folder))).collect();
    ours.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in ours {
        rustix::mount::unmount(point, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {point}"))?;
    }
    Ok(())
}

/// Ends and removes every sandbox; how many there were.
async fn end_pods(paths: &Paths) -> Result<usize> {
    let network = Network::new(podnet::Config {
        state_dir: paths.run().join("podnet"),
        bridge: crate::wiring::node::BRIDGE.to_owned(),
        mtu: None,
        cluster_cidrs: Vec::new(),
        overlay: podnet::Overlay::None,
    })
    .context("the pod network")?;
    let mut settings = runtime::Config::new(paths.runtime(), paths.run().join("runtime"))?;
    settings.network = Some(std::sync::Arc::new(network.clone()));
    let runtime = Runtime::open(settings).await.context("the container runtime")?;
    let all = runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await?.items;
    for sandbox in &all {
        let stop = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
        runtime
            .stop_pod_sandbox(stop)
            .await
            .with_context(|| format!("cannot stop the pod {}", sandbox.id))?;
        runtime
            .remove_pod_sandbox(remove)
            .await
            .with_context(|| format!("cannot remove the pod {}", sandbox.id))?;
    }
    network.remove().context("cannot remove the pod network")?;
    Ok(all.len())
}
