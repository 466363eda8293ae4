//! Where things lie. All of it moves with `--root DIR`, so that many clusters live side by side on one host.

use std::path::{Path, PathBuf};

/// The directories of one cluster on this host.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// `None`: the host's own `/`. The same directory by another name (relative, through links) is the same cluster.
    pub fn new(root: Option<PathBuf>) -> Self {
        let root = root.unwrap_or_else(|| PathBuf::from("/"));
        let root = std::path::absolute(&root).unwrap_or(root);
        // What does not exist yet will be a plain directory: only what is above it can be a link.
        let real = root.ancestors().find_map(|above| {
            let rest = root.strip_prefix(above).ok()?;
            Some(above.canonicalize().ok()?.join(rest).components().collect())
        });
        Self { root: real.unwrap_or(root) }
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

    /// What CNI plugins were asked to do for which pod.
    pub fn cni_state(&self) -> PathBuf {
        self.run().join("cni")
    }

    /// Where our container runtime serves CRI.
    pub fn cri_socket(&self) -> PathBuf {
        self.run().join("cri.sock")
    }

    /// The cgroup that this cluster's pods are below; "" is the top, where upstream has them. Clusters with a root
    /// directory of their own have a cgroup of their own.
    pub fn cgroup_root(&self) -> String {
        if self.root == Path::new("/") {
            return String::new();
        }
        // FNV-1a: the same in every version of this program.
        let bytes = self.root.as_os_str().as_encoded_bytes().iter();
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("r8s-{hash:016x}")
    }

    /// Which other container runtime runs this cluster's pods; absent for the built-in one.
    pub fn runtime_endpoint(&self) -> PathBuf {
        self.run().join("runtime-endpoint")
    }

    /// The address that was lent to a host without a network.
    pub fn lent_address(&self) -> PathBuf {
        self.run().join("lent-address")
    }

    pub fn pod_logs(&self) -> PathBuf {
        self.root.join("var/log/pods")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_one_cgroup_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let group = |path: &Path| Paths::new(Some(path.to_owned())).cgroup_root();
        assert_eq!(group(&link), group(dir.path()));
        assert_eq!(group(&dir.path().join("link/..").join(dir.path())), group(dir.path()));
        let young = group(&link.join("young"));
        std::fs::create_dir(dir.path().join("young")).unwrap();
        assert_eq!(young, group(&dir.path().join("young")), "before and after it is made");
        assert_eq!(Paths::new(None).cgroup_root(), "");
    }
}
