//! A small world: objects with owners and finalizers, and a server that deletes as the real one does.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

use super::decide::{Action, Dependent, Owner, decide};
use super::graph::{FOREGROUND, Graph, Meta, ORPHAN, Todo};
use crate::common::Resource;
use crate::common::test::at;

fn kind() -> Arc<Resource> {
    Arc::new(Resource {
        group: String::new(),
        version: "v1".into(),
        plural: "things".into(),
        kind: "Thing".into(),
        namespaced: true,
        verbs: vec![],
    })
}

fn reference(name: &str, blocks: bool) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Thing".into(),
        name: name.into(),
        uid: name.into(),
        controller: None,
        block_owner_deletion: Some(blocks),
    }
}

#[derive(Default)]
struct World {
    objects: BTreeMap<String, Meta>,
    graph: Graph,
    delete: Vec<String>,
    orphan: Vec<String>,
}

impl World {
    /// Objects by name with the names of their owners; all block.
    fn new(objects: &[(&str, &[&str])]) -> Self {
        let mut world = Self::default();
        for (name, owners) in objects {
            let meta = Meta {
                name: name.to_string(),
                namespace: "ns".into(),
                uid: name.to_string(),
                owner_references: owners.iter().map(|owner| reference(owner, true)).collect(),
                ..Meta::default()
            };
            world.write(meta);
        }
        world
    }

    fn todo(&mut self, todo: Todo) {
        self.delete.extend(todo.delete);
        self.orphan.extend(todo.orphan);
    }

    fn write(&mut self, meta: Meta) {
        let todo = self.graph.set(&kind(), &meta, &|_| Some(kind()));
        self.todo(todo);
        self.objects.insert(meta.name.clone(), meta);
    }

    /// The server's delete.
    fn request_deletion(&mut self, name: &str, policy: &str) {
        let Some(mut meta) = self.objects.get(name).cloned() else { return };
        meta.finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
        match policy {
            "Foreground" => meta.finalizers.push(FOREGROUND.into()),
            "Orphan" => meta.finalizers.push(ORPHAN.into()),
            _ => {}
        }
        if meta.finalizers.is_empty() {
            return self.gone(name);
        }
        meta.deletion_timestamp = Some(Time(at(1)));
        self.write(meta);
    }

    fn gone(&mut self, name: &str) {
        self.objects.remove(name);
        let todo = self.graph.remove(name);
        self.todo(todo);
    }

    fn drop_finalizer(&mut self, name: &str, finalizer: &str) {
        let Some(mut meta) = self.objects.get(name).cloned() else { return };
        meta.finalizers.retain(|own| own != finalizer);
        if meta.finalizers.is_empty() && meta.is_deleting() { self.gone(name) } else { self.write(meta) }
    }

    fn release(&mut self, name: &str, owners: &[String]) {
        let Some(mut meta) = self.objects.get(name).cloned() else { return };
        meta.owner_references.retain(|owner| !owners.contains(&owner.uid));
        self.write(meta);
    }

    fn look(&mut self, uid: &str) {
        let Some(meta) = self.objects.get(uid).cloned() else {
            let todo = self.graph.remove(uid);
            return self.todo(todo);
        };
        let owner = |owner: &OwnerReference| match self.objects.get(&owner.uid) {
            None => Owner::Absent,
            Some(meta) if meta.is_deleting() && meta.has(FOREGROUND) => Owner::Waiting,
            Some(_) => Owner::Solid,
        };
        let dependents: Vec<Dependent> = self
            .graph
            .dependents(uid)
            .into_iter()
            .map(|(_, node)| Dependent {
                blocks: node.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true)),
                foreground: node.foreground,
            })
            .collect();
        match decide(&meta, owner, &dependents) {
            Action::Nothing => {}
            Action::Release { uids } => self.release(uid, &uids),
            Action::UnblockAndDelete => {
                let mut meta = meta;
                meta.owner_references.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
                self.write(meta);
                self.request_deletion(uid, "Foreground");
            }
            Action::Delete { policy } => self.request_deletion(uid, policy),
            Action::RemoveForegroundFinalizer => self.drop_finalizer(uid, FOREGROUND),
            Action::AwaitDependents => {
                let waiting: Vec<String> = self
                    .graph
                    .dependents(uid)
                    .into_iter()
                    .filter(|(_, node)| !node.deleting)
                    .map(|(uid, _)| uid.clone())
                    .collect();
                self.delete.extend(waiting);
            }
        }
    }

    fn settle(&mut self) -> Vec<&str> {
        for _ in 0..1000 {
            if let Some(uid) = self.orphan.pop() {
                let dependents: Vec<String> =
                    self.graph.dependents(&uid).into_iter().map(|(uid, _)| uid.clone()).collect();
                dependents.iter().for_each(|dependent| self.release(dependent, std::slice::from_ref(&uid)));
                self.drop_finalizer(&uid, ORPHAN);
            } else if let Some(uid) = self.delete.pop() {
                self.look(&uid);
            } else {
                return self.objects.keys().map(String::as_str).collect();
            }
        }
        panic!("does not settle");
    }
}

const CHAIN: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("x", &[])];

#[test]
fn nothing_happens_to_what_is_owned() {
    assert_eq!(World::new(CHAIN).settle(), ["a", "b", "c", "x"]);
}

#[test]
fn dependents_follow_their_owner() {
    for policy in ["Background", "Foreground"] {
        let mut world = World::new(CHAIN);
        world.settle();
        world.request_deletion("a", policy);
        assert_eq!(world.settle(), ["x"], "{policy}");
        assert_eq!(world.graph.len(), 1);
    }
}

#[test]
fn foreground_waits() {
    let mut world = World::new(CHAIN);
    world.settle();
    let mut held = world.objects["c"].clone();
    held.finalizers.push("held".into());
    world.write(held);
    world.request_deletion("a", "Foreground");
    // `c` is being deleted but held, so `b` and `a` stay.
    assert_eq!(world.settle(), ["a", "b", "c", "x"]);
    assert!(world.objects["c"].is_deleting());
    world.drop_finalizer("c", "held");
    assert_eq!(world.settle(), ["x"]);
}

#[test]
fn orphans_stay() {
    let mut world = World::new(CHAIN);
    world.settle();
    world.request_deletion("a", "Orphan");
    assert_eq!(world.settle(), ["b", "c", "x"]);
    assert!(world.objects["b"].owner_references.is_empty());
}

#[test]
fn one_of_two_owners_is_enough() {
    let mut world = World::new(&[("a", &[]), ("b", &[]), ("c", &["a", "b"])]);
    world.settle();
    world.request_deletion("a", "Background");
    assert_eq!(world.settle(), ["b", "c"]);
    assert_eq!(world.objects["c"].owner_references.len(), 1);
}

#[test]
fn an_owner_that_never_was_counts_as_gone() {
    assert_eq!(World::new(&[("b", &["never"]), ("c", &["b"])]).settle(), Vec::<&str>::new());
}

#[test]
fn rings_of_foreground_deletions_end() {
    let mut world = World::new(&[("a", &["b"]), ("b", &["a"])]);
    world.settle();
    world.request_deletion("a", "Foreground");
    assert_eq!(world.settle(), Vec::<&str>::new());
}

#[test]
fn whatever_order_is_seen_it_ends_the_same() {
    // Dependents before owners, as separate watches may have it.
    let mut world = World::new(&[("c", &["b"]), ("b", &["a"]), ("a", &[])]);
    world.request_deletion("a", "Foreground");
    assert_eq!(world.settle(), Vec::<&str>::new());
}
