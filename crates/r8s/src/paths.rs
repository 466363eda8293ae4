//! Where things lie. All of it moves with `--root DIR`, so that many clusters live side by side on one host.

use std::path::{Path, PathBuf};

/// The directories of one cluster on this host.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// `None`: the host's own `/`.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root: root.unwrap_or_else(|| PathBuf::from("/")) }
    }

    /// Configuration, certificates, kubeconfigs.
    pub fn etc(&self) -> PathBuf {
        self.root.join("etc/r8s")
    }

    pub fn pki(&self) -> PathBuf {
        self.etc().join("pki")
    }

    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.etc().join("admin.kubeconfig")
    }

    /// State: the store, images, pods.
    pub fn lib(&self) -> PathBuf {
        self.root.join("var/lib/r8s")
    }

    pub fn store(&self) -> PathBuf {
        self.lib().join("store")
    }

    /// Scheduled snapshots of the store.
    pub fn snapshots(&self) -> PathBuf {
        self.lib().join("snapshots")
    }

    /// Where a running server lets its store be read (the etcd v3 API, read-only).
    pub fn store_socket(&self) -> PathBuf {
        self.run().join("store.sock")
    }

    /// Sockets, and what need not survive a reboot.
    pub fn run(&self) -> PathBuf {
        self.root.join("run/r8s")
    }

    /// The container runtime's lasting state: images, sandboxes, containers.
    pub fn runtime(&self) -> PathBuf {
        self.lib().join("runtime")
    }

    /// Where commands on this host reach the server.
    pub fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// The cgroup that this cluster's pods are below; "" is the top, where upstream has them. Clusters with a root
    /// directory of their own have a cgroup of their own.
    pub fn cgroup_root(&self) -> String {
        if self.root == Path::new("/") {
            return String::new();
        }
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.root.hash(&mut hasher);
        format!("r8s-{:016x}", hasher.finish())
    }

    pub fn pod_logs(&self) -> PathBuf {
        self.root.join("var/log/pods")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
}
