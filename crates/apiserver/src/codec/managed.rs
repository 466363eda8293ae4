//! managedFields: who owns what, by subresource and across the versions of a kind.

use std::collections::BTreeMap;

use machinery::apply::{
    Convert, ConvertError, Element, FieldManager, Filter, OneVersion, Set, Typed, keep_times_if_same, scale,
};
use machinery::{Get, GroupVersion, GroupVersionKind, Status, Value, json, schema};

use crate::kinds::{KindMap, Resource};
use crate::registry::{Call, fields};

/// The versions of a call's resource.
struct Versions<'a> {
    map: &'a KindMap,
    resource: &'a Resource,
}

impl Convert for Versions<'_> {
    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, ConvertError> {
        let to = GroupVersion::parse(api_version).map_err(ConvertError::Failed)?;
        let from = GroupVersion::parse(object.text("apiVersion")).map_err(ConvertError::Failed)?;
        let known = self.map.find(&to.group, &to.version, &self.resource.name);
        let (Some(target), true) = (known, to.group == self.resource.group) else {
            return Err(ConvertError::Missing);
        };
        let mut object = object.clone();
        if let Some(custom) = &target.custom {
            custom.convert(&mut object, api_version);
            return Ok(object);
        }
        (self.resource.strategy.convert)(&mut object, &from.version, &to.version);
        object.set("apiVersion", api_version);
        super::normalize(&target.gvk(), &mut object);
        Ok(object)
    }

    fn typed(&self, api_version: &str) -> Option<Typed<'_>> {
        if api_version == self.resource.api_version() {
            return Some(typed(self.resource, &self.resource.gvk()));
        }
        let gv = GroupVersion::parse(api_version).ok()?;
        schema::of_kind(&gv.kind(&*self.resource.kind)).map(Typed::Schema)
    }
}

fn typed<'a>(resource: &'a Resource, gvk: &GroupVersionKind) -> Typed<'a> {
    match &resource.custom {
        Some(custom) => custom.schema.as_ref().map_or(Typed::Deduced, Typed::Schema),
        None => schema::of_kind(gvk).map_or(Typed::Deduced, Typed::Schema),
    }
}

/// What a write through this subresource may own, at every served version.
fn filters(call: &Call, map: &KindMap) -> BTreeMap<String, Filter> {
    let strategy = call.resource.strategy;
    let sub = call.info.subresource.as_str();
    let custom_resets: &[&[&str]] = match &call.resource.custom {
        Some(custom) if custom.has_status && sub == "status" => &[&["spec"], &["metadata"]],
        Some(custom) if custom.has_status => &[&["status"]],
        _ => &[],
    };
    let only = strategy.writes_only.iter().find(|(s, _)| *s == sub).map(|(_, paths)| *paths);
    let resets = strategy.reset_paths(sub);
    let make = || match only {
        Some(paths) => {
            let element = |name: &&str| (*name != "*").then(|| Element::field(name));
            Some(Filter::Include(paths.iter().map(|p| p.iter().map(element).collect()).collect()))
        }
        None if !resets.is_empty() => Some(Filter::Exclude(Set::of_fields(resets))),
        None if !custom_resets.is_empty() => Some(Filter::Exclude(Set::of_fields(custom_resets))),
        None => None,
    };
    let Some(group) = map.groups.iter().find(|g| g.name == call.resource.group) else {
        return BTreeMap::new();
    };
    group
        .versions
        .iter()
        .filter_map(|v| Some((GroupVersion::new(&*group.name, &**v).to_string(), make()?)))
        .collect()
}

fn with_manager<T>(call: &Call, run: impl FnOnce(&FieldManager) -> T) -> T {
    let map = call.core.kinds.now();
    let gvk = call.resource.gvk();
    let filters = filters(call, &map);
    let now = fields::timestamp(call.now);
    let manager = FieldManager {
        typed: typed(&call.resource, &gvk),
        gvk: &gvk,
        subresource: &call.info.subresource,
        filters: &filters,
        convert: &Versions { map: &map, resource: &call.resource },
        now: &now,
    };
    run(&manager)
}

/// An object of the call's kind with nothing set, as its type writes it.
fn empty(call: &Call) -> Value {
    let mut object = json!({"kind": call.resource.kind, "apiVersion": call.resource.api_version()});
    if call.resource.custom.is_none() {
        super::normalize(&call.resource.gvk(), &mut object);
    }
    object
}

/// What a scale shows of an object's managed fields, what a change of the scale by a manager (or by applying a patch)
/// makes of them, and back in the object.
pub struct ScaleFields {
    paths: scale::Paths,
}

impl ScaleFields {
    /// `path`: where the replicas are (`["spec", "replicas"]`).
    pub fn new(call: &Call, path: &[&str]) -> Self {
        let map = call.core.kinds.now();
        let group = map.groups.iter().find(|g| g.name == call.resource.group);
        let versions = group.map(|g| g.versions.clone()).unwrap_or_default();
        let path: Vec<String> = path.iter().map(|p| (*p).to_owned()).collect();
        let key = |v: &String| GroupVersion::new(&*call.resource.group, &**v).to_string();
        Self { paths: versions.iter().map(|v| (key(v), path.clone())).collect() }
    }

    /// The entries for the scale of an object.
    pub fn shown(&self, object: &Value) -> Vec<Value> {
        scale::to_scale(object.at("metadata").list("managedFields"), &self.paths).unwrap_or_default()
    }

    /// The changed scale with its managed fields.
    pub fn track(&self, call: &Call, live: &Value, new: Value, manager: &str) -> Value {
        self.with(call, |fields| fields.update(live, new, manager))
    }

    pub fn apply(
        &self,
        call: &Call,
        live: &Value,
        patch: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, Status> {
        Ok(self.with(call, |fields| fields.apply(live, patch, manager, force))?)
    }

    /// The object's entries after its scale was changed.
    pub fn kept(&self, call: &Call, object: &Value, scale: &Value) -> Option<Vec<Value>> {
        let entries = object.at("metadata").list("managedFields");
        let scaled = scale.at("metadata").list("managedFields");
        scale::to_object(entries, scaled, &call.resource.api_version(), &self.paths).ok()
    }

    fn with<T>(&self, call: &Call, run: impl FnOnce(&FieldManager) -> T) -> T {
        let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
        let filters = BTreeMap::new();
        let now = fields::timestamp(call.now);
        let manager = FieldManager {
            typed: schema::of_kind(&gvk).map_or(Typed::Deduced, Typed::Schema),
            gvk: &gvk,
            subresource: "scale",
            filters: &filters,
            convert: &OneVersion,
            now: &now,
        };
        run(&manager)
    }
}

/// The same for a body of another kind than the call's resource (a TokenRequest).
pub fn managed_review(call: &Call, gvk: &GroupVersionKind, object: &mut Value, manager: &str) {
    let mut nothing = json!({"kind": gvk.kind, "apiVersion": gvk.api_version()});
    super::normalize(gvk, &mut nothing);
    super::normalize(gvk, object);
    let now = fields::timestamp(call.now);
    let filters = BTreeMap::new();
    let fields = FieldManager {
        typed: schema::of_kind(gvk).map_or(Typed::Deduced, Typed::Schema),
        gvk,
        subresource: &call.info.subresource,
        filters: &filters,
        convert: &OneVersion,
        now: &now,
    };
    let new = std::mem::take(object);
    *object = fields.update(&nothing, new, manager);
}

/// Records what a create (no live object) or update changed.
pub fn managed_update(call: &Call, live: Option<&Value>, object: &mut Value, manager: &str) {
    let nothing = empty(call);
    if call.resource.custom.is_none() {
        // An empty list asks to forget all managers; normalizing would make it none.
        let forget = object.at("metadata").get("managedFields").is_some_and(|given| *given == json!([]));
        super::normalize_unstored(&call.resource.gvk(), object);
        if forget {
            object.child("metadata").set("managedFields", json!([]));
        }
    }
    let new = std::mem::take(object);
    *object = with_manager(call, |fields| fields.update(live.unwrap_or(&nothing), new, manager));
}

pub fn managed_apply(
    call: &Call,
    live: &Value,
    patch: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, Status> {
    let nothing = empty(call);
    let live = if live.is_null() { &nothing } else { live };
    Ok(with_manager(call, |fields| fields.apply(live, patch, manager, force))?)
}

pub fn keep_times(old: &Value, new: &mut Value) {
    keep_times_if_same(old, new);
}
