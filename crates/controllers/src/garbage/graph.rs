//! Who owns whom.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use client::{Cached, Key};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde::Deserialize;

use crate::common::Resource;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// An object as the garbage collector sees it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Object {
    pub metadata: Meta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub deletion_timestamp: Option<Time>,
    #[serde(deserialize_with = "client::null_is_default")]
    pub finalizers: Vec<String>,
    #[serde(deserialize_with = "client::null_is_default")]
    pub owner_references: Vec<OwnerReference>,
}

impl Cached for Object {
    fn key(&self) -> Key {
        Key::new(&self.metadata.namespace, &self.metadata.name)
    }
    fn object_uid(&self) -> &str {
        &self.metadata.uid
    }
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Meta {
    pub fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|own| own == finalizer)
    }

    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// An object in the graph.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub resource: Arc<Resource>,
    pub namespace: String,
    pub name: String,
    pub owners: Vec<OwnerReference>,
    pub dependents: HashSet<String>,
    pub deleting: bool,
    /// Waits for its dependents to go before it goes itself.
    pub foreground: bool,
    pub orphaning: bool,
    /// Known from an owner reference only; whether it exists is to be found out.
    pub hearsay: bool,
}

/// What a change asks for: looks at objects, by uid.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Todo {
    /// Whether to delete it.
    pub delete: Vec<String>,
    /// Let go its dependents.
    pub orphan: Vec<String>,
}

#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub fn dependents(&self, uid: &str) -> Vec<(&String, &Node)> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        node.dependents.iter().filter_map(|uid| self.nodes.get(uid).map(|node| (uid, node))).collect()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// An object is there, as `meta` says. `owner_resource` finds the kind of an owner reference.
    pub fn set(
        &mut self,
        resource: &Arc<Resource>,
        meta: &Meta,
        owner_resource: &dyn Fn(&OwnerReference) -> Option<Arc<Resource>>,
    ) -> Todo {
        let mut todo = Todo::default();
        let uid = &meta.uid;
        let old = self.nodes.remove(uid);
        let old_owners: Vec<OwnerReference> =
            old.as_ref().map(|node| node.owners.clone()).unwrap_or_default();
        let node = Node {
            resource: resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            owners: meta.owner_references.clone(),
            dependents: old.as_ref().map(|node| node.dependents.clone()).unwrap_or_default(),
            deleting: meta.is_deleting(),
            foreground: meta.is_deleting() && meta.has(FOREGROUND),
            orphaning: meta.is_deleting() && meta.has(ORPHAN),
            hearsay: false,
        };
        let was = |f: fn(&Node) -> bool| old.as_ref().is_some_and(f);
        if node.orphaning && !was(|old| old.orphaning) {
            todo.orphan.push(uid.clone());
        }
        if node.foreground && !was(|old| old.foreground) {
            todo.delete.extend(node.dependents.iter().cloned());
            todo.delete.push(uid.clone());
        }
        // The absent owners of dependents that came before: now they are known to be wrong about where it is.
        let elsewhere = |old: &Node| old.namespace != node.namespace || old.name != node.name;
        if old.as_ref().is_some_and(|old| old.hearsay && elsewhere(old)) {
            todo.delete.extend(node.dependents.iter().cloned());
        }
        self.nodes.insert(uid.clone(), node);
        for owner in &old_owners {
            if !meta.owner_references.iter().any(|other| other.uid == owner.uid) {
                self.unlink(&owner.uid, uid, &mut todo);
            } else if owner.block_owner_deletion == Some(true)
                && meta
                    .owner_references
                    .iter()
                    .any(|o| o.uid == owner.uid && o.block_owner_deletion != Some(true))
                && self.nodes.get(&owner.uid).is_some_and(|node| node.foreground)
            {
                // It no longer blocks.
                todo.delete.push(owner.uid.clone());
            }
        }
        for owner in &meta.owner_references {
            self.link(owner, uid, meta, owner_resource, &mut todo);
        }
        if old_owners != meta.owner_references && !meta.owner_references.is_empty() {
            todo.delete.push(uid.clone());
        }
        todo
    }

    fn link(
        &mut self,
        owner: &OwnerReference,
        uid: &str,
        meta: &Meta,
        owner_resource: &dyn Fn(&OwnerReference) -> Option<Arc<Resource>>,
        todo: &mut Todo,
    ) {
        if let Some(node) = self.nodes.get_mut(&owner.uid) {
            node.dependents.insert(uid.to_owned());
            // An owner elsewhere than the reference says is none: have the dependent looked at.
            if node.foreground
                || (!node.hearsay && (node.name != owner.name || node.resource.kind != owner.kind))
            {
                todo.delete.push(uid.to_owned());
            }
            return;
        }
        let Some(resource) = owner_resource(owner) else { return };
        let namespace = if resource.namespaced { meta.namespace.clone() } else { String::new() };
        self.nodes.insert(
            owner.uid.clone(),
            Node {
                resource,
                namespace,
                name: owner.name.clone(),
                owners: Vec::new(),
                dependents: HashSet::from([uid.to_owned()]),
                deleting: false,
                foreground: false,
                orphaning: false,
                hearsay: true,
            },
        );
        todo.delete.push(owner.uid.clone());
    }

    fn unlink(&mut self, owner: &str, uid: &str, todo: &mut Todo) {
        if let Some(node) = self.nodes.get_mut(owner) {
            node.dependents.remove(uid);
            if node.foreground {
                todo.delete.push(owner.to_owned());
            }
            if node.hearsay && node.dependents.is_empty() {
                self.nodes.remove(owner);
            }
        }
    }

    /// An object is gone: its dependents may have lost their last owner, its owners may have waited for it.
    pub fn remove(&mut self, uid: &str) -> Todo {
        let mut todo = Todo::default();
        let Some(node) = self.nodes.remove(uid) else { return todo };
        todo.delete.extend(node.dependents.iter().cloned());
        for owner in &node.owners {
            self.unlink(&owner.uid, uid, &mut todo);
        }
        todo
    }
}
