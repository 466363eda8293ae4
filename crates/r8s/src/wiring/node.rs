//! The node half: container runtime, pod network, kubelet; and what follows once the node has its pod addresses.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver::ApiServer;
use client::{Informers, Key, Source};
use k8s_openapi::api::core::v1::Node;
use kubelet::cri::Cri;
use podnet::{Cni, Network};
use runtime::Runtime;
use runtime::cri::{RuntimeService, v1};
use runtime::network::PodNetwork;
use tokio_util::sync::CancellationToken;

use super::identity;
use crate::config::{self, Server};
use crate::control;
use crate::credentials::Credentials;
use crate::offline::{self, StandIn};
use crate::paths::Paths;
use crate::supervise::Supervisor;

/// The link that pods of this node hang on.
pub const BRIDGE: &str = "r8s0";

/// The node's parts that others need.
pub struct NodeParts {
    /// `None`: CNI plugins connect the pods, ours or the other runtime's.
    pub network: Option<Network>,
    pub runtime: Arc<dyn Cri>,
}

/// Sees to it that the node has an address at which its pods can reach it, and that Services can be reached from it.
pub fn ensure_reachable(config: &mut Server, paths: &Paths) -> Result<()> {
    let range = config.cluster_cidr.kernel();
    let address = range.nth(range.size() - 1).filter(|_| config.node_ip.is_loopback());
    if let Some(address) = address {
        println!("the node has no address but loopback: {address} on the loopback link stands in for it");
        config.node_ip = address;
    }
    let services = config.service_cidr.kernel();
    let services = (services.is_ipv4() == config.node_ip.is_ipv4()).then_some((services, config.node_ip));
    offline::ensure(StandIn { address, services }, &paths.lent_address())
}

/// Opens the runtime (taking over what runs) and the pod network.
pub async fn open(config: &Server, paths: &Paths, shutdown: CancellationToken) -> Result<NodeParts> {
    if let Some(socket) = &config.container_runtime_endpoint {
        let remote = runtime::cri::Remote::connect(&socket.display().to_string())
            .await
            .with_context(|| format!("cannot use the container runtime at {}", socket.display()))?;
        // `r8s reset` must end the pods where they are.
        std::fs::write(paths.runtime_endpoint(), socket.display().to_string())?;
        return Ok(NodeParts { network: None, runtime: Arc::new(remote) });
    }
    let _ = std::fs::remove_file(paths.runtime_endpoint());
    let (network, port): (Option<Network>, Arc<dyn PodNetwork>) = match &config.cni {
        Some(cni) => (None, Arc::new(plugins(cni, paths))),
        None => {
            let network = own_network(config, paths)?;
            (Some(network.clone()), Arc::new(network))
        }
    };
    let mut settings = runtime::Config::new(paths.runtime(), paths.run().join("runtime"))?;
    settings.network = Some(port);
    let runtime = Runtime::open(settings).await.context("the container runtime cannot start")?;
    if let Some(network) = &network {
        reclaim(network, &runtime).await?;
    }
    let listener = control::open(&paths.control_socket())?;
    tokio::spawn(control::serve(listener, runtime.clone(), shutdown.clone()));
    serve_cri(&runtime, paths, shutdown);
    Ok(NodeParts { network, runtime: Arc::new(runtime) })
}

fn own_network(config: &Server, paths: &Paths) -> Result<Network> {
    let settings = podnet::Config {
        state_dir: paths.run().join("podnet"),
        bridge: BRIDGE.to_owned(),
        mtu: None,
        cluster_cidrs: vec![config.cluster_cidr.kernel()],
        overlay: podnet::Overlay::None,
    };
    Network::new(settings).context("the pod network cannot start")
}

/// CNI plugins as the pod network.
pub fn plugins(cni: &config::Cni, paths: &Paths) -> Cni {
    let config::Cni { conf_dir, bin_dirs } = cni.clone();
    Cni { conf_dir, bin_dirs, state_dir: paths.cni_state() }
}

/// Our runtime on its socket, for crictl and its kin.
fn serve_cri(runtime: &Runtime, paths: &Paths, shutdown: CancellationToken) {
    let (socket, runtime) = (paths.cri_socket(), Arc::new(runtime.clone()));
    tokio::spawn(async move {
        if let Err(error) = runtime::cri::serve(&socket, runtime.clone(), runtime, shutdown).await {
            tracing::error!(%error, socket = %socket.display(), "cannot serve CRI");
        }
    });
}

/// Frees what a crash left of the network of sandboxes that are gone.
async fn reclaim(network: &Network, runtime: &Runtime) -> Result<()> {
    let all = runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await?.items;
    let live = all.into_iter().map(|sandbox| sandbox.id).collect();
    let network = network.clone();
    tokio::task::spawn_blocking(move || network.reclaim(&live)).await?.context("cannot clean the pod network")
}

/// Where upstream's kubelet serves its API.
const KUBELET_PORT: u16 = 10250;

/// Asked at the start, while nothing has been done yet that would be in vain.
pub fn port_is_free(config: &Server) -> Result<()> {
    let address = (std::net::Ipv4Addr::UNSPECIFIED, KUBELET_PORT);
    std::net::TcpListener::bind(address).map(drop).with_context(|| {
        format!(
            "cannot listen on port {KUBELET_PORT} for the node {}'s own API\nhint: another kubelet runs on this host; stop it, or start this one in a network namespace of its own (ip netns)",
            config.node_name
        )
    })
}

pub fn start_kubelet(
    api: &ApiServer,
    config: &Server,
    paths: &Paths,
    credentials: &Credentials,
    runtime: Arc<dyn Cri>,
    supervisor: &mut Supervisor,
) -> Result<()> {
    let serving = credentials.kubelet_server(&config.node_name, &[config.node_ip])?;
    let server = kubelet::Server::from_pem(
        (std::net::Ipv4Addr::UNSPECIFIED, KUBELET_PORT).into(),
        &serving.certificate_pem,
        &serving.key_pem,
        credentials.authority.certificate_pem(),
    )?;
    let mut settings = kubelet::Config {
        node_ips: vec![config.node_ip],
        log_root: paths.pod_logs(),
        static_pods: Some(paths.etc().join("manifests")),
        cluster_dns: vec![config.dns_address()],
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
        cgroup_root: paths.cgroup_root(),
        server: Some(server),
        ..kubelet::Config::new(config.node_name.clone(), paths.lib().join("kubelet"))
    };
    if let Some(limits) = &config.eviction_hard {
        settings.eviction_hard = limits.clone();
    }
    let api = api.clone();
    supervisor.run("kubelet", move |ready, shutdown| {
        let client = identity::client(&api, identity::kubelet(&settings.node_name), "kubelet");
        kubelet::run(settings.clone(), client, runtime.clone(), ready, shutdown)
    });
    Ok(())
}

/// Waits until the node has been given its pod addresses, and sets the pod network up with them; from then on it
/// follows the other nodes. Answers the addresses at which pods see the host.
pub async fn connect_pods(
    api: &ApiServer,
    config: &Server,
    network: Option<&Network>,
    shutdown: &CancellationToken,
) -> Result<Vec<IpAddr>> {
    let Some(network) = network.cloned() else { return Ok(vec![config.node_ip]) };
    let key = Key::cluster(&config.node_name);
    let nodes = watch_node(api, config, shutdown);
    let ranges = |node: Option<&Node>| -> Vec<kernel::net::Cidr> {
        let spec = node.and_then(|node| node.spec.as_ref());
        let texts = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    };
    nodes.wait_for(&key, FOREVER, |node| !ranges(node).is_empty()).await;
    let ranges = ranges(nodes.get(&key).as_deref());
    let setting = network.clone();
    let gateways = tokio::task::spawn_blocking(move || {
        setting.set_pod_cidrs(&ranges)?;
        anyhow::Ok(setting.gateways())
    });
    let gateways = gateways.await?.context("cannot set up the pod network")?;
    // A kubelet may read its own Node only.
    let client = identity::client(api, identity::proxy(), "r8s-routes");
    tokio::spawn(podnet::nodes::run(network, config.node_name.clone(), client, shutdown.clone()));
    Ok(gateways)
}

/// Waits until the node says that it is ready.
pub async fn ready(api: &ApiServer, config: &Server, shutdown: &CancellationToken) {
    let nodes = watch_node(api, config, shutdown);
    let is_ready = |node: Option<&Node>| {
        let status = node.and_then(|node| node.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    nodes.wait_for(&Key::cluster(&config.node_name), FOREVER, is_ready).await;
}

const FOREVER: std::time::Duration = std::time::Duration::from_secs(u32::MAX as u64);

fn watch_node(api: &ApiServer, config: &Server, shutdown: &CancellationToken) -> client::Store<Node> {
    let client = identity::client(api, identity::kubelet(&config.node_name), "r8s-node");
    let informers = Informers::new(client, shutdown.child_token());
    informers.watch(Source::of::<Node>().fields(format!("metadata.name={}", config.node_name)))
}
