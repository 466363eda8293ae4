//! The one task that turns definitions into served kinds, tells their status, and cleans up after deleted ones.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use machinery::{Get, Status, Value, json, meta};
use resources::apiextensions::{self as approval, Approval};
use tokio::sync::oneshot;

use super::conversion::Conversion;
use super::definition::{CLEANUP, condition, set_condition};
use super::names::{self, Names};
use super::version::{CustomVersion, ScalePaths, selectable_paths};
use crate::cache::{Cache, Fields, Interest};
use crate::kinds::{Home, HomeName, KindMap, Resource, Subresource};
use crate::registry::{DeleteOptions, UpdateRequest, delete_object, fields, update_object};
use crate::select::Selector;
use crate::server::Core;

const GROUP: &str = "apiextensions.k8s.io";

/// The order in which upstream lists the verbs of custom resources.
const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// Follows the definitions from now on.
pub fn start(core: &Arc<Core>) {
    let builtin = core.kinds.now();
    let publisher = Publisher { core: core.clone(), builtin, homes: HashMap::new() };
    tokio::spawn(publisher.run());
}

struct Publisher {
    core: Arc<Core>,
    builtin: Arc<KindMap>,
    homes: HashMap<String, Arc<Home>>,
}

impl Publisher {
    async fn run(mut self) {
        let Some(home) =
            self.builtin.find(GROUP, "v1", "customresourcedefinitions").and_then(|r| r.home.clone())
        else {
            return;
        };
        loop {
            let (mut changes, snapshot, _) = home.cache.watch_now(Interest::new("", Selector::default()));
            let mut definitions: Vec<Value> = snapshot.values().map(|e| e.parse()).collect();
            loop {
                definitions.sort_by_key(|d| {
                    let metadata = d.at("metadata");
                    (metadata.text("creationTimestamp").to_owned(), metadata.text("name").to_owned())
                });
                self.publish(&definitions).await;
                let event = tokio::select! {
                    () = self.core.shutdown.cancelled() => return,
                    event = changes.next() => event,
                };
                if event.is_none() {
                    break;
                }
                while changes.try_next().is_some() {}
                definitions = home.cache.snapshot().0.values().map(|e| e.parse()).collect();
            }
        }
    }

    async fn publish(&mut self, definitions: &[Value]) {
        let decided = self.decide(definitions);
        self.serve(&decided).await;
        for (definition, names) in &decided {
            let result = if meta::is_deleting(definition) {
                self.finish(definition).await
            } else {
                self.report(definition, names).await
            };
            if let Err(status) = result
                && status.code != 404
                && status.code != 409
            {
                tracing::warn!(name = meta::name(definition), %status, "can't keep up a definition");
            }
        }
    }

    /// Which names each definition has, the older ones first; a definition has its names in its status then.
    fn decide(&self, definitions: &[Value]) -> Vec<(Value, Names)> {
        let mut all: Vec<Value> = definitions.to_vec();
        let mut out = Vec::new();
        for at in 0..all.len() {
            let others: Vec<&Value> =
                all.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, d)| d).collect();
            let names = names::decide(&all[at], &others, &self.builtin);
            let given = definitions[at].clone();
            all[at].child("status").set("acceptedNames", names.accepted.clone());
            out.push((given, names));
        }
        out
    }

    /// Replaces the map of kinds by one with all accepted definitions.
    async fn serve(&mut self, decided: &[(Value, Names)]) {
        let mut map = (*self.builtin).clone();
        let served = decided.iter().filter(|(definition, names)| {
            names.conflict.is_none()
                || condition(definition, "Established").is_some_and(|c| c.text("status") == "True")
        });
        let mut kept = Vec::new();
        let mut fresh = Vec::new();
        for (definition, names) in served {
            let mut own = definition.clone();
            own.child("spec").set("names", names.accepted.clone());
            let home = self.home(&own);
            if !self.homes.get(&home.prefix).is_some_and(|known| Arc::ptr_eq(known, &home)) {
                fresh.push(home.clone());
            }
            map.add_home(home.clone());
            kept.push((own, home));
        }
        if !fresh.is_empty() {
            // the feed must know where events belong before it loads what is there
            let mut early = (*self.core.kinds.now()).clone();
            fresh.iter().for_each(|home| early.add_home(home.clone()));
            self.core.kinds.replace(early);
            for home in fresh {
                let (done, loaded) = oneshot::channel();
                if self.core.loads.send((home.clone(), done)).await.is_ok() {
                    let _ = loaded.await;
                }
                if let Some(replaced) = self.homes.insert(home.prefix.clone(), home) {
                    replaced.cache.end_watches();
                }
            }
        }
        for (definition, home) in &kept {
            for resource in resources(definition, home) {
                map.add(Some(resource));
            }
        }
        map.sort_custom_versions();
        map.custom_known = true;
        let prefixes: Vec<String> = kept.iter().map(|(_, h)| h.prefix.clone()).collect();
        self.core.kinds.replace(map);
        self.homes.retain(|prefix, home| {
            let stays = prefixes.contains(prefix);
            if !stays {
                home.cache.end_watches();
            }
            stays
        });
    }

    /// The home of a definition; a changed one makes a new home, as objects may read differently.
    fn home(&self, definition: &Value) -> Arc<Home> {
        let spec = definition.at("spec");
        let (group, plural) = (spec.text("group"), spec.at("names").text("plural"));
        let prefix = format!("/registry/{group}/{plural}/");
        let versions = spec.list("versions");
        let storage = versions.iter().find(|v| v.flag("storage") == Some(true)).or(versions.first());
        let version = storage.map_or("", |v| v.text("name"));
        let mut paths: Vec<String> = Vec::new();
        for path in versions.iter().flat_map(selectable_paths) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let same = |home: &&Arc<Home>| {
            home.conversion.as_ref().is_some_and(|c| c.made_of == Conversion::parts(definition))
        };
        if let Some(home) = self.homes.get(&prefix).filter(same) {
            return home.clone();
        }
        let namespaced = spec.text("scope") == "Namespaced";
        let window = self.core.config.watch_window;
        Arc::new(Home {
            damaged: parking_lot::Mutex::default(),
            name: HomeName { group: group.to_owned(), resource: plural.to_owned() },
            kind: spec.at("names").text("kind").to_owned(),
            version: version.to_owned(),
            namespaced,
            prefix,
            ttl: None,
            custom: true,
            features: Vec::new(),
            conversion: Some(Arc::new(Conversion::new(definition))),
            cache: Cache::with_fields(namespaced, window, Fields::paths(paths)),
        })
    }

    /// Says in the status which names are accepted and that the kind is served.
    async fn report(&self, definition: &Value, names: &Names) -> Result<(), Status> {
        let now = fields::timestamp(jiff::Timestamp::now());
        let mut wanted = definition.clone();
        let mut changed = false;
        let mut set = |wanted: &mut Value, kind: &str, status: &str, reason: &str, message: &str| {
            changed |= set_condition(wanted, kind, status, reason, message, &now);
        };
        let established = condition(definition, "Established").is_some_and(|c| c.text("status") == "True");
        match &names.conflict {
            None => {
                set(&mut wanted, "NamesAccepted", "True", "NoConflicts", "no conflicts found");
                if !established {
                    let message = "the initial names have been accepted";
                    set(&mut wanted, "Established", "True", "InitialNamesAccepted", message);
                }
            }
            Some((reason, message)) => {
                set(&mut wanted, "NamesAccepted", "False", reason, message);
                if !established {
                    set(&mut wanted, "Established", "False", "NotAccepted", "not all names are accepted");
                }
            }
        }
        if approval::is_protected(definition.at("spec").text("group")) {
            let (state, message) = approval::approval(definition);
            let (status, reason) = match state {
                Approval::Invalid => ("False", "InvalidAnnotation"),
                Approval::Missing => ("False", "MissingAnnotation"),
                Approval::Approved => ("True", "ApprovedAnnotation"),
                Approval::Bypassed => ("False", "UnapprovedAnnotation"),
            };
            set(&mut wanted, "KubernetesAPIApprovalPolicyConformant", status, reason, &message);
        }
        if wanted.at("status").at("acceptedNames") != &names.accepted {
            wanted.child("status").set("acceptedNames", names.accepted.clone());
            changed = true;
        }
        let stored = definition.at("status").list("storedVersions").to_vec();
        let storing = definition.at("spec").list("versions").iter().find(|v| v.flag("storage") == Some(true));
        let storing = json!(storing.map_or("", |v| v.text("name")));
        if !stored.contains(&storing) {
            let mut all = stored;
            all.push(storing);
            wanted.child("status").set("storedVersions", all);
            changed = true;
        }
        if !changed {
            return Ok(());
        }
        let status = wanted.at("status").clone();
        self.update(definition, "status", &mut |_| {
            let status = status.clone();
            Box::new(move |mut object: Value| {
                object.set("status", status);
                object
            })
        })
        .await
    }

    async fn update(
        &self,
        definition: &Value,
        subresource: &str,
        change: &mut (dyn FnMut(&Value) -> Box<dyn FnOnce(Value) -> Value> + Send),
    ) -> Result<(), Status> {
        let Some(resource) = self.builtin.find(GROUP, "v1", "customresourcedefinitions") else {
            return Ok(());
        };
        let mut call = self.core.internal_call(resource, "update", "", meta::name(definition));
        call.info.subresource = subresource.to_owned();
        let options = crate::bootstrap::options();
        let uid = meta::uid(definition).to_owned();
        let revision = meta::resource_version(definition).to_owned();
        let request = UpdateRequest {
            options: &options,
            uid: Some(uid),
            may_create: false,
            fields_done: false,
            change: &mut |_, old| {
                let mut new = change(old)(old.clone());
                // decided from this version: a newer one is decided anew
                new.child("metadata").set("resourceVersion", revision.as_str());
                Ok(new)
            },
        };
        update_object(&mut call, request).await.map(|_| ())
    }

    /// Deletes what is left of a deleted definition's objects, then lets it go.
    async fn finish(&self, definition: &Value) -> Result<(), Status> {
        if !meta::finalizers(definition).any(|f| f == CLEANUP) {
            return Ok(());
        }
        let spec = definition.at("spec");
        let map = self.core.kinds.now();
        let plural = spec.at("names").text("plural");
        let storage = spec.list("versions").iter().find(|v| v.flag("storage") == Some(true));
        let stored = storage.and_then(|v| map.find(spec.text("group"), v.text("name"), plural));
        if let Some(resource) = stored.or_else(|| map.preferred(spec.text("group"), plural))
            && let Some(home) = resource.home.clone()
        {
            let (objects, _) = home.cache.snapshot();
            for entry in objects.values() {
                let mut call =
                    self.core.internal_call(resource.clone(), "delete", entry.namespace(), entry.name());
                match delete_object(&mut call, &DeleteOptions::default()).await {
                    Err(status) if status.code != 404 => return Err(status),
                    _ => {}
                }
            }
            self.core.fresh().await?;
            if !home.cache.is_empty() {
                // objects with finalizers hold the definition until they are gone
                let core = self.core.clone();
                let name = meta::name(definition).to_owned();
                tokio::spawn(async move { retry_later(core, home, name).await });
                return Ok(());
            }
        }
        self.update(definition, "", &mut |_| {
            Box::new(|mut object: Value| {
                let list: Vec<Value> = object
                    .at("metadata")
                    .list("finalizers")
                    .iter()
                    .filter(|f| *f != CLEANUP)
                    .cloned()
                    .collect();
                object.child("metadata").set("finalizers", list);
                object
            })
        })
        .await
    }
}

/// Touches nothing: waits until the last object is gone, then wakes the publisher by a change of the status.
async fn retry_later(core: Arc<Core>, home: Arc<Home>, name: String) {
    let (mut changes, ..) = home.cache.watch_now(Interest::new("", Selector::default()));
    while !home.cache.is_empty() {
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            event = changes.next() => if event.is_none() { return },
        }
    }
    let Some(resource) = core.kinds.now().find(GROUP, "v1", "customresourcedefinitions") else { return };
    let mut call = core.internal_call(resource, "update", "", &name);
    call.info.subresource = "status".to_owned();
    let options = crate::bootstrap::options();
    let now = fields::timestamp(jiff::Timestamp::now());
    let request = UpdateRequest {
        options: &options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |_, old| {
            let mut new = old.clone();
            let message = "removed all instances";
            set_condition(&mut new, "Terminating", "False", "InstanceDeletionCompleted", message, &now);
            Ok(new)
        },
    };
    let _ = update_object(&mut call, request).await;
}

/// Tells clients when objects are stored in another version than before (upstream: discovery.StorageVersionHash).
fn storage_hash(group: &str, version: &str, kind: &str) -> String {
    let text = format!("{group}/{version}/{kind}");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

/// The served versions of a definition.
fn resources(definition: &Value, home: &Arc<Home>) -> Vec<Resource> {
    let spec = definition.at("spec");
    let names = spec.at("names");
    let strings =
        |key: &str| names.list(key).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    let group = spec.text("group");
    let mut out = Vec::new();
    let served = || spec.list("versions").iter().filter(|v| v.flag("served") == Some(true));
    let stored = served().find(|v| v.flag("storage") == Some(true));
    let storage_hash =
        stored.map_or(String::new(), |v| storage_hash(group, v.text("name"), names.text("kind")));
    for version in served() {
        let name = version.text("name");
        let subs = version.at("subresources");
        let Some(conversion) = &home.conversion else { continue };
        let custom = CustomVersion::new(definition, version, conversion.clone());
        let sub = |sub: &str, kind: &str, group: &str, version: &str| Subresource {
            name: sub.to_owned(),
            kind: kind.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            verbs: ["get", "patch", "update"].map(str::to_owned).to_vec(),
        };
        let mut subresources = Vec::new();
        if subs.has("status") {
            subresources.push(sub("status", names.text("kind"), "", ""));
        }
        if subs.has("scale") {
            subresources.push(sub("scale", "Scale", "autoscaling", "v1"));
        }
        let api_version = format!("{group}/{name}");
        out.push(Resource {
            group: group.to_owned(),
            version: name.to_owned(),
            name: names.text("plural").to_owned(),
            singular: names.text("singular").to_owned(),
            kind: names.text("kind").to_owned(),
            list_kind: names.text("listKind").to_owned(),
            namespaced: home.namespaced,
            verbs: VERBS.map(str::to_owned).to_vec(),
            short_names: strings("shortNames"),
            categories: strings("categories"),
            storage_hash: storage_hash.clone(),
            subresources,
            strategy: &CUSTOM,
            home: Some(home.clone()),
            custom: Some(Arc::new(custom)),
            prefix: Resource::prefix_of(names.text("kind"), &api_version),
        });
    }
    out
}

/// What all custom resources have in common.
static CUSTOM: resources::Strategy =
    resources::Strategy { unconditional_update: false, ..resources::Strategy::BASE };

pub fn scale_paths(version: &Value) -> Option<ScalePaths> {
    let scale = version.at("subresources").at("scale");
    let path = |key: &str| scale.text(key).trim_start_matches('.').to_owned();
    scale.is_object().then(|| ScalePaths {
        replicas: path("specReplicasPath"),
        status_replicas: path("statusReplicasPath"),
        selector: path("labelSelectorPath"),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn storage_versions_have_upstreams_hash() {
        // as upstream's discovery shows it for pods
        assert_eq!(super::storage_hash("", "v1", "Pod"), "xPOwRZ+Yhw8=");
    }
}
