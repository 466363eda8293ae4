//! What a node agent is told at start.

use k8s_openapi::api::core::v1::Taint;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls;

use crate::quantity::ResourceList;

/// All settings of one node; [`Config::new`] has upstream's defaults.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// The `Hostname` address.
    pub hostname: String,
    /// Internal addresses, primary first; at most one per family.
    pub node_ips: Vec<IpAddr>,
    /// Pods' directories and the agent's own state.
    pub root: PathBuf,
    /// Container logs, `/var/log/pods`.
    pub log_root: PathBuf,
    /// Manifests of static pods; none where absent.
    pub static_pods: Option<PathBuf>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The resolver settings that pods inherit; empty for none.
    pub resolv_conf: PathBuf,
    /// Make the Node object if it is not there.
    pub register: bool,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub provider_id: Option<String>,
    pub max_pods: u32,
    /// Kept back from pods: `cpu`, `memory`, `ephemeral-storage`.
    pub reserved: ResourceList,
    /// The cgroup above `kubepods`; empty for the hierarchy's root.
    pub cgroup_root: String,
    /// Make cgroups for classes and pods. Needs root.
    pub manage_cgroups: bool,
    pub lease_duration: Duration,
    /// How often an unchanged node status is reported.
    pub status_report: Duration,
    /// How often the node looks at itself for changes of its status.
    pub status_update: Duration,
    /// The longest wait between restarts of a container that fails.
    pub max_crash_backoff: Duration,
    pub log_max_size: u64,
    pub log_max_files: u32,
    /// Use of the image file system, in percent, above which unused images go, and down to which.
    pub image_gc: (u32, u32),
    /// Signals below which pods are evicted, as `memory.available` and a quantity or percentage.
    pub eviction_hard: BTreeMap<String, String>,
    /// The node's own API; none where absent.
    pub server: Option<Server>,
}

/// Where and how the node's own API is served.
#[derive(Clone)]
pub struct Server {
    /// With port 0 a free one is taken.
    pub address: SocketAddr,
    /// The serving certificate, and the authority of client certificates (which must be optional, for bearer tokens).
    pub tls: Arc<rustls::ServerConfig>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Config {
    pub fn new(node_name: impl Into<String>, root: impl Into<PathBuf>) -> Self {
        let node_name = node_name.into();
        let root = root.into();
        // Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#hard-eviction-thresholds>
        let eviction = [
            ("memory.available", "100Mi"),
            ("nodefs.available", "10%"),
            ("nodefs.inodesFree", "5%"),
            ("imagefs.available", "15%"),
            ("imagefs.inodesFree", "5%"),
        ];
        Config {
            hostname: node_name.clone(),
            node_name,
            node_ips: vec![],
            log_root: PathBuf::from("/var/log/pods"),
            root,
            static_pods: None,
            cluster_dns: vec![],
            cluster_domain: "cluster.local".into(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            register: true,
            labels: BTreeMap::new(),
            taints: vec![],
            provider_id: None,
            max_pods: 110,
            reserved: ResourceList::new(),
            cgroup_root: String::new(),
            manage_cgroups: true,
            lease_duration: Duration::from_secs(40),
            status_report: Duration::from_secs(300),
            status_update: Duration::from_secs(60),
            max_crash_backoff: Duration::from_secs(300),
            log_max_size: 10 << 20,
            log_max_files: 5,
            image_gc: (85, 80),
            eviction_hard: eviction.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            server: None,
        }
    }
}
