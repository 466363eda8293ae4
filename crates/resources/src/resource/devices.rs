//! What a slice offers: devices, their attributes, capacities, taints and counters.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::allocation::binding_conditions;
use super::common::{self as own, list, set, shortened};
use super::{capacity, taint};
use crate::check::{Errors, same};
use crate::internal;
use crate::names;
use crate::pod::plugins::csi_driver;
use crate::pod::scheduling::node_selector;

/// Longest key of attributes and capacities: a domain, a slash, an identifier.
const KEY_MAX: usize = 63 + 1 + 32;

/// The spec of a slice, in the shape of v1; `old` is null for a new one.
pub(super) fn spec(spec: &Value, old: &Value, at: &Path, errors: &mut ErrorList) {
    csi_driver(spec.text("driver"), &at.child("driver"), errors);
    pool(spec.at("pool"), &at.child("pool"), errors);
    if old.is_object() {
        let name = |spec: &Value| spec.at("pool").text("name").into();
        errors.immutable(&at.child("pool").child("name"), &name(spec), &name(old));
        for field in ["driver", "nodeName"] {
            errors.immutable(&at.child(field), spec.at(field), old.at(field));
        }
    }
    let mut given = where_usable(spec, at, errors, "must be either unset or set to a non-empty string", true);
    match spec.flag("perDeviceNodeSelection") {
        Some(true) => given.push("`perDeviceNodeSelection`"),
        Some(false) => {
            let detail = "must be either unset or set to true";
            errors.invalid(&at.child("perDeviceNodeSelection"), false, detail);
        }
        None => {}
    }
    let rule = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 => errors.required(at, rule),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            errors.invalid(at, shown, format!("{rule}, but multiple fields are set"));
        }
    }
    let devices = spec.list("devices");
    if spec.has("sharedCounters") && spec.has("devices") {
        errors.invalid(at, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let lists = |device: &Value| {
        let attributes = device.map("attributes").into_iter().flatten();
        attributes.into_iter().any(|(_, v)| LISTS.iter().any(|(field, _)| v.has(field)))
    };
    let advanced = devices
        .iter()
        .any(|d| !d.list("taints").is_empty() || !d.list("consumesCounters").is_empty() || lists(d));
    let max = if advanced { 64 } else { 128 };
    let per_device = spec.flag("perDeviceNodeSelection") == Some(true);
    let key = |d: &Value| d.text("name").into();
    set(devices, Some(max), key, &at.child("devices"), errors, |device, at, errors| {
        let before = old.list("devices").iter().find(|d| d.text("name") == device.text("name"));
        check(device, before, per_device, at, errors);
    });
    let sets = spec.list("sharedCounters");
    set(
        sets,
        Some(8),
        |s| s.text("name").into(),
        &at.child("sharedCounters"),
        errors,
        |set, at, errors| {
            counters(set, "name", at, errors);
        },
    );
}

fn pool(pool: &Value, at: &Path, errors: &mut ErrorList) {
    own::pool(pool.text("name"), &at.child("name"), errors);
    let number = |field: &str| pool.int(field).unwrap_or(0);
    let slices = number("resourceSliceCount");
    if slices <= 0 {
        errors.invalid(&at.child("resourceSliceCount"), slices, "must be greater than zero");
    }
    let generation = number("generation");
    if generation < 0 {
        errors.invalid(&at.child("generation"), generation, "must be greater than or equal to zero");
    }
}

/// Node name, node selector, all nodes: the names of those that are set.
fn where_usable(
    of: &Value,
    at: &Path,
    errors: &mut ErrorList,
    empty: &str,
    one_term: bool,
) -> Vec<&'static str> {
    let mut given = Vec::new();
    match of.at("nodeName").as_str() {
        Some("") => errors.invalid(&at.child("nodeName"), "", empty),
        Some(name) => {
            given.push("`nodeName`");
            errors.each(&at.child("nodeName"), name, names::subdomain_name(name, false));
        }
        None => {}
    }
    let selector = of.at("nodeSelector");
    if selector.is_object() {
        given.push("`nodeSelector`");
        let at = at.child("nodeSelector");
        node_selector(selector, false, &at, errors);
        let terms = selector.list("nodeSelectorTerms");
        if one_term && terms.len() != 1 {
            let shown: Vec<String> =
                terms.iter().map(|t| internal::compact("core.NodeSelectorTerm", t)).collect();
            let shown = if terms.is_empty() { "null".into() } else { format!("[{}]", shown.join(",")) };
            let detail = "must have exactly one node selector term";
            errors.invalid_shown(&at.child("nodeSelectorTerms"), shown, detail);
        }
    }
    match of.flag("allNodes") {
        Some(true) => given.push("`allNodes`"),
        Some(false) => {
            errors.invalid(&at.child("allNodes"), false, "must be either unset or set to true");
        }
        None => {}
    }
    given
}

fn check(device: &Value, old: Option<&Value>, per_device: bool, at: &Path, errors: &mut ErrorList) {
    own::label(device.text("name"), &at.child("name"), errors);
    let count = |field: &str| device.map(field).map_or(0, |m| m.len());
    let all = count("attributes") + count("capacity");
    if all > 32 {
        let detail = "the total number of attributes and capacities must not exceed 32";
        errors.invalid(at, all, detail);
    }
    let values: usize = device.map("attributes").into_iter().flatten().map(|(_, v)| values(v)).sum();
    if values > 48 {
        errors.invalid(at, values, "the total number of attribute values must not exceed 48");
    }
    each_key(device, "attributes", at, errors, attribute);
    let shared = device.flag("allowMultipleAllocations") == Some(true);
    each_key(device, "capacity", at, errors, |capacity, at, errors| {
        if !capacity.has("requestPolicy") {
            return;
        }
        let at = at.child("requestPolicy");
        if shared {
            capacity::request_policy(capacity, &at, errors);
        } else {
            errors.forbidden(&at, "allowMultipleAllocations must be true");
        }
    });
    if !old.is_some_and(|old| same(old.at("taints"), device.at("taints"))) {
        list(device.list("taints"), 16, &at.child("taints"), errors, |each, at, errors| {
            taint(each, &Value::Null, at, errors);
        });
    }
    let used = device.list("consumesCounters");
    let key = |c: &Value| c.text("counterSet").into();
    set(used, Some(2), key, &at.child("consumesCounters"), errors, |used, at, errors| {
        counters(used, "counterSet", at, errors);
    });
    placement(device, per_device, at, errors);
    binding_conditions(device, at, errors);
}

fn placement(device: &Value, per_device: bool, at: &Path, errors: &mut ErrorList) {
    if !per_device {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.has(field)) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.invalid(at, Value::Null, detail);
        }
        return;
    }
    let given = where_usable(device, at, errors, "must not be empty", false);
    let rule = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match given.len() {
        0 => errors.required(at, rule),
        1 => {}
        _ => errors.invalid(at, format!("{{{}}}", given.join(", ")), rule),
    }
}

fn each_key(
    device: &Value,
    field: &str,
    at: &Path,
    errors: &mut ErrorList,
    mut check: impl FnMut(&Value, &Path, &mut ErrorList),
) {
    let at = at.child(field);
    for (key, value) in device.map(field).into_iter().flatten() {
        own::qualified(key, &at, errors);
        check(value, &at.key(&shortened(key, KEY_MAX)), errors);
    }
}

/// A set of counters, or the use of one; `name` is the field with the set's name.
fn counters(set: &Value, name: &str, at: &Path, errors: &mut ErrorList) {
    match set.text(name) {
        "" => errors.required(&at.child(name), ""),
        text => own::label(text, &at.child(name), errors),
    }
    let at = at.child("counters");
    let Some(counters) = set.map("counters").filter(|m| !m.is_empty()) else {
        return errors.required(&at, "");
    };
    if counters.len() > 32 {
        return errors.too_many(&at, counters.len(), 32);
    }
    for key in counters.keys() {
        own::label(key, &at, errors);
    }
}

/// (list of values, the single value of that type)
const LISTS: &[(&str, &str)] =
    &[("bools", "bool"), ("ints", "int"), ("strings", "string"), ("versions", "version")];

/// How many values an attribute has.
fn values(attribute: &Value) -> usize {
    LISTS.iter().map(|(many, _)| attribute.list(many).len()).sum::<usize>().max(1)
}

fn attribute(attribute: &Value, at: &Path, errors: &mut ErrorList) {
    for (_, one) in LISTS {
        single(one, attribute.at(one), &at.child(one), errors);
    }
    for (many, one) in LISTS {
        if !attribute.has(many) {
            continue;
        }
        let items = attribute.list(many);
        if items.is_empty() {
            errors.invalid(&at.child(many), attribute.at(many).clone(), "must not be empty if specified");
        }
        for (i, item) in items.iter().enumerate() {
            single(one, item, &at.child(many).index(i), errors);
        }
    }
    let given = LISTS.iter().flat_map(|(many, one)| [many, one]).filter(|f| attribute.has(f)).count();
    match given {
        0 => errors.invalid(at, "", "exactly one value must be specified"),
        1 => {}
        _ => {
            let shown = internal::compact("resource.DeviceAttribute", attribute);
            errors.invalid_shown(at, shown, "exactly one value must be specified");
        }
    }
}

fn single(kind: &str, value: &Value, at: &Path, errors: &mut ErrorList) {
    let Some(text) = value.as_str() else { return };
    if kind == "version" && !is_semver(text) {
        errors.invalid(at, text, "must be a string compatible with semver.org spec 2.0.0");
    }
    if text.len() > 64 {
        errors.too_long(at, 64);
    }
}

/// <https://semver.org/spec/v2.0.0.html>
fn is_semver(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(t, b)| (t, Some(b)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(t, p)| (t, Some(p)));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let number = |s: &str| digits(s) && (s == "0" || !s.starts_with('0'));
    let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|p| p.split('.').all(|s| word(s) && (!digits(s) || number(s))))
        && build.is_none_or(|b| b.split('.').all(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["1.2.3", "0.0.0-alpha.1", "1.0.0-x-y+build.01"] {
            assert!(is_semver(good), "{good}");
        }
        for bad in ["1.2", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3"] {
            assert!(!is_semver(bad), "{bad}");
        }
    }
}
