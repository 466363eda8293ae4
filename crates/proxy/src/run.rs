//! Watches, collects changes, and carries them out in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Informers, Key, Source, Store};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kernel::net::Cidr;
use kernel::net::conntrack::Conntrack;
use kernel::nft::{Batch, Family, Nft};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::affinity::Bound;
use crate::base::TABLE;
use crate::conntrack::Flows;
use crate::endpoints::ready_here;
use crate::health::Health;
use crate::objects::{SERVICE_NAME, Service};
use crate::render::Node;
use crate::rules::Rules;

const ZONE: &str = "topology.kubernetes.io/zone";
const BY_SERVICE: &str = "service";
/// Changes that come together are carried out together; a lone change waits this long.
const GATHER: Duration = Duration::from_millis(5);
const RETRY: Duration = Duration::from_secs(1);
/// How often it is seen whether the tables are still there: firewalls that restart flush everybody's rules. (The
/// kernel could tell, but would then also tell us each of our own elements.)
const LOOK: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// Where pods live, both families.
    pub cluster_cidrs: Vec<Cidr>,
    /// Addresses of Services, both families. Their families are the ones for which rules are made.
    pub service_cidrs: Vec<Cidr>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Without nftables there are no Services.
    #[error("nftables: {0} (Services need root and a kernel with nf_tables)")]
    Nftables(#[source] kernel::net::Error),
}

/// Which Services may need other rules.
#[derive(Default)]
struct Dirty {
    keys: Mutex<BTreeSet<Key>>,
    wake: Notify,
}

impl Dirty {
    fn add(&self, key: Key) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.wake.notify_one();
    }

    fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes all rules away: for leaving a machine as it was found. Nothing there is success.
pub fn remove() -> Result<(), kernel::net::Error> {
    let mut batch = Batch::new();
    for family in [Family::Ip, Family::Ip6] {
        batch.add_table(family, crate::base::TABLE);
        batch.delete_table(family, crate::base::TABLE);
    }
    Nft::open()?.commit(batch)
}

/// Keeps the rules true until `shutdown`; `ready` is told after the first complete sync. The rules stay when it
/// ends: connections go on while r8s restarts. Works in the network namespace of the process.
pub async fn run(
    config: Config,
    client: kube::Client,
    ready: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Config { node_name, cluster_cidrs, service_cidrs } = config;
    let kernel = Kernel::open()?;
    let informers = Informers::new(client, shutdown.clone());
    let services: Store<core::Service> =
        informers.watch(Source::of::<core::Service>().labels("!service.kubernetes.io/service-proxy-name"));
    let slices: Store<EndpointSlice> = informers.watch(
        Source::of::<EndpointSlice>()
            .labels("!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"),
    );
    let nodes: Store<core::Node> = informers
        .watch(Source::of::<core::Node>().fields(format!("metadata.name={node_name}")).metadata_only());
    slices.add_index(BY_SERVICE, |slice| {
        service_of(slice).map(|key| key.as_str().to_string()).into_iter().collect()
    });

    let dirty = Arc::new(Dirty::default());
    let (on_service, on_slice, on_node) = (dirty.clone(), dirty.clone(), dirty.clone());
    let _subscriptions = (
        services.on_change(move |change| on_service.add(change.key.clone())),
        slices.on_change(move |change| {
            for slice in [change.old, change.new].into_iter().flatten() {
                if let Some(key) = service_of(slice) {
                    on_slice.add(key);
                }
            }
        }),
        nodes.on_change(move |_| on_node.wake.notify_one()),
    );
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        _ = async { tokio::join!(services.synced(), slices.synced(), nodes.synced()) } => {}
    }

    let ipv4 = service_cidrs.iter().any(Cidr::is_ipv4) || service_cidrs.is_empty();
    let ipv6 = service_cidrs.iter().any(|c| !c.is_ipv4());
    let families: Vec<Family> =
        [(ipv4, Family::Ip), (ipv6, Family::Ip6)].into_iter().filter(|(on, _)| *on).map(|(_, f)| f).collect();
    let node = Node { name: node_name.clone(), zone: None, cluster_cidrs, service_cidrs };
    let mut sync = Sync::new(kernel, families, node);
    let mut ready = Some(ready);
    let mut last_failure = String::new();
    loop {
        let zone =
            nodes.get(&Key::cluster(&node_name)).and_then(|n| n.metadata.labels.as_ref()?.get(ZONE).cloned());
        let mut keys = dirty.take();
        if sync.set_zone(zone) {
            keys.extend(services.keys());
        }
        let changes = keys.into_iter().map(|key| {
            let slices = slices.by_index(BY_SERVICE, key.as_str());
            let service = services.get(&key).and_then(|s| Service::read(&s, &slices));
            (Arc::from(key.as_str()), service)
        });
        let changes: Vec<_> = changes.collect();
        for (key, service) in &changes {
            let wanted = service.as_ref().filter(|s| s.health_check_node_port != 0);
            let wanted = wanted.map(|s| (s.health_check_node_port, ready_here(s, &sync.node)));
            sync.health.set(key, wanted).await;
        }
        let wait = match sync.apply(changes) {
            Ok(()) => {
                if let Some(ready) = ready.take() {
                    // Nobody may be waiting any more.
                    let _ = ready.send(());
                }
                last_failure.clear();
                LOOK
            }
            Err(error) => {
                let failure = error.to_string();
                if failure != last_failure {
                    // Said once, not with each try.
                    tracing::error!(%error, "cannot set the Services' rules (a kernel without nft_nat, nft_masq, nft_reject or nft_fib says \"no such file\"); trying on");
                    last_failure = failure;
                }
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = dirty.wake.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(wait) => sync.look(),
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(Key::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name))
}

/// The sockets. They stay in the network namespace in which they were opened.
pub(crate) struct Kernel {
    nft: Nft,
    conntrack: Conntrack,
}

impl Kernel {
    pub(crate) fn open() -> Result<Kernel, Error> {
        let nft = Nft::open().map_err(Error::Nftables)?;
        Ok(Kernel { nft, conntrack: Conntrack::open().map_err(Error::Nftables)? })
    }
}

/// What the kernel has been told.
pub(crate) struct Sync {
    kernel: Kernel,
    node: Node,
    rules: Vec<Rules>,
    services: BTreeMap<Arc<str>, Service>,
    health: Health,
    /// The kernel's tables are not known to be ours: replace them.
    whole: bool,
    unclean: BTreeSet<Arc<str>>,
    flows: Flows,
}

impl Sync {
    pub(crate) fn new(kernel: Kernel, families: Vec<Family>, node: Node) -> Sync {
        let rules = families.iter().map(|f| Rules::new(*f, node.clone())).collect();
        Sync {
            kernel,
            node,
            rules,
            services: BTreeMap::new(),
            health: Health::default(),
            whole: true,
            unclean: BTreeSet::new(),
            flows: Flows::default(),
        }
    }

    /// True when the zone is another one, so that every Service has to be looked at again.
    fn set_zone(&mut self, zone: Option<String>) -> bool {
        if self.node.zone == zone {
            return false;
        }
        self.node.zone = zone;
        for rules in &mut self.rules {
            rules.set_node(self.node.clone());
        }
        true
    }

    /// Takes the changes in and carries them out. After an error, call it again: nothing is lost.
    pub(crate) fn apply(
        &mut self,
        changes: Vec<(Arc<str>, Option<Service>)>,
    ) -> Result<(), kernel::net::Error> {
        for (key, service) in changes {
            for rules in &mut self.rules {
                rules.set(&key, service.as_ref());
            }
            let old = match service {
                Some(service) => self.services.insert(key.clone(), service),
                None => self.services.remove(&key),
            };
            if let Some(old) = &old {
                self.flows.before(old);
            }
            self.unclean.insert(key);
        }
        if !self.whole {
            let mut batch = Batch::new();
            self.rules.iter_mut().for_each(|rules| rules.batch(&mut batch));
            if let Err(error) = self.kernel.nft.commit(batch) {
                tracing::warn!(%error, "a change of the Services' rules was refused; writing them all");
                self.whole = true;
            }
        }
        if self.whole {
            let mut batch = Batch::new();
            self.rules.iter_mut().for_each(|rules| rules.replace(&mut batch));
            self.kernel.nft.commit(batch)?;
            self.whole = false;
        }
        self.forget_gone()
    }

    /// Notices when somebody took the tables away; the next [`Sync::apply`] makes them anew.
    pub(crate) fn look(&mut self) {
        for rules in &self.rules {
            if !self.kernel.nft.has_table(rules.family(), TABLE).unwrap_or(true) && !self.whole {
                tracing::warn!("the Services' rules were removed by somebody else; writing them all");
                self.whole = true;
            }
        }
    }

    fn forget_gone(&mut self) -> Result<(), kernel::net::Error> {
        let changed = || self.unclean.iter().filter_map(|key| self.services.get(key));
        for rules in &self.rules {
            let mut bound = Bound::default();
            changed().for_each(|service| bound.add(rules.family(), service, &self.node));
            bound.forget_gone(&mut self.kernel.nft, rules.family())?;
        }
        let mut flows = std::mem::take(&mut self.flows);
        changed().for_each(|service| flows.now(service, &self.node));
        if !flows.is_empty() {
            flows.forget_gone(&mut self.kernel.conntrack)?;
        }
        self.unclean.clear();
        Ok(())
    }
}
