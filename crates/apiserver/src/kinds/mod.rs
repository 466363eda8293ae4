//! What is served: resources by group and version, and where their objects live.

mod builtin;
pub use builtin::{check_runtime_config, load as builtin};
pub mod events;
mod map;
mod storage;

pub use map::{GroupOrder, KindMap, Kinds, version_rank};
pub use storage::{Home, HomeName};

use std::sync::Arc;

use bytes::Bytes;
use machinery::{GroupKind, GroupResource, GroupVersionKind};
use resources::Strategy;

/// One resource in one served version.
pub struct Resource {
    pub group: String,
    pub version: String,
    /// Plural, lower case: `deployments`.
    pub name: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub storage_hash: String,
    pub subresources: Vec<Subresource>,
    pub strategy: &'static Strategy,
    /// Where objects are kept; `None` for what is only computed (reviews, bindings).
    pub home: Option<Arc<Home>>,
    /// Set for custom resources.
    pub custom: Option<Arc<crate::crd::CustomVersion>>,
    /// `{"kind":"Pod","apiVersion":"v1",`: what goes before the bare bytes of an object.
    pub prefix: Bytes,
}

pub struct Subresource {
    pub name: String,
    pub kind: String,
    /// "" for the group and version of the resource.
    pub group: String,
    pub version: String,
    pub verbs: Vec<String>,
}

impl Resource {
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(&*self.group, &*self.version, &*self.kind)
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&*self.group, &*self.name)
    }

    pub fn group_kind(&self) -> GroupKind {
        GroupKind { group: self.group.clone(), kind: self.kind.clone() }
    }

    /// As validation names the kind: that of the stored objects (events are one kind behind two groups).
    pub fn stored_kind(&self) -> GroupKind {
        let group = self.home.as_ref().map_or(&self.group, |home| &home.name.group);
        GroupKind { group: group.clone(), kind: self.kind.clone() }
    }

    pub fn api_version(&self) -> String {
        machinery::GroupVersion::new(&*self.group, &*self.version).to_string()
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// Does the stored form differ from this version by more than `apiVersion`?
    pub fn converts(&self) -> bool {
        self.home.as_ref().is_some_and(|h| h.differs(&self.group, &self.version))
    }

    pub(crate) fn prefix_of(kind: &str, api_version: &str) -> Bytes {
        Bytes::from(format!("{{\"kind\":{},\"apiVersion\":{},", quote(kind), quote(api_version)))
    }
}

fn quote(s: &str) -> String {
    serde_json::Value::from(s).to_string()
}

impl Subresource {
    /// The kind that this subresource speaks, in full.
    pub fn gvk(&self, of: &Resource) -> GroupVersionKind {
        if self.version.is_empty() {
            GroupVersionKind::new(&*of.group, &*of.version, &*self.kind)
        } else {
            GroupVersionKind::new(&*self.group, &*self.version, &*self.kind)
        }
    }
}
