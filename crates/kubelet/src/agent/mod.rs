//! The agent of one node: everything that talks to the API, the runtime and the machine.

mod act;
mod admit;
mod cgroups;
mod claims;
mod config;
mod dispatch;
mod evict;
mod housekeeping;
mod images;
mod kill;
mod lease;
mod machine;
mod node_status;
mod objects;
mod observe;
mod pod_worker;
mod probes;
mod runtime_events;
mod static_pods;
mod status_writer;
mod tokens;
mod trust;

use client::events::{Recorder, Style};
use client::{Informers, Source, Store};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use runtime::cri::v1;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use config::{Config, Server};
pub use status_writer::Wanted;

use crate::cri::{Cri, NodeFacts};
use crate::dns::{NodeDns, Resolver};
use crate::pod::{Class, PodExt, SpecExt};
use dispatch::PodEntry;
use images::Images;
use objects::Objects;

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the container runtime does not answer: {0}")]
    Runtime(#[from] runtime::cri::Error),
    #[error("cannot prepare {path}: {source}")]
    Directory { path: std::path::PathBuf, source: std::io::Error },
    #[error("the node has no address to announce")]
    NoAddress,
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot register the node: {0}")]
    Register(#[source] kube::Error),
}

/// What all parts of one node's agent share.
pub(crate) struct Agent {
    pub config: Config,
    pub client: kube::Client,
    pub runtime: Arc<dyn Cri>,
    pub runtime_name: String,
    pub runtime_version: String,
    pub recorder: Recorder,
    pub facts: NodeFacts,
    pub services: Store<Service>,
    pub node: Store<Node>,
    pub objects: Objects,
    pub images: Images,
    pub cgroups: cgroups::Cgroups,
    pub pods: Mutex<HashMap<String, PodEntry>>,
    /// Of the node's own API; 0 for none.
    pub port: u16,
    pub node_wake: tokio::sync::Notify,
    pub pressure: Mutex<Pressure>,
    pub shutdown: CancellationToken,
}

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

impl Agent {
    pub fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, PodEntry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn pressure(&self) -> Pressure {
        *self.pressure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reference to a container of a pod, as Events name it.
pub(crate) fn container_reference(pod: &Pod, name: &str) -> ObjectReference {
    let mut about = client::events::reference(pod);
    let list = match pod.spec().container(name).map(|(class, _)| class) {
        Some(Class::Init) => "initContainers",
        Some(Class::Ephemeral) => "ephemeralContainers",
        _ => "containers",
    };
    about.field_path = Some(format!("spec.{list}{{{name}}}"));
    about
}

/// Runs the agent of one node until `shutdown`. Containers go on running after that; the next start adopts them.
///
/// `ready` is sent once the node is registered and its pods are being looked after.
pub async fn run(
    config: Config,
    client: kube::Client,
    runtime: Arc<dyn Cri>,
    ready: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let agent = start(config, client, runtime, shutdown.clone()).await?;
    dispatch::run(agent, ready).await;
    Ok(())
}

async fn start(
    config: Config,
    client: kube::Client,
    runtime: Arc<dyn Cri>,
    shutdown: CancellationToken,
) -> Result<Arc<Agent>, Error> {
    if config.node_ips.is_empty() {
        return Err(Error::NoAddress);
    }
    for dir in [config.root.join("pods"), config.log_root.clone()] {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Directory { path: dir.clone(), source })?;
    }
    let version = runtime.version(v1::VersionRequest { version: "v1".into() }).await?;
    let driver = runtime.runtime_config(v1::RuntimeConfigRequest {}).await.ok().and_then(|c| c.linux);
    let systemd = driver.is_some_and(|l| l.cgroup_driver == v1::CgroupDriver::Systemd as i32);

    let machine = machine::Machine::read(&config);
    let host = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
    let facts = NodeFacts {
        name: config.node_name.clone(),
        ips: config.node_ips.iter().map(ToString::to_string).collect(),
        dns: NodeDns {
            cluster_dns: config.cluster_dns.iter().map(ToString::to_string).collect(),
            cluster_domain: config.cluster_domain.clone(),
            host: Resolver::parse(&host),
        },
        memory: machine.memory,
        allocatable: machine.allocatable(&config),
        root: config.root.clone(),
        log_root: config.log_root.clone(),
        cgroup_root: config.cgroup_root.clone(),
        systemd_cgroups: systemd,
    };
    let listening = match &config.server {
        None => None,
        Some(server) => {
            let address = server.address;
            let failed = |source| Error::Listen { address, source };
            let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
            let port = listener.local_addr().map_err(failed)?.port();
            Some((listener, server.tls.clone(), port))
        }
    };
    let port = listening.as_ref().map_or(0, |(_, _, port)| *port);
    let recorder = Recorder::new(client.clone(), Style::Counted, "kubelet", &config.node_name);
    node_status::register(&config, port, &client, &machine, &version).await.map_err(Error::Register)?;

    let informers = Informers::new(client.clone(), shutdown.clone());
    let own = format!("metadata.name={}", config.node_name);
    let agent = Arc::new(Agent {
        services: informers.of::<Service>(),
        node: informers.watch::<Node>(Source::of::<Node>().fields(own)),
        objects: Objects::new(informers.clone()),
        images: Images::new(runtime.clone(), recorder.clone()),
        cgroups: cgroups::Cgroups::open(config.manage_cgroups, &facts),
        pods: Mutex::default(),
        port,
        node_wake: tokio::sync::Notify::new(),
        pressure: Mutex::default(),
        runtime_name: version.runtime_name.clone(),
        runtime_version: version.runtime_version.clone(),
        config,
        client,
        runtime,
        recorder,
        facts,
        shutdown,
    });
    if let Some((listener, tls, _)) = listening {
        tokio::spawn(crate::server::serve(agent.clone(), listener, tls));
    }
    tokio::spawn(lease::run(agent.clone()));
    tokio::spawn(node_status::run(agent.clone(), machine));
    Ok(agent)
}

impl PodEntry {
    /// Whether this entry is the pod `namespace/name`.
    pub(crate) fn is(&self, namespace: &str, name: &str) -> bool {
        self.pod().namespace() == namespace && self.pod().name() == name
    }
}
