//! The API server over its store.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver::{ApiServer, Config};
use store::Store;
use store::snapshot::Schedule;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Server, Snapshots};
use crate::credentials::Credentials;
use crate::paths::Paths;

/// The store: the etcd cluster if one is given, else the embedded one.
pub async fn store(config: &Server, paths: &Paths) -> Result<Arc<dyn Store>> {
    match config.etcd.clone() {
        Some(etcd) => store::etcd::connect(etcd).await.context("cannot reach the etcd cluster"),
        None => {
            let paths = paths.clone();
            tokio::task::spawn_blocking(move || open_store(&paths)).await?
        }
    }
}

const RESTORE: &str = "nothing was changed; `r8s snapshot restore` puts a snapshot in its place";

/// Opens the embedded store; blocks.
fn open_store(paths: &Paths) -> Result<Arc<dyn Store>> {
    let dir = paths.store();
    pki::files::private_dir(&dir)?;
    store::embedded::open(&dir, store::embedded::Options::default())
        .with_context(|| format!("cannot open the store in {}\nhint: {RESTORE}", dir.display()))
}

/// Lets root on this host read the store while it works: for snapshots, and for looking at it with etcdctl.
pub fn open_to_readers(paths: &Paths, store: &Arc<dyn Store>, shutdown: &CancellationToken) -> Result<()> {
    let socket = paths.store_socket();
    let _ = std::fs::remove_file(&socket);
    let listener = tokio::net::UnixListener::bind(&socket)
        .with_context(|| format!("cannot open {}", socket.display()))?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    let options = store::face::Options { read_only: true, ..Default::default() };
    tokio::spawn(store::face::serve_unix(listener, store.clone(), options, shutdown.clone()));
    Ok(())
}

/// What the store wants done now and then: snapshots if asked for, and of a cluster's history to be let go.
pub fn care(config: &Server, paths: &Paths, store: &Arc<dyn Store>, shutdown: &CancellationToken) {
    if let (Some(_), Some(every)) = (&config.etcd, config.compact_every) {
        tokio::spawn(store::etcd::compact_regularly(store.clone(), every, shutdown.clone()));
    }
    if let Some(Snapshots { every, dir, keep }) = config.snapshots.clone() {
        let schedule = Schedule { dir: dir.unwrap_or_else(|| paths.snapshots()), every, keep };
        let (store, shutdown) = (store.clone(), shutdown.clone());
        tokio::spawn(async move { store::snapshot::run(&*store, &schedule, shutdown).await });
    }
}

/// Takes the API's port, before anything else is done that could be in vain.
pub async fn listen(config: &Server) -> Result<TcpListener> {
    let address = SocketAddr::new(config.bind_address, config.secure_port);
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address} for the API\nhint: is another server running? give another address with --bind-address or another port with --secure-port"
        )
    })
}

/// The server's settings out of ours.
pub fn config(config: &Server, credentials: &Credentials) -> Result<Config> {
    let service_address = config.service_cidr.nth(1);
    let addresses: Vec<IpAddr> = vec![config.node_ip, Ipv4Addr::LOCALHOST.into(), service_address];
    let serving = credentials.api_server(&config.node_name, &addresses)?;
    let kubelet_client = credentials.client("kube-apiserver-kubelet-client", Some("system:masters"))?;
    let (proxy_certificate, proxy_key) = match &config.proxy_client {
        Some((certificate, key)) => {
            let read = |path: &std::path::Path| {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            };
            (read(certificate)?, read(key)?)
        }
        None => {
            let made = credentials.front_proxy_client()?;
            (made.certificate_pem, made.key_pem)
        }
    };
    let authority = credentials.authority.certificate_pem().to_owned();
    let mut out = Config {
        advertise_address: config.node_ip,
        secure_port: config.secure_port,
        service_cidrs: vec![config.service_cidr.to_string()],
        runtime_config: config.runtime_config.clone(),
        feature_gates: config.feature_gates.clone(),
        issuers: vec![format!("https://kubernetes.default.svc.{}", config.cluster_domain)],
        signing_key_pem: Some(credentials.service_account_key.clone()),
        client_ca_pem: Some(authority.clone()),
        serving_cert_pem: Some(serving.certificate_pem),
        serving_key_pem: Some(serving.key_pem),
        front_proxy_ca_pem: Some(credentials.front_proxy.certificate_pem().to_owned()),
        front_proxy_names: vec!["front-proxy-client".to_owned()],
        proxy_client_cert_pem: Some(proxy_certificate),
        proxy_client_key_pem: Some(proxy_key),
        aggregator_routing: config.aggregator_routing,
        serve_removed_apis: config.serve_removed_apis,
        kubelet_client_cert_pem: Some(kubelet_client.certificate_pem),
        kubelet_client_key_pem: Some(kubelet_client.key_pem),
        kubelet_ca_pem: Some(authority.clone()),
        root_ca_pem: Some(authority),
        exclusive_store: config.etcd.is_none(),
        more_metrics: Some(client::queue_metrics),
        priority_and_fairness: config.enable_priority_and_fairness,
        max_requests_inflight: config.max_requests_inflight,
        max_mutating_requests_inflight: config.max_mutating_requests_inflight,
        ..Config::default()
    };
    config.apiserver.apply(&mut out)?;
    Ok(out)
}

pub async fn start(settings: &Server, credentials: &Credentials, store: Arc<dyn Store>) -> Result<ApiServer> {
    ApiServer::start(config(settings, credentials)?, store).await.map_err(|error| {
        // Damage in what the store's index stands for is found by whoever reads it first.
        let what = match error {
            apiserver::Error::Store(store::Error::Corrupt(_)) => {
                format!("the API server cannot start\nhint: {RESTORE}")
            }
            _ => "the API server cannot start".to_owned(),
        };
        anyhow::Error::new(error).context(what)
    })
}
