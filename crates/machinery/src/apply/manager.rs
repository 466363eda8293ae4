//! The field manager: what an operation does to the managers of an object's fields.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::compare::{Comparison, compare, same};
use super::managers::{self, Conflict, Fields, Identity, Managed, Managers};
use super::merge::merge;
use super::node::Node;
use super::set::{Filter, Set};
use super::walk;
use crate::codec::json as codec;
use crate::gvk::{GroupVersion, GroupVersionKind};
use crate::meta;
use crate::schema::{self, Schema};
use crate::status::{Cause, Details, Status};
use crate::value::Get;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Annotations may not be larger than this, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The type of an object.
#[derive(Clone, Copy)]
pub enum Typed<'a> {
    Schema(&'a Schema),
    /// A custom resource without a schema.
    Deduced,
}

/// The other API versions of a kind.
pub trait Convert {
    /// The object as it is at another `apiVersion`, in normal form.
    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, ConvertError>;
    /// The type of the kind at that version.
    fn typed(&self, api_version: &str) -> Option<Typed<'_>>;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// There is no such version (any more): its managers are forgotten.
    #[error("no such version")]
    Missing,
    #[error("{0}")]
    Failed(String),
}

/// A kind with one version.
#[derive(Clone, Copy, Debug)]
pub struct OneVersion;

impl Convert for OneVersion {
    fn convert(&self, _: &Value, _: &str) -> Result<Value, ConvertError> {
        Err(ConvertError::Missing)
    }

    fn typed(&self, _: &str) -> Option<Typed<'_>> {
        None
    }
}

/// Why an apply patch cannot be applied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", managers::conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// 400
    #[error("{0}")]
    Bad(String),
    /// 500: upstream returns these errors bare, those of typing the patch too.
    #[error("{0}")]
    Failed(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Conflicts(conflicts) => {
                let cause = |c: &Conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", c.manager),
                    field: c.path.clone(),
                };
                let causes = conflicts.iter().map(cause).collect();
                let mut status = Status::new(409, "Conflict", message);
                status.details = Some(Details { causes, ..Details::default() });
                status
            }
            Error::Bad(_) => Status::bad_request(message),
            Error::Failed(_) => Status::new(500, "", message),
        }
    }
}

/// One request's view: a kind at a version, a subresource, the time.
#[derive(Clone, Copy)]
pub struct FieldManager<'a> {
    pub typed: Typed<'a>,
    pub gvk: &'a GroupVersionKind,
    /// "" for the resource itself.
    pub subresource: &'a str,
    /// By `apiVersion`: the fields that this operation may own; versions without one: all.
    pub filters: &'a BTreeMap<String, Filter>,
    pub convert: &'a dyn Convert,
    /// RFC 3339 in UTC, whole seconds.
    pub now: &'a str,
}

impl FieldManager<'_> {
    /// The new object with its managed fields after a create (`live`: an empty object), an update or a patch.
    /// What fails here (an object that is not of its type) leaves the object without managed fields, as upstream.
    pub fn update(&self, live: &Value, mut new: Value, manager: &str) -> Value {
        let blank = self.blank_for(live);
        let live = blank.as_ref().unwrap_or(live);
        let managed = self.managed_of(live, take_managed(&mut new));
        // before tracking began: an object that was never tracked stays so until it is applied
        if managed.is_empty() && !meta::uid(live).is_empty() {
            return new;
        }
        match self.track(live, &new, managed, manager) {
            Ok(managed) => set_managed(&mut new, managed),
            Err(_) => drop(take_managed(&mut new)),
        }
        new
    }

    /// The object that results from applying a configuration, with managed fields; neither defaulted nor validated.
    /// `live` is an empty object when the object is to be created. `force`: take over what others manage.
    pub fn apply(&self, live: &Value, patch: &Value, manager: &str, force: bool) -> Result<Value, Error> {
        let blank = self.blank_for(live);
        let live = blank.as_ref().unwrap_or(live);
        self.check_kind(patch)?;
        let managed = || {
            managers::read(live.at("metadata").list("managedFields").to_vec())
                .map_err(|e| Error::Failed(format!("failed to decode managed fields: {e}")))
        };
        let mut result = self.apply_once(live, patch, managed()?, manager, force);
        if let (Err(Error::Conflicts(conflicts)), "kubectl") = (&result, manager) {
            // the client that applied before server-side apply takes its own fields over without conflict
            if let Some(own) = self.last_applied_fields(live) {
                let rest: Vec<Conflict> =
                    conflicts.iter().filter(|c| !own.has(&c.elements)).cloned().collect();
                result = match rest.is_empty() {
                    true => self.apply_once(live, patch, managed()?, manager, true),
                    false => Err(Error::Conflicts(rest)),
                };
            }
        }
        let (mut object, managed) = result?;
        if manager == "kubectl" && !object.at("metadata").at("annotations").text(LAST_APPLIED).is_empty() {
            set_last_applied(&mut object, patch);
        }
        set_managed(&mut object, managed);
        Ok(object)
    }

    /// What upstream starts from where there is nothing yet.
    fn blank_for(&self, live: &Value) -> Option<Value> {
        live.as_object().is_none_or(serde_json::Map::is_empty).then(|| self.blank())
    }

    fn blank(&self) -> Value {
        let mut blank = json!({"apiVersion": self.api_version(), "kind": self.gvk.kind});
        if let Typed::Schema(schema) = self.typed {
            schema::normalize(schema, &mut blank);
        }
        blank
    }

    fn check_kind(&self, patch: &Value) -> Result<(), Error> {
        let given =
            GroupVersion::parse(patch.text("apiVersion")).map_err(Error::Bad)?.kind(patch.text("kind"));
        if given != *self.gvk {
            return Err(Error::Bad(format!("invalid object type: {given}")));
        }
        if patch.at("metadata").has("managedFields") {
            return Err(Error::Bad("metadata.managedFields must be nil".into()));
        }
        Ok(())
    }

    fn node(&self) -> Node<'_> {
        node_of(self.typed)
    }

    fn api_version(&self) -> String {
        self.gvk.api_version()
    }

    /// `given`: the new object's entries, null if it has none.
    fn managed_of(&self, live: &Value, given: Value) -> Managers {
        let stored = live.at("metadata").list("managedFields");
        let of_live = || managers::read(stored.to_vec()).unwrap_or_default();
        // most writes bring back what they have read
        let given = match given {
            Value::Array(entries) if !entries.is_empty() && entries == stored => {
                return managers::read(entries).unwrap_or_default();
            }
            given => given,
        };
        // a subresource's body may not change who manages the object
        if !self.subresource.is_empty() {
            return of_live();
        }
        if managers::is_reset(&given) {
            return Managers::new();
        }
        match managers::decode(given.as_array().map_or(&[], Vec::as_slice)) {
            Ok(managed) if !managed.is_empty() => managed,
            _ => of_live(),
        }
    }

    /// The managers after a change from one object to another.
    fn track(&self, live: &Value, new: &Value, managed: Managers, manager: &str) -> Result<Managers, String> {
        let (node, version) = (self.node(), self.api_version());
        for (what, object) in [("new", new), ("live", live)] {
            if let Err(errors) = walk::validate(node, object, true) {
                let errors = walk::show(&errors);
                return Err(format!(
                    "failed to convert {what} object ({}) to smd typed: {errors}",
                    self.name(object)
                ));
            }
        }
        let managed = self.reconcile(live, managed)?;
        let (mut managed, comparison) = match self.settle(live, new, managed, None, true) {
            Ok(done) => done,
            Err(Settle::Conflicts(_)) => return Err("conflicts although forced".into()),
            Err(Settle::Failed(error)) => return Err(error),
        };
        let mut set = comparison.modified;
        set.add(comparison.added);
        if let Some(filter) = self.filters.get(&version) {
            set = filter.apply(set);
        }
        set.remove(strip_set());
        if !set.is_empty() {
            let name = if manager.is_empty() { "unknown" } else { manager };
            let identity = Identity::new(name, false, &version, self.subresource);
            let time = Some(self.now.to_owned());
            match managed.get_mut(&identity) {
                Some(own) => {
                    own.fields.add(set);
                    (own.api_version, own.time) = (version, time);
                }
                None => {
                    let fields = Fields::Set(set);
                    managed.insert(identity, Managed { fields, api_version: version, time });
                }
            }
        }
        managers::cap(&mut managed);
        Ok(managed)
    }

    fn apply_once(
        &self,
        live: &Value,
        patch: &Value,
        mut managed: Managers,
        manager: &str,
        force: bool,
    ) -> Result<(Value, Managers), Error> {
        let (node, version) = (self.node(), self.api_version());
        if managed.is_empty() {
            managed = self
                .track(&self.blank(), live, managed, BEFORE_FIRST_APPLY)
                .map_err(|e| Error::Failed(format!("failed to create manager for existing fields: {e}")))?;
        }
        for (what, object, duplicates) in [("patch", patch, false), ("live", live, true)] {
            if let Err(errors) = walk::validate(node, object, duplicates) {
                let (name, errors) = (self.name(object), walk::show(&errors));
                return Err(Error::Failed(format!(
                    "failed to create typed {what} object ({name}): {errors}"
                )));
            }
        }
        let mut managed = self.reconcile(live, managed).map_err(Error::Failed)?;
        let merged = merge(node, live, patch)
            .map_err(|e| Error::Failed(format!("failed to merge config: {}", walk::show(&e))))?;
        let name = if manager.is_empty() { "unknown" } else { manager };
        let identity = Identity::new(name, true, &version, self.subresource);
        let mut set = walk::field_set(node, patch);
        if let Some(filter) = self.filters.get(&version) {
            set = filter.apply(set);
        }
        let last =
            managed.remove(&identity).map(|last| (last.fields.into_set(), last.api_version, last.time));
        // what was applied before and is not any more may have to go
        let dropped =
            last.as_ref().filter(|(before, at, _)| *at != version || !before.difference(&set).is_empty());
        let dropped = dropped.map(|(before, at, _)| (before.clone(), at.clone()));
        let time = last.and_then(|(_, _, time)| time);
        managed.insert(identity.clone(), Managed { fields: Fields::Set(set), api_version: version, time });
        let merged = match &dropped {
            Some((before, at)) if !before.is_empty() => self
                .prune(merged, &managed, before, at)
                .map_err(|e| Error::Failed(format!("failed to prune fields: {e}")))?,
            _ => merged,
        };
        let (mut managed, _) = match self.settle(live, &merged, managed, Some(&identity), force) {
            Ok(done) => done,
            Err(Settle::Conflicts(conflicts)) => return Err(Error::Conflicts(conflicts)),
            Err(Settle::Failed(error)) => return Err(Error::Failed(error)),
        };
        let changed = !same(live, &merged);
        if let Some(own) = managed.get_mut(&identity) {
            let mut set = std::mem::replace(&mut own.fields, Fields::Read(Value::Null)).into_set();
            set.remove(strip_set());
            let empty = set.is_empty();
            own.fields = Fields::Set(set);
            if empty {
                managed.remove(&identity);
            } else if changed {
                own.time = Some(self.now.to_owned());
            }
        }
        if !changed {
            return Ok((live.clone(), managed));
        }
        let object = match self.typed {
            Typed::Schema(schema) if schema.as_struct().is_some_and(|s| s.id.is_some()) => {
                codec::convert_changed(schema, Some(live), merged, false)
                    .map_err(|e| Error::Failed(e.to_string()))?
                    .value
            }
            _ => merged,
        };
        Ok((object, managed))
    }

    /// Takes changed fields from the managers who lose them. `own`: the applier, who does not.
    fn settle(
        &self,
        live: &Value,
        new: &Value,
        mut managed: Managers,
        own: Option<&Identity>,
        force: bool,
    ) -> Result<(Managers, Comparison), Settle> {
        let version = self.api_version();
        let comparison = compare(self.node(), live, new).filtered(self.filters.get(&version));
        let mut others: BTreeMap<String, Option<Comparison>> = BTreeMap::new();
        let mut conflicts = Vec::new();
        let mut left: Vec<(Identity, Set)> = Vec::new();
        let mut missing = Vec::new();
        for (identity, managed) in managed.iter().filter(|(identity, _)| own != Some(identity)) {
            let at_version = if managed.api_version == version {
                &comparison
            } else {
                let key = managed.api_version.clone();
                if !others.contains_key(&key) {
                    let found = self.compare_at(live, new, &key).map_err(Settle::Failed)?;
                    others.insert(key.clone(), found);
                }
                match others.get(&key) {
                    Some(Some(found)) => found,
                    _ => {
                        missing.push(identity.clone());
                        continue;
                    }
                }
            };
            let sides = [&at_version.modified, &at_version.added, &at_version.removed];
            if !sides.iter().any(|side| managed.fields.have_any(side)) {
                continue;
            }
            let mut set = managed.fields.set().into_owned();
            let lost = set.intersection(&at_version.modified.union(&at_version.added));
            lost.for_each(&mut |path| conflicts.push(identity.conflict(path)));
            set.remove(&lost);
            set.remove(&at_version.removed);
            left.push((identity.clone(), set));
        }
        if !force && !conflicts.is_empty() {
            return Err(Settle::Conflicts(conflicts));
        }
        for identity in missing {
            managed.remove(&identity);
        }
        for (identity, set) in left {
            if let Some(of) = managed.get_mut(&identity) {
                of.fields = Fields::Set(set);
            }
        }
        managed.retain(|_, of| !of.fields.is_empty());
        Ok((managed, comparison))
    }

    /// None: there is no such version.
    fn compare_at(&self, live: &Value, new: &Value, version: &str) -> Result<Option<Comparison>, String> {
        let (Some(typed), Some(live), Some(new)) =
            (self.convert.typed(version), self.at_version(live, version)?, self.at_version(new, version)?)
        else {
            return Ok(None);
        };
        Ok(Some(compare(node_of(typed), &live, &new).filtered(self.filters.get(version))))
    }

    fn at_version(&self, object: &Value, version: &str) -> Result<Option<Value>, String> {
        if object.text("apiVersion") == version {
            return Ok(Some(object.clone()));
        }
        match self.convert.convert(object, version) {
            Ok(converted) => Ok(Some(converted)),
            Err(ConvertError::Missing) => Ok(None),
            Err(ConvertError::Failed(error)) => Err(error),
        }
    }

    fn typed_at(&self, version: &str) -> Option<Typed<'_>> {
        if version == self.api_version() { Some(self.typed) } else { self.convert.typed(version) }
    }

    /// Managers of versions that are no more are dropped; sets are fitted to today's schema.
    fn reconcile(&self, live: &Value, managed: Managers) -> Result<Managers, String> {
        let mut out = Managers::new();
        for (identity, mut of) in managed {
            let Some(typed) = self.typed_at(&of.api_version) else { continue };
            if of.api_version != self.api_version() && self.at_version(live, &of.api_version)?.is_none() {
                continue;
            }
            let fits = matches!(&of.fields, Fields::Read(fields) if walk::fits(node_of(typed), fields));
            if !fits && let Some(fitted) = walk::reconcile(node_of(typed), &of.fields.set()) {
                of.fields = Fields::Set(fitted);
            }
            out.insert(identity, of);
        }
        Ok(out)
    }

    /// Takes out what this manager applied last time and no longer does, unless somebody else owns it too.
    fn prune(&self, merged: Value, managed: &Managers, last: &Set, at: &str) -> Result<Value, String> {
        let Some(typed) = self.typed_at(at) else { return Ok(merged) };
        let Some(converted) = self.at_version(&merged, at)? else { return Ok(merged) };
        let node = node_of(typed);
        let named = |set: &Set| walk::with_named_fields(Some(node), set);
        let mut pruned = walk::remove_items(node, &converted, &named(last));
        // what anybody manages comes back, version by version, the last applied one first
        let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
        for of in managed.values() {
            by_version.entry(&of.api_version).or_default().add(of.fields.set().into_owned());
        }
        let mut versions: Vec<&str> = by_version.keys().copied().collect();
        versions.sort_by_key(|v| *v != at);
        for version in versions {
            pruned = self.add_back_owned(&merged, pruned, version, &by_version[version])?;
        }
        let Some(pruned) = self.at_version(&pruned, at)? else { return Ok(merged) };
        // and so does what this manager never had
        let in_pruned = named(&walk::field_set(node, &pruned));
        let in_merged = named(&walk::field_set(node, &converted));
        let gone = in_merged.difference(&in_pruned).intersection(&named(last));
        let result = walk::remove_items(node, &converted, &gone);
        Ok(self.at_version(&result, &self.api_version())?.unwrap_or(result))
    }

    fn add_back_owned(
        &self,
        merged: &Value,
        pruned: Value,
        version: &str,
        managed: &Set,
    ) -> Result<Value, String> {
        let Some(typed) = self.typed_at(version) else { return Ok(pruned) };
        let Some(merged) = self.at_version(merged, version)? else { return Ok(pruned) };
        let Some(pruned) = self.at_version(&pruned, version)? else { return Ok(pruned) };
        let node = node_of(typed);
        let named = |set: &Set| walk::with_named_fields(Some(node), set);
        let in_merged = named(&walk::field_set(node, &merged));
        let in_pruned = named(&walk::field_set(node, &pruned));
        let gone = in_merged.difference(&in_pruned.union(&named(managed)));
        Ok(walk::remove_items(node, &merged, &gone))
    }

    /// The fields that the last client-side apply set and that still are as it set them.
    fn last_applied_fields(&self, live: &Value) -> Option<Set> {
        let text = live.at("metadata").at("annotations").text(LAST_APPLIED);
        let applied = codec::decode_any(text.as_bytes()).ok()?;
        let node = self.node();
        let valid = |object: &Value| walk::validate(node, object, false).is_ok();
        if applied.text("apiVersion") != self.api_version() || !valid(live) || !valid(&applied) {
            return None;
        }
        let changes = compare(node, &applied, live);
        let fields = walk::field_set(node, &applied);
        Some(fields.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
    }

    fn name(&self, object: &Value) -> String {
        format!("{}/{}; {}", meta::namespace(object), meta::name(object), self.gvk)
    }
}

enum Settle {
    Conflicts(Vec<Conflict>),
    Failed(String),
}

fn node_of(typed: Typed<'_>) -> Node<'_> {
    match typed {
        Typed::Schema(schema) => Node::of(schema),
        Typed::Deduced => Node::Deduced,
    }
}

/// What nobody manages.
fn strip_set() -> &'static Set {
    static SET: std::sync::OnceLock<Set> = std::sync::OnceLock::new();
    SET.get_or_init(|| {
        let metadata = |name| ["metadata", name];
        let names =
            ["name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation"];
        let more = ["managedFields", "resourceVersion"];
        let below: Vec<[&str; 2]> = names.into_iter().chain(more).map(metadata).collect();
        let top: [&[&str]; 3] = [&["apiVersion"], &["kind"], &["metadata"]];
        let all: Vec<&[&str]> = top.into_iter().chain(below.iter().map(|p| &p[..])).collect();
        Set::of_fields(&all)
    })
}

/// Null if there are none.
fn take_managed(object: &mut Value) -> Value {
    object.child_if("metadata").and_then(|metadata| metadata.unset("managedFields")).unwrap_or_default()
}

fn set_managed(object: &mut Value, managed: Managers) {
    if managed.is_empty() {
        drop(take_managed(object));
    } else {
        object.child("metadata").set("managedFields", managers::encode(managed));
    }
}

/// Notes the configuration for clients that still apply on their side.
fn set_last_applied(object: &mut Value, patch: &Value) {
    let mut config = patch.clone();
    if let Some(annotations) = config.child_if("metadata").and_then(|m| m.child_if("annotations")) {
        annotations.unset(LAST_APPLIED);
    }
    let mut text = Vec::new();
    codec::encode_any(&config, &mut text);
    text.push(b'\n');
    let text = String::from_utf8_lossy(&text).into_owned();
    let annotations = object.child("metadata").child("annotations");
    annotations.set(LAST_APPLIED, text);
    let size = |map: &serde_json::Map<String, Value>| -> usize {
        map.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum()
    };
    if annotations.as_object().is_some_and(|map| size(map) > MAX_ANNOTATIONS) {
        annotations.unset(LAST_APPLIED);
    }
}

/// An update that would change nothing but the times of managed fields keeps the old ones, and so is no update.
pub fn keep_times_if_same(live: &Value, new: &mut Value) {
    let (old, now) = (live.at("metadata").list("managedFields"), new.at("metadata").list("managedFields"));
    if old.is_empty() || old.len() != now.len() || old == now || !same_but_managers(live, new) {
        return;
    }
    let timeless = |entries: &[Value]| -> Vec<Value> {
        let mut entries = entries.to_vec();
        for entry in &mut entries {
            entry.unset("time");
        }
        entries.sort_by_cached_key(Value::to_string);
        entries
    };
    if timeless(old) == timeless(now) {
        new.child("metadata").set("managedFields", old.to_vec());
    }
}

/// Are two objects the same but for their managed fields, which both have?
fn same_but_managers(a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return false };
    let fields = |of: &serde_json::Map<String, Value>, other: &serde_json::Map<String, Value>, skip: &str| {
        let alike =
            |(key, value): (&String, &Value)| key == skip || other.get(key).is_some_and(|o| same(value, o));
        of.len() == other.len() && of.iter().all(alike)
    };
    let metadata = match (a.get("metadata"), b.get("metadata")) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => fields(a, b, "managedFields"),
        _ => false,
    };
    metadata && fields(a, b, "metadata")
}
