//! `r8s reset`: ends all pods of this host and takes away their network and rules. With `--data`, all files too.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kernel::cgroup::Hierarchy;
use podnet::Network;
use runtime::Runtime;
use runtime::cri::{RuntimeService, v1};
use rustix::mount::UnmountFlags;

use crate::host::{self, NetworkOwner};
use crate::instance::Instance;
use crate::offline::{self, StandIn};
use crate::paths::Paths;
use crate::{config, wiring};

/// A cgroup is busy for a moment after its last process has ended.
const REMOVE_WAIT: Duration = Duration::from_millis(20);
const REMOVE_TRIES: u32 = 100;

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
    if !paths.lib().exists() && !paths.run().exists() && !(data && paths.etc().exists()) {
        println!("there is no cluster in {}", paths.root().display());
        return Ok(ExitCode::SUCCESS);
    }
    let _instance = Instance::acquire(&paths)?;
    if !yes && !confirmed(&paths, data)? {
        return Ok(ExitCode::FAILURE);
    }
    let network = NetworkOwner::try_acquire()?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pods = executor.block_on(end_pods(&paths, network.is_ok()))?;
    remove_cgroups(&paths)?;
    unmount_below(&[paths.lib(), paths.run()])?;
    match network {
        // Also on a host that never had a pod: nothing there is success.
        Ok(_owner) => {
            proxy::remove().context("cannot remove the Services' packet rules")?;
            offline::ensure(StandIn::default(), &paths.lent_address())?;
        }
        Err(pid) => {
            println!("process {pid} runs another cluster on this host's network: bridge and rules stay")
        }
    }
    println!("ended {pods} pods and removed their network");
    if data {
        for dir in [paths.lib(), paths.etc(), paths.pod_logs(), paths.run()] {
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

/// Ends what still runs in the cluster's cgroups and removes them, in every hierarchy. The host's own cluster has the
/// usual `kubepods`, which another kubelet may use too: there only what is empty goes.
fn remove_cgroups(paths: &Paths) -> Result<()> {
    let Ok(hierarchy) = Hierarchy::detect() else { return Ok(()) };
    let own = paths.cgroup_root();
    let group = hierarchy.cgroup(if own.is_empty() { "kubepods" } else { &own });
    for _ in 0..REMOVE_TRIES {
        if own.is_empty() && !group.processes().is_empty() {
            return Ok(());
        }
        group.kill();
        if group.remove().is_ok() {
            return Ok(());
        }
        std::thread::sleep(REMOVE_WAIT);
    }
    group.remove().context("cannot remove the pods' cgroups")
}

/// Ends and removes every sandbox; how many there were. The network goes too where it is ours.
async fn end_pods(paths: &Paths, network_is_ours: bool) -> Result<usize> {
    let network = Network::new(podnet::Config {
        state_dir: paths.run().join("podnet"),
        bridge: wiring::node::BRIDGE.to_owned(),
        mtu: None,
        cluster_cidrs: Vec::new(),
        overlay: podnet::Overlay::None,
    })
    .context("the pod network")?;
    let runtime = open_runtime(paths, &network).await?;
    let mut all = runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await?.items;
    // Another runtime may have pods of others.
    let pods = paths.lib().join("kubelet/pods");
    let remote = paths.runtime_endpoint().exists();
    all.retain(|sandbox| {
        let uid = sandbox.labels.get("io.kubernetes.pod.uid");
        !remote || uid.is_some_and(|uid| pods.join(uid).is_dir())
    });
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
    if network_is_ours {
        network.remove().context("cannot remove the pod network")?;
    }
    Ok(all.len())
}

/// The runtime that the cluster was run with.
async fn open_runtime(paths: &Paths, network: &Network) -> Result<Arc<dyn RuntimeService>> {
    if let Ok(endpoint) = std::fs::read_to_string(paths.runtime_endpoint()) {
        let remote = runtime::cri::Remote::connect(endpoint.trim()).await;
        let hint = "hint: start that runtime, so that its pods can be ended";
        return Ok(Arc::new(remote.with_context(|| hint.to_owned())?));
    }
    let mut settings = runtime::Config::new(paths.runtime(), paths.run().join("runtime"))?;
    settings.network = Some(if paths.cni_state().exists() {
        // Each pod is disconnected by the configuration that connected it, which is kept.
        let cni = config::Cni { conf_dir: PathBuf::new(), bin_dirs: config::bin_dirs(None) };
        Arc::new(wiring::node::plugins(&cni, paths))
    } else {
        Arc::new(network.clone())
    });
    Ok(Arc::new(Runtime::open(settings).await.context("the container runtime")?))
}
