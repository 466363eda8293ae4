//! Between pods and CRI messages: what to ask of the runtime, and what its answers mean.

mod container;
mod observe;
mod sandbox;
mod security;

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use runtime::cri::{ImageService, RuntimeService};

pub use container::{ContainerInputs, container_config, linux_resources, preferred_image_name, stop_signal};
pub use observe::{container_status, exit_annotations, observe, pod_of_labels};
pub use sandbox::{namespaces, sandbox_config};
pub use security::verify_non_root;

use crate::dns::NodeDns;
use crate::pod::PodExt;
use crate::quantity::ResourceList;

/// A whole CRI runtime: both services in one.
pub trait Cri: RuntimeService + ImageService {}
impl<T: RuntimeService + ImageService + ?Sized> Cri for T {}

pub const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
pub const LABEL_CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub(crate) const HASH: &str = "io.kubernetes.container.hash";
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub(crate) const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
pub(crate) const PORTS: &str = "io.kubernetes.container.ports";
pub(crate) const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
pub(crate) const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// What of the node goes into a pod's configuration.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    pub name: String,
    /// The node's addresses, primary first.
    pub ips: Vec<String>,
    pub dns: NodeDns,
    pub memory: i64,
    pub allocatable: ResourceList,
    /// Where pods' directories are: `ROOT/pods/UID`.
    pub root: PathBuf,
    /// `/var/log/pods`.
    pub log_root: PathBuf,
    /// The cgroup above `kubepods`; empty for the hierarchy's root.
    pub cgroup_root: String,
    pub systemd_cgroups: bool,
}

impl NodeFacts {
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// `LOG_ROOT/NAMESPACE_NAME_UID`.
    pub fn pod_logs(&self, pod: &Pod) -> PathBuf {
        self.log_root.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
    }

    /// The pod's cgroup as CRI names it: a path, or with systemd a slice.
    pub fn pod_cgroup(&self, pod: &Pod) -> String {
        let class = match crate::qos::of_pod(pod) {
            crate::qos::Qos::Guaranteed => None,
            crate::qos::Qos::Burstable => Some("burstable"),
            crate::qos::Qos::BestEffort => Some("besteffort"),
        };
        if self.systemd_cgroups {
            let class = class.map(|c| format!("-{c}")).unwrap_or_default();
            return format!("kubepods{class}-pod{}.slice", pod.uid().replace('-', "_"));
        }
        let class = class.map(|c| format!("/{c}")).unwrap_or_default();
        format!("{}/kubepods{class}/pod{}", self.cgroup_root.trim_end_matches('/'), pod.uid())
    }
}

/// Labels by which the pod's things are found again.
pub fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_POD_NAME.to_owned(), pod.name().to_owned()),
        (LABEL_POD_NAMESPACE.to_owned(), pod.namespace().to_owned()),
        (LABEL_POD_UID.to_owned(), pod.uid().to_owned()),
    ])
}
