//! The cluster's DNS server: names of Services and Pods from the API, all other names from upstream resolvers
//! (Kubernetes DNS specification 1.1.0, <https://github.com/kubernetes/dns/blob/master/docs/specification.md>).
//!
//! Entry: [`run`]. [`answer`] is the pure part: a question and a [`Zone`] in, records out. What this crate deliberately
//! does not know: how packets reach it (the `kube-dns` Service and its rules are others' business).

mod answer;
mod cache;
mod forward;
mod listen;
mod objects;
mod resolv;
mod zone;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use client::Informers;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use answer::{Answer, answer};
pub use forward::Forwarder;
pub use objects::{EndpointSlice, Service};
pub use resolv::upstreams;
pub use zone::Zone;

/// How the server runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, UDP and TCP. The addresses need not exist yet.
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// The Service address of the DNS itself: what `ns.dns.DOMAIN` resolves to.
    pub service_ip: std::net::IpAddr,
    /// Resolvers for all other names, tried in order; none: such names are refused.
    pub upstreams: Vec<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cluster DNS cannot listen on {address} ({transport}): {source}")]
    Listen { address: SocketAddr, transport: &'static str, source: std::io::Error },
    #[error("{0:?} is not a domain name")]
    Domain(String),
}

/// Serves until shutdown. `ready` is told once the zone is complete and the sockets are open.
pub async fn run(
    config: Config,
    client: kube::Client,
    ready: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Config { listen, domain, service_ip, upstreams } = config;
    let zone = Zone::new(&domain, service_ip).ok_or(Error::Domain(domain))?;
    let zone = Arc::new(RwLock::new(zone));
    let sockets = listen::open(&listen)?;
    let informers = Informers::new(client, shutdown.clone());
    let services = informers.watch::<Service>(Service::source());
    let slices = informers.watch::<EndpointSlice>(EndpointSlice::source());
    let write = |zone: &Arc<RwLock<Zone>>, change: &dyn Fn(&mut Zone)| {
        change(&mut zone.write().unwrap_or_else(PoisonError::into_inner));
    };
    let _services = {
        let zone = zone.clone();
        services.on_change(move |change| {
            write(&zone, &|zone| zone.set_service(change.key, change.new.map(|s| &**s)));
        })
    };
    let _slices = {
        let zone = zone.clone();
        slices.on_change(move |change| {
            write(&zone, &|zone| zone.set_slice(change.key, change.new.map(|s| &**s)));
        })
    };
    services.synced().await;
    slices.synced().await;
    let server = listen::Server::new(zone, Forwarder::new(upstreams));
    let _ = ready.send(());
    server.serve(sockets, shutdown).await;
    Ok(())
}
