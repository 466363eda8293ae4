//! managedFields: who owns what, by subresource and across the versions of a kind.

use std::collections::BTreeMap;

use machinery::apply::{
    Convert, ConvertError, Element, FieldManager, Filter, Set, Typed, keep_times_if_same,
};
use machinery::{Get, GroupVersion, GroupVersionKind, Status, Value, schema};

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

/// Records what a create (no live object) or update changed.
pub fn managed_update(call: &Call, live: Option<&Value>, object: &mut Value, manager: &str) {
    let nothing = machinery::json!({});
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
    let nothing = machinery::json!({});
    let live = if live.is_null() { &nothing } else { live };
    Ok(with_manager(call, |fields| fields.apply(live, patch, manager, force))?)
}

pub fn keep_times(old: &Value, new: &mut Value) {
    keep_times_if_same(old, new);
}
