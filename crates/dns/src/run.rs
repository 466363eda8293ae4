//! Watches, listens, announces.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::Informers;
use client::Source;
use client::backoff::Backoff;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::forward::{Forwarder, StubDomain, Upstreams};
use crate::serve::{Server, Sockets, serve};
use crate::service::{announce, ensure_service};
use crate::stats::Stats;
use crate::zone::Zone;

#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// Addresses of this node to listen on: those of the pod bridge, so that pods of every node reach it and the
    /// world does not. They must exist.
    pub listen: Vec<IpAddr>,
    /// 53; when it is taken, any free port (the Service leads there all the same).
    pub port: u16,
    /// The pods' addresses: `(network, prefix length)`. Only they and the node itself are answered; any other
    /// question is refused.
    pub clients: Vec<(IpAddr, u8)>,
    /// The addresses of the `kube-dns` Service, which pods have as their nameserver.
    pub cluster_ips: Vec<IpAddr>,
    pub upstreams: Upstreams,
    pub stub_domains: Vec<StubDomain>,
    pub stats: Arc<Stats>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for DNS on {address}: {source}")]
    Listen { address: IpAddr, source: std::io::Error },
}

/// Serves until `shutdown`. `ready` is told when names resolve and the `kube-dns` Service leads here.
pub async fn run(
    config: Config,
    client: kube::Client,
    ready: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Config { node_name, domain, listen, port, clients, cluster_ips, upstreams, stub_domains, stats } =
        config;
    let mut sockets = Vec::new();
    let mut at = Vec::new();
    for address in &listen {
        let listening = async {
            let bound = Sockets::bind(*address, port).await?;
            Ok((bound.port()?, bound))
        };
        let (port, bound) = listening.await.map_err(|source| Error::Listen { address: *address, source })?;
        at.push((*address, port));
        sockets.push(bound);
    }

    let informers = Informers::new(client.clone(), shutdown.clone());
    let services = informers.of::<Service>();
    let slices = informers.of::<EndpointSlice>();
    let namespaces = informers.watch::<Namespace>(Source::of::<Namespace>().metadata_only());
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        _ = async { tokio::join!(services.synced(), slices.synced(), namespaces.synced()) } => {}
    }

    let zone = Zone::new(&domain, services, slices, namespaces, cluster_ips.clone());
    let own = [listen, cluster_ips.clone()].concat();
    let forwarder = Forwarder::new(upstreams, stub_domains, own, stats.clone());
    let server = Arc::new(Server::new(zone, forwarder, Clients::new(clients), stats));
    let mut serving = JoinSet::new();
    for sockets in sockets {
        serving.spawn(serve(server.clone(), sockets, shutdown.clone()));
    }

    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(30), 0.2);
    let announcing = async {
        loop {
            let done = async {
                ensure_service(&client, &cluster_ips).await?;
                announce(&client, &node_name, &at).await
            };
            let Err(error) = done.await else { return };
            // Early on, the namespace may not be there yet.
            if backoff.failures() > 5 {
                tracing::warn!(%error, "cannot announce the DNS server");
            }
            tokio::time::sleep(backoff.wait()).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = announcing => {
            // Nobody may be waiting any more.
            let _ = ready.send(());
            shutdown.cancelled().await;
        }
    }
    while serving.join_next().await.is_some() {}
    Ok(())
}
