//! The port through which a sandbox gets its network; `podnet` is behind it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use crate::cri::v1::PortMapping;

/// A pod, as far as its network is concerned. Kept by the runtime and given again, unchanged, to
/// `teardown` and `status`, also after a restart.
#[derive(Clone, Debug, Default)]
pub struct PodNetworkRequest {
    /// The sandbox's id: unique, the key for everything allocated.
    pub sandbox_id: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The pinned network namespace, e.g. `/run/r8s/sandboxes/ID/netns`. It may be gone at teardown.
    pub netns: PathBuf,
    pub port_mappings: Vec<PortMapping>,
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// What a pod got. The first address is the pod's primary one; at most one per family.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PodNetworkStatus {
    pub ips: Vec<IpAddr>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// Sets up and takes down pods' networks. Called at once for many pods; for one pod never at once.
/// Pods on the host's network never come here.
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects the pod. On failure nothing may stay behind. Called again for a pod that is set up, it
    /// answers the same addresses.
    fn setup<'a>(
        &'a self,
        pod: &'a PodNetworkRequest,
    ) -> BoxFuture<'a, Result<PodNetworkStatus, NetworkError>>;
    /// Disconnects the pod and frees its addresses. Succeeds when there is nothing (left) to take down
    /// and when the namespace is gone.
    fn teardown<'a>(&'a self, pod: &'a PodNetworkRequest) -> BoxFuture<'a, Result<(), NetworkError>>;
    /// Ready to set up pods? The text says why not, for the node's NetworkReady condition.
    fn status(&self) -> BoxFuture<'_, Result<(), NetworkError>>;
}
