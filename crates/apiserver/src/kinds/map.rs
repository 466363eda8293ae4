//! The map of everything served: built-ins, then custom resources that come and go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Home, Resource};

/// An immutable picture of what is served.
#[derive(Clone, Default)]
pub struct KindMap {
    by_version: HashMap<(String, String), Arc<Vec<Arc<Resource>>>>,
    /// Groups in discovery order, each with its versions in order of preference.
    pub groups: Vec<GroupOrder>,
    /// All custom resources there are are in it (at start they are not yet known).
    pub custom_known: bool,
    /// Homes by key prefix.
    homes: BTreeMap<String, Arc<Home>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOrder {
    pub name: String,
    pub versions: Vec<String>,
    /// Groups of custom resources come after the built-in ones.
    pub custom: bool,
}

impl KindMap {
    /// Adds a resource at the end of its group-version.
    pub fn add(&mut self, resource: Option<Resource>) {
        let Some(resource) = resource else { return };
        if let Some(home) = &resource.home {
            self.homes.insert(home.prefix.clone(), home.clone());
        }
        let group = match self.groups.iter_mut().find(|g| g.name == resource.group) {
            Some(group) => group,
            None => {
                let custom = resource.custom.is_some();
                self.groups.push(GroupOrder { name: resource.group.clone(), versions: Vec::new(), custom });
                self.groups.last_mut().expect("just pushed")
            }
        };
        if !group.versions.contains(&resource.version) {
            group.versions.push(resource.version.clone());
        }
        let key = (resource.group.clone(), resource.version.clone());
        let list = self.by_version.entry(key).or_default();
        Arc::make_mut(list).push(Arc::new(resource));
    }

    /// Makes a home known to the feed before its resources are served.
    pub fn add_home(&mut self, home: Arc<Home>) {
        self.homes.insert(home.prefix.clone(), home);
    }

    /// Puts the versions of custom groups in order of preference: stable before beta before alpha, newer before older.
    pub fn sort_custom_versions(&mut self) {
        for group in self.groups.iter_mut().filter(|g| g.custom) {
            group.versions.sort_by_key(|v| std::cmp::Reverse(version_rank(v)));
        }
    }

    pub fn find(&self, group: &str, version: &str, name: &str) -> Option<Arc<Resource>> {
        self.resources(group, version).iter().find(|r| r.name == name).cloned()
    }

    pub fn find_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        self.resources(group, version).iter().find(|r| r.kind == kind).cloned()
    }

    /// The resource in the version that its group prefers among those that have it.
    pub fn preferred(&self, group: &str, name: &str) -> Option<Arc<Resource>> {
        let group = self.groups.iter().find(|g| g.name == group)?;
        group.versions.iter().find_map(|v| self.find(&group.name, v, name))
    }

    /// In discovery order; empty if the group-version is not served.
    pub fn resources(&self, group: &str, version: &str) -> &[Arc<Resource>] {
        // a tuple of borrowed strings is no key of a map of owned ones, and lookups are short
        self.by_version.get(&(group.to_owned(), version.to_owned())).map_or(&[], |list| &list[..])
    }

    pub fn has_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g.name == group)
    }

    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.groups.iter().any(|g| g.name == group && g.versions.iter().any(|v| v == version))
    }

    /// The home that a key of the store belongs to.
    pub fn home_of(&self, key: &str) -> Option<&Arc<Home>> {
        let (prefix, home) = self
            .homes
            .range::<str, _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)))
            .next_back()?;
        key.starts_with(prefix.as_str()).then_some(home)
    }

    pub fn homes(&self) -> impl Iterator<Item = &Arc<Home>> {
        self.homes.values()
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups.iter().flat_map(|g| g.versions.iter().flat_map(|v| self.resources(&g.name, v)))
    }
}

/// `v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1` > anything else, which is in alphabetical order.
pub fn version_rank(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..digits].parse().ok()?;
        let (rank, minor) = match &rest[digits..] {
            "" => (3, 0),
            tail if tail.starts_with("beta") => (2, tail[4..].parse().ok()?),
            tail if tail.starts_with("alpha") => (1, tail[5..].parse().ok()?),
            _ => return None,
        };
        Some((rank, major, minor))
    };
    let (rank, major, minor) = parse().unwrap_or((0, 0, 0));
    let name = if rank == 0 { version.to_owned() } else { String::new() };
    (rank, major, minor, std::cmp::Reverse(name))
}

/// The current map; replaced as a whole when custom resources change.
pub struct Kinds {
    current: RwLock<Arc<KindMap>>,
    changes: tokio::sync::watch::Sender<()>,
}

impl Kinds {
    pub fn new(map: KindMap) -> Self {
        Self { current: RwLock::new(Arc::new(map)), changes: tokio::sync::watch::Sender::new(()) }
    }

    pub fn now(&self) -> Arc<KindMap> {
        self.current.read().clone()
    }

    /// Wakes when the map was replaced.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub fn replace(&self, map: KindMap) {
        *self.current.write() = Arc::new(map);
        self.changes.send_replace(());
    }
}
