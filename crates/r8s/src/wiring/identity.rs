//! Who the components are: upstream's users, which upstream's default roles are bound to.

use apiserver::{ApiServer, User};

/// A client in this process, known to the API as `user`. `agent` is its User-Agent and so its field manager.
pub fn client(api: &ApiServer, user: User, agent: &str) -> kube::Client {
    client::transport::in_process(api.service(user), agent)
}

pub fn controller_manager() -> User {
    User::new("system:kube-controller-manager", &[])
}

pub fn scheduler() -> User {
    User::new("system:kube-scheduler", &[])
}

pub fn proxy() -> User {
    User::new("system:kube-proxy", &[])
}

pub fn kubelet(node: &str) -> User {
    User::new(format!("system:node:{node}"), &["system:nodes"])
}

/// The cluster's own administrator, for what kubeadm would do with `kubectl apply`.
pub fn admin() -> User {
    User::new("system:admin", &["system:masters"])
}

/// A service account of kube-system.
pub fn service_account(name: &str) -> User {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    User::new(format!("system:serviceaccount:kube-system:{name}"), &groups)
}
