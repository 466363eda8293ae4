//! [`Network`]: carries out what the other modules decide, one pod at a time.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use kernel::net::{Cidr, Rtnl};
use kernel::nft::{Batch, Family, Nft, Table, diff};
use runtime::network::{NetworkError, PodNetwork, PodNetworkRequest, PodNetworkStatus};

use crate::addresses::{Addresses, Entry};
use crate::peers::{Overlay, Peer, Way};
use crate::{bridge, peers, ports, rules};

#[derive(Clone, Debug)]
pub struct Config {
    /// Where allocations are kept, e.g. `/run/r8s/podnet`. May be on tmpfs, must outlive this process.
    pub state_dir: PathBuf,
    /// The bridge's name, at most 15 bytes.
    pub bridge: String,
    /// Of the bridge and the pods; none takes that of the default route's link.
    pub mtu: Option<u32>,
    /// The pod networks of the whole cluster: traffic to them keeps the pod's address.
    pub cluster_cidrs: Vec<Cidr>,
    /// How pods of nodes on other segments are reached.
    pub overlay: Overlay,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node has no pod CIDR yet.
    #[error("the node has no pod CIDR yet")]
    NotReady,
    #[error("pod address: {0}")]
    Address(#[source] io::Error),
    #[error("host port: {0}")]
    HostPort(String),
    #[error("pod network: {0}")]
    Kernel(#[from] kernel::net::Error),
    #[error("kernel setting: {0}")]
    Setting(#[source] io::Error),
}

/// The pod network of this node. Cheap to clone. All work happens in the network namespace of the process.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    config: Config,
    state: Mutex<State>,
}

struct State {
    addresses: Addresses,
    up: Option<Up>,
}

/// What exists once the pod CIDRs are known.
struct Up {
    cidrs: Vec<Cidr>,
    bridge: u32,
    mtu: u32,
    tables: Vec<Table>,
    ways: BTreeSet<Way>,
}

impl Network {
    /// Reads what an earlier process allocated. Touches no network yet: that comes with the CIDRs.
    pub fn new(config: Config) -> Result<Network, Error> {
        let addresses = Addresses::load(&config.state_dir).map_err(Error::Address)?;
        Ok(Network(Arc::new(Shared { config, state: Mutex::new(State { addresses, up: None }) })))
    }

    /// Tells the node's pod CIDRs (at most one per family): makes the bridge, the host's settings and the packet
    /// rules. Again with the same CIDRs, it repairs what is missing. Blocks for some milliseconds.
    pub fn set_pod_cidrs(&self, cidrs: &[Cidr]) -> Result<(), Error> {
        let config = &self.0.config;
        let mut state = self.state();
        let mut rtnl = Rtnl::open()?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => default_mtu(&mut rtnl)? - peers::overhead(&config.overlay),
        };
        let cidrs: Vec<Cidr> = cidrs.iter().map(Cidr::network).collect();
        let bridge = bridge::ensure_bridge(&mut rtnl, &config.bridge, mtu, &cidrs)?;
        bridge::ensure_forwarding(&config.bridge, &cidrs).map_err(Error::Setting)?;
        let tables = self.tables(&cidrs, &state.addresses);
        let mut batch = Batch::new();
        for table in &tables {
            batch.replace_table(table);
        }
        Nft::open()?.commit(batch)?;
        state.up = Some(Up { cidrs, bridge, mtu, tables, ways: BTreeSet::new() });
        self.sweep(&mut state, |entry| entry.netns.exists())
    }

    /// The bridge's addresses, once there are pod CIDRs: where pods see the host.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.state().up.iter().flat_map(|up| up.cidrs.iter().map(bridge::gateway)).collect()
    }

    /// Frees what belongs to sandboxes that do not live any more. Call it once the runtime knows its sandboxes.
    pub fn reclaim(&self, live: &BTreeSet<String>) -> Result<(), Error> {
        self.sweep(&mut self.state(), |entry| live.contains(&entry.sandbox))
    }

    /// Connects a pod; see [`PodNetwork::setup`]. Blocks for a few milliseconds.
    pub fn connect(&self, pod: &PodNetworkRequest) -> Result<Vec<IpAddr>, Error> {
        let ports = ports::host_ports(&pod.port_mappings).map_err(Error::HostPort)?;
        let (entry, cidrs, bridge, mtu) = {
            let mut state = self.state();
            let State { addresses, up } = &mut *state;
            let up = up.as_ref().ok_or(Error::NotReady)?;
            if let Some(entry) = addresses.get(&pod.sandbox_id)
                && entry.netns == pod.netns
                && Rtnl::open()?
                    .link(&bridge::veth_name(&pod.sandbox_id))?
                    .is_some_and(|l| l.master == Some(up.bridge))
            {
                return Ok(entry.ips.clone());
            }
            addresses.release(&pod.sandbox_id).map_err(Error::Address)?;
            let wanted = Entry {
                sandbox: pod.sandbox_id.clone(),
                pod: format!("{}/{}", pod.namespace, pod.name),
                netns: pod.netns.clone(),
                ips: Vec::new(),
                ports,
            };
            let entry = addresses.allocate(&up.cidrs, wanted).map_err(Error::Address)?;
            (entry, up.cidrs.clone(), up.bridge, up.mtu)
        };
        // Links are made outside the lock: the kernel serialises what it must, pods start side by side.
        let done = Rtnl::open().and_then(|mut host| {
            bridge::connect(&mut host, bridge, mtu, &entry.sandbox, &entry.netns, &cidrs, &entry.ips)
        });
        let done = done
            .map_err(Error::from)
            .and_then(|()| if entry.ports.is_empty() { Ok(()) } else { self.sync_rules(&mut self.state()) });
        if let Err(error) = done {
            if let Err(undo) = self.disconnect(&pod.sandbox_id) {
                tracing::warn!(sandbox = %pod.sandbox_id, error = %undo, "undoing a failed pod network");
            }
            return Err(error);
        }
        Ok(entry.ips)
    }

    /// Disconnects a sandbox and frees its addresses; one that has nothing is fine.
    pub fn disconnect(&self, sandbox: &str) -> Result<(), Error> {
        bridge::disconnect(&mut Rtnl::open()?, sandbox)?;
        let mut state = self.state();
        let entry = state.addresses.release(sandbox).map_err(Error::Address)?;
        if entry.is_some_and(|e| !e.ports.is_empty()) {
            self.sync_rules(&mut state)?;
        }
        Ok(())
    }

    /// Whether pods can be set up; the error says why not.
    pub fn ready(&self) -> Result<(), Error> {
        if self.state().up.is_some() { Ok(()) } else { Err(Error::NotReady) }
    }

    /// Makes the pods of other nodes reachable, and those of nodes that are gone not any more.
    pub fn set_peers(&self, list: &[Peer]) -> Result<(), Error> {
        let config = &self.0.config;
        let mut state = self.state();
        let up = state.up.as_mut().ok_or(Error::NotReady)?;
        let mut rtnl = Rtnl::open()?;
        let device = peers::ensure_device(&mut rtnl, &config.overlay, &up.cidrs)?;
        let segments: Vec<Cidr> = rtnl.addresses()?.into_iter().map(|(_, cidr)| cidr).collect();
        let ways = peers::plan(list, &config.overlay, &segments);
        peers::carry_out(&mut rtnl, device, &up.cidrs, &up.ways, &ways)?;
        up.ways = ways;
        Ok(())
    }

    /// Takes the bridge and the rules away: for leaving a machine as it was found.
    pub fn remove(&self) -> Result<(), Error> {
        let mut state = self.state();
        self.sweep(&mut state, |_| false)?;
        state.up = None;
        let links = Rtnl::open()?.links()?;
        let bridge = links.iter().find(|link| link.name == self.0.config.bridge).map(|link| link.index);
        let ports =
            links.iter().filter(|link| bridge.is_some() && link.master == bridge && link.kind == "veth");
        for port in ports {
            // Of a pod whose entry got lost.
            match Rtnl::open()?.delete_link(&port.name) {
                Err(e) if !e.is_absent() => return Err(e.into()),
                _ => {}
            }
        }
        for link in [&*self.0.config.bridge, peers::DEVICE] {
            match Rtnl::open()?.delete_link(link) {
                Err(e) if !e.is_absent() => return Err(e.into()),
                _ => {}
            }
        }
        let mut batch = Batch::new();
        for family in [Family::Ip, Family::Ip6] {
            batch.add_table(family, rules::TABLE);
            batch.delete_table(family, rules::TABLE);
        }
        Ok(Nft::open()?.commit(batch)?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self, state: &mut State, alive: impl Fn(&Entry) -> bool) -> Result<(), Error> {
        let dead = state.addresses.dead(alive);
        if dead.is_empty() {
            return Ok(());
        }
        let mut rtnl = Rtnl::open()?;
        for sandbox in &dead {
            bridge::disconnect(&mut rtnl, sandbox)?;
            state.addresses.release(sandbox).map_err(Error::Address)?;
        }
        tracing::info!(sandboxes = dead.len(), "freed the addresses of sandboxes that are gone");
        self.sync_rules(state)
    }

    fn tables(&self, cidrs: &[Cidr], addresses: &Addresses) -> Vec<Table> {
        let Config { bridge, cluster_cidrs, .. } = &self.0.config;
        let families = [(Family::Ip, true), (Family::Ip6, false)];
        let wanted = families.iter().filter(|(_, v4)| cidrs.iter().any(|c| c.is_ipv4() == *v4));
        wanted.map(|(f, _)| rules::render(*f, bridge, cidrs, cluster_cidrs, addresses.entries())).collect()
    }

    fn sync_rules(&self, state: &mut State) -> Result<(), Error> {
        let Some(up) = &state.up else { return Ok(()) };
        let tables = self.tables(&up.cidrs, &state.addresses);
        let mut batch = Batch::new();
        for (old, new) in up.tables.iter().zip(&tables) {
            diff::diff(&mut batch, old, new);
        }
        let mut nft = Nft::open()?;
        if nft.commit(batch).is_err() {
            // Somebody changed the table under us: make it anew.
            let mut batch = Batch::new();
            tables.iter().for_each(|table| batch.replace_table(table));
            nft.commit(batch)?;
        }
        if let Some(up) = &mut state.up {
            up.tables = tables;
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Network) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let network = self.clone();
        match tokio::task::spawn_blocking(move || work(&network)).await {
            Ok(done) => done.map_err(|e| NetworkError(e.to_string())),
            Err(e) => Err(NetworkError(format!("pod network: {e}"))),
        }
    }
}

impl PodNetwork for Network {
    fn setup<'a>(
        &'a self,
        pod: &'a PodNetworkRequest,
    ) -> BoxFuture<'a, Result<PodNetworkStatus, NetworkError>> {
        let request = pod.clone();
        Box::pin(async move {
            let ips = self.blocking(move |network| network.connect(&request)).await?;
            Ok(PodNetworkStatus { ips })
        })
    }

    fn teardown<'a>(&'a self, pod: &'a PodNetworkRequest) -> BoxFuture<'a, Result<(), NetworkError>> {
        let sandbox = pod.sandbox_id.clone();
        Box::pin(self.blocking(move |network| network.disconnect(&sandbox)))
    }

    fn status(&self) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(std::future::ready(self.ready().map_err(|e| NetworkError(e.to_string()))))
    }
}

/// That of the link of the default route, 1500 without one.
fn default_mtu(rtnl: &mut Rtnl) -> Result<u32, kernel::net::Error> {
    let routes = rtnl.routes()?;
    let link = routes.iter().filter(|r| r.dst.len == 0).min_by_key(|r| r.metric).and_then(|r| r.dev);
    let links = rtnl.links()?;
    Ok(links.iter().find(|l| Some(l.index) == link).map_or(1500, |l| l.mtu))
}
