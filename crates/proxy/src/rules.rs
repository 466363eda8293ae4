//! All Services' shares together, and what a change means for the kernel.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kernel::nft::{Batch, Chain, Family, Key, Table, Value};

use crate::base::{TABLE, base};
use crate::chains::Shared;
use crate::objects::Service;
use crate::render::{Node, Share, share};

/// The rules of one family. Changes collect until [`Rules::batch`] takes them.
pub struct Rules {
    family: Family,
    node: Node,
    shares: HashMap<Arc<str>, Share>,
    /// Who wants which value. Two Services may claim the same address and port: the first by name gets it.
    claims: HashMap<(&'static str, Key), Vec<(Arc<str>, Value)>>,
    chains: BTreeMap<Shared, usize>,
    /// What the kernel has, where it differs from the claims: set, key and the value there.
    pending: HashMap<(&'static str, Key), Option<Value>>,
    /// Chains the kernel has although unused, or lacks although used.
    pending_chains: BTreeMap<Shared, bool>,
}

impl Rules {
    pub fn new(family: Family, node: Node) -> Rules {
        Rules {
            family,
            node,
            shares: HashMap::new(),
            claims: HashMap::new(),
            chains: BTreeMap::new(),
            pending: HashMap::new(),
            pending_chains: BTreeMap::new(),
        }
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// What is known of the node has changed; Services set from now on follow it. The node's networks must not change.
    pub fn set_node(&mut self, node: Node) {
        self.node = node;
    }

    /// Replaces a Service's share; none: the Service has no rules any more.
    pub fn set(&mut self, key: &Arc<str>, service: Option<&Service>) {
        let new = service.map(|s| share(self.family, s, &self.node)).unwrap_or_default();
        let old = self.shares.remove(key).unwrap_or_default();
        if old != new {
            for (set, element, _) in &old.elements {
                self.claim(set, element, key, None);
            }
            for (set, element, value) in &new.elements {
                self.claim(set, element, key, Some(value));
            }
            new.chains.iter().for_each(|chain| self.hold(*chain));
            old.chains.iter().for_each(|chain| self.release(*chain));
        }
        if !new.elements.is_empty() {
            self.shares.insert(key.clone(), new);
        }
    }

    fn claim(&mut self, set: &'static str, element: &Key, owner: &Arc<str>, value: Option<&Value>) {
        let at = (set, element.clone());
        let claims = self.claims.entry(at.clone()).or_default();
        let before = claims.first().map(|(_, v)| v.clone());
        match (claims.binary_search_by(|(other, _)| other.cmp(owner)), value) {
            (Ok(at), Some(value)) => claims[at].1 = value.clone(),
            (Ok(at), None) => drop(claims.remove(at)),
            (Err(at), Some(value)) => claims.insert(at, (owner.clone(), value.clone())),
            (Err(_), None) => {}
        }
        if claims.is_empty() {
            self.claims.remove(&at);
        }
        self.pending.entry(at).or_insert(before);
    }

    fn hold(&mut self, chain: Shared) {
        for needed in chain.needs() {
            self.hold(needed);
        }
        let users = self.chains.entry(chain).or_insert(0);
        *users += 1;
        if *users == 1 {
            self.pending_chains.entry(chain).or_insert(false);
        }
    }

    fn release(&mut self, chain: Shared) {
        if let Some(users) = self.chains.get_mut(&chain) {
            *users -= 1;
            if *users == 0 {
                self.chains.remove(&chain);
                self.pending_chains.entry(chain).or_insert(true);
            }
        }
        for needed in chain.needs() {
            self.release(needed);
        }
    }

    /// Appends what changed since the last call. Nothing when all is as it was.
    pub fn batch(&mut self, batch: &mut Batch) {
        let pending_chains = std::mem::take(&mut self.pending_chains);
        let used = |chain: &Shared| self.chains.contains_key(chain);
        let fresh: Vec<_> =
            pending_chains.iter().filter(|(c, there)| !**there && used(c)).map(|(c, _)| *c).collect();
        let stale: Vec<_> =
            pending_chains.iter().filter(|(c, there)| **there && !used(c)).map(|(c, _)| *c).collect();
        for chain in &fresh {
            batch.add_chain(self.family, TABLE, &chain.name(), &Chain::default());
        }
        for chain in &fresh {
            for rule in chain.rules(self.family, &self.node.cluster_cidrs) {
                batch.add_rule(self.family, TABLE, &chain.name(), &rule);
            }
        }
        let mut gone: BTreeMap<&str, Vec<Key>> = BTreeMap::new();
        let mut come: BTreeMap<&str, Vec<(Key, Value)>> = BTreeMap::new();
        for ((set, key), there) in std::mem::take(&mut self.pending) {
            let wanted = self.claims.get(&(set, key.clone())).and_then(|c| c.first()).map(|(_, v)| v);
            if there.as_ref() == wanted {
                continue;
            }
            if there.is_some() {
                gone.entry(set).or_default().push(key.clone());
            }
            if let Some(value) = wanted {
                come.entry(set).or_default().push((key, value.clone()));
            }
        }
        for (set, keys) in &gone {
            batch.delete_elements(self.family, TABLE, set, keys);
        }
        for (set, elements) in &come {
            batch.add_elements(self.family, TABLE, set, elements.iter().map(|(k, v)| (k, v)));
        }
        for chain in &stale {
            batch.flush_chain(self.family, TABLE, &chain.name());
        }
        for chain in &stale {
            batch.delete_chain(self.family, TABLE, &chain.name());
        }
    }

    /// Appends the whole table, replacing what the kernel has.
    pub fn replace(&mut self, batch: &mut Batch) {
        self.pending.clear();
        self.pending_chains.clear();
        batch.replace_table(&self.table());
    }

    /// The whole table as data.
    pub fn table(&self) -> Table {
        let mut table = base(self.family, &self.node);
        for chain in self.chains.keys() {
            table.chain(&chain.name(), chain.rules(self.family, &self.node.cluster_cidrs));
        }
        for ((set, key), claims) in &self.claims {
            if let (Some(set), Some((_, value))) = (table.sets.get_mut(*set), claims.first()) {
                set.elements.insert(key.clone(), value.clone());
            }
        }
        table
    }
}
