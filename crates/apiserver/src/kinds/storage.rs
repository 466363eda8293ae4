//! Where and how objects of a resource are stored: keys as upstream lays them out in etcd, and the stored version.

use crate::cache::Cache;
use crate::config::Config;

/// The identity of stored objects: group and resource, whatever the version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HomeName {
    pub group: String,
    pub resource: String,
}

impl HomeName {
    /// Events are one set of objects behind two groups.
    pub fn builtin(group: &str, resource: &str) -> Self {
        let group = if (group, resource) == ("events.k8s.io", "events") { "" } else { group };
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }
}

/// The stored objects of one group-resource, and their watch cache.
pub struct Home {
    pub name: HomeName,
    pub kind: String,
    /// The version in which objects are stored and cached.
    pub version: String,
    pub namespaced: bool,
    /// `/registry/pods/`.
    pub prefix: String,
    /// Objects vanish this long after their last write.
    pub ttl: Option<std::time::Duration>,
    /// Set for custom resources.
    pub custom: bool,
    /// The feature gates that were switched on: defaults of built-in kinds may depend on them.
    pub features: Vec<String>,
    pub conversion: Option<std::sync::Arc<crate::crd::Conversion>>,
    pub cache: Cache,
    /// Keys of stored objects that can't be read, and why: they are in no cache.
    pub damaged: parking_lot::Mutex<std::collections::BTreeMap<String, String>>,
}

/// Directories under `/registry/` that are not simply the resource's name (the storage factory's special prefixes, and
/// the groups whose objects lie under their group's name).
fn directory(group: &str, resource: &str) -> String {
    match (group, resource) {
        ("", "nodes") => "minions".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        ("apiregistration.k8s.io" | "apiextensions.k8s.io", _) => format!("{group}/{resource}"),
        _ => resource.to_owned(),
    }
}

/// The stored version of built-in resources that are served in more than one, or not in v1.
fn stored_version(group: &str, resource: &str) -> &'static str {
    match (group, resource) {
        ("autoscaling", _) => "v2",
        ("coordination.k8s.io", "leasecandidates") => "v1beta1",
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies" | "mutatingadmissionpolicybindings") => {
            "v1beta1"
        }
        ("certificates.k8s.io", "clustertrustbundles" | "podcertificaterequests") => "v1beta1",
        ("resource.k8s.io", "devicetaintrules" | "resourcepoolstatusrequests") => "v1alpha3",
        ("scheduling.k8s.io", "workloads" | "podgroups") => "v1alpha2",
        ("internal.apiserver.k8s.io", _) => "v1alpha1",
        ("storagemigration.k8s.io", _) => "v1beta1",
        _ => "v1",
    }
}

impl Home {
    pub fn builtin(name: HomeName, kind: &str, namespaced: bool, config: &Config) -> Self {
        let prefix = format!("/registry/{}/", directory(&name.group, &name.resource));
        let strategy = resources::strategy(&name.group, kind);
        let ttl = (name.group.is_empty() && name.resource == "events").then_some(config.event_ttl);
        Self {
            version: stored_version(&name.group, &name.resource).to_owned(),
            kind: kind.to_owned(),
            namespaced,
            prefix,
            ttl,
            custom: false,
            features: config.features(),
            conversion: None,
            damaged: parking_lot::Mutex::default(),
            cache: Cache::new(namespaced, config.watch_window, strategy.selectable, strategy.select),
            name,
        }
    }

    /// The cache's key of an object: `namespace/name`, or `name`.
    /// Upstream reads these from the store itself, which shows in some answers.
    pub fn unwatched(&self) -> bool {
        self.ttl.is_some()
    }

    pub fn local_key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    pub fn unreadable(&self, local: &str, why: String) {
        self.damaged.lock().insert(local.to_owned(), why);
    }

    pub fn readable(&self, local: &str) {
        let mut damaged = self.damaged.lock();
        if !damaged.is_empty() {
            damaged.remove(local);
        }
    }

    /// Why the object, or for "" any of those under a prefix of keys, can't be read.
    pub fn why_unreadable(&self, local: &str, prefix: &str) -> Option<String> {
        let damaged = self.damaged.lock();
        if damaged.is_empty() {
            return None;
        }
        match local {
            "" => damaged.iter().find(|(key, _)| key.starts_with(prefix)).map(|(_, why)| why.clone()),
            local => damaged.get(local).cloned(),
        }
    }

    pub fn store_key(&self, local: &str) -> String {
        format!("{}{local}", self.prefix)
    }

    /// For work on stored objects that no request asked for.
    pub fn context(&self) -> resources::Context<'_> {
        resources::Context {
            now: jiff::Timestamp::now(),
            version: &self.version,
            subresource: "",
            user: resources::User::default(),
            features: &self.features,
        }
    }

    /// `apiVersion` of stored objects.
    pub fn api_version(&self) -> String {
        machinery::GroupVersion::new(&*self.name.group, &*self.version).to_string()
    }

    /// The version of a decoded object, where that is not the home's.
    pub fn odd_version(&self, object: &machinery::Value) -> Option<Box<str>> {
        self.conversion.as_ref()?;
        let gv = machinery::GroupVersion::parse(machinery::Get::text(object, "apiVersion")).ok()?;
        (gv.version != self.version).then(|| gv.version.into())
    }

    /// Is the object in another version more than a change of `apiVersion` away?
    pub fn differs(&self, group: &str, version: &str) -> bool {
        let (same_group, same_version) = (self.name.group == group, self.version == version);
        if self.conversion.as_ref().is_some_and(|c| c.has_webhook()) {
            return true;
        }
        if same_group && same_version {
            return false;
        }
        if self.custom {
            return true;
        }
        match self.name.group.as_str() {
            "" => !same_group,
            "autoscaling" | "resource.k8s.io" => true,
            _ => false,
        }
    }
}
