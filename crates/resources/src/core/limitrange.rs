//! LimitRanges.

use std::collections::BTreeSet;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{NAME, name};
use crate::pod::requirements::{container_resource_name, is_overcommit_allowed, resource_name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta, quantity};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "LimitRange",
    default: |obj, _| {
        for item in obj.child("spec").list_mut("limits") {
            default_item(item);
        }
    },
    prepare_create: |obj, _| {
        let meta = obj.child("metadata");
        if meta.text("name").is_empty() {
            let name = other_uuid(meta.text("uid"));
            meta.set("name", name);
        }
    },
    create_on_update: true,
    validate: |obj, _| validate(obj),
    validate_update: |new, _, _| validate(new),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, _| vec![name(obj), obj.at("metadata").at("creationTimestamp").clone()],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] =
    &[("Name", "string", "name", 0, NAME), ("Created At", "date", "", 0, crate::columns::CREATED)];

/// A UUID made from another: a LimitRange without a name is given one that nobody else has.
fn other_uuid(uid: &str) -> String {
    let turn = |(i, c): (usize, char)| match c.to_digit(16) {
        Some(digit) if i != 14 && i != 19 => char::from_digit(15 - digit, 16).unwrap_or(c),
        _ => c,
    };
    uid.chars().enumerate().map(turn).collect()
}

/// For containers: limits are the maximum, requests the limits or the minimum.
fn default_item(item: &mut Value) {
    if item.text("type") == "Container" {
        item.child("default");
        item.child("defaultRequest");
        let max = item.at("max").clone();
        quantity::fill(item, "default", &max);
        let limits = item.at("default").clone();
        quantity::fill(item, "defaultRequest", &limits);
        let min = item.at("min").clone();
        quantity::fill(item, "defaultRequest", &min);
    }
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        quantity::round_up(item, list);
    }
}

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    let limits = obj.at("spec").list("limits");
    let at = Path::new("spec").child("limits");
    for (i, item) in limits.iter().enumerate() {
        let at = at.index(i);
        let kind = item.text("type");
        type_name(kind, &at.child("type"), &mut errors);
        if limits[..i].iter().any(|other| other.text("type") == kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        self::item(item, &at, &mut errors);
    }
    errors
}

fn type_name(kind: &str, at: &Path, errors: &mut ErrorList) {
    let messages = names::qualified_name(kind);
    let good = messages.is_empty();
    errors.each(at, kind, messages);
    let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if good && !kind.contains('/') && !standard {
        errors.invalid(at, kind, "must be a standard limit type or fully qualified");
    }
}

fn item(item: &Value, at: &Path, errors: &mut ErrorList) {
    let kind = item.text("type");
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let some = item.map(list).is_some_and(|m| !m.is_empty());
        if kind == "Pod" && list.starts_with("default") {
            if some {
                errors.forbidden(&at.child(list), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        if list == "maxLimitRequestRatio" && kind == "PersistentVolumeClaim" {
            let has = |list: &str| item.at(list).has("storage");
            if !has("min") && !has("max") {
                let detail = "either minimum or maximum storage value is required, but neither was provided";
                errors.required(&at.child("limits"), detail);
            }
        }
        for (name, _) in item.map(list).into_iter().flatten() {
            let at = at.child(list).key(name);
            if matches!(kind, "Pod" | "Container") {
                container_resource_name(name, &at, errors);
            } else {
                resource_name(name, &at, errors);
            }
            keys.insert(name);
        }
    }
    for key in keys {
        amounts(item, key, at, errors);
    }
}

/// The five numbers of one resource together.
fn amounts(item: &Value, key: &str, at: &Path, errors: &mut ErrorList) {
    let found = |list: &str| {
        let defaults = item.text("type") == "Pod" && list.starts_with("default");
        let value = item.at(list).at(key);
        (!value.is_null() && !defaults).then_some(value)
    };
    let (min, max) = (found("min"), found("max"));
    let (limit, request, ratio) = (found("default"), found("defaultRequest"), found("maxLimitRequestRatio"));
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let mut more =
        |a: Option<&Value>, b: Option<&Value>, list: &str, shown: Option<&Value>, words: (&str, &str)| {
            if let (Some(a), Some(b), Some(shown)) = (a, b, shown)
                && quantity::of(a) > quantity::of(b)
            {
                let detail = format!("{} {} is greater than {} {}", words.0, text(a), words.1, text(b));
                errors.invalid(&at.child(list).key(key), shown.clone(), detail);
            }
        };
    more(min, max, "min", min, ("min value", "max value"));
    more(min, request, "defaultRequest", request, ("min value", "default request value"));
    more(request, max, "defaultRequest", request, ("default request value", "max value"));
    more(request, limit, "defaultRequest", request, ("default request value", "default limit value"));
    more(min, limit, "default", min, ("min value", "default value"));
    more(limit, max, "default", max, ("default value", "max value"));
    if let Some(ratio) = ratio {
        let at = at.child("maxLimitRequestRatio").key(key);
        let number = quantity::of(ratio);
        if number < quantity::ONE {
            errors.invalid(&at, ratio.clone(), format!("ratio {} is less than 1", text(ratio)));
        }
        if let (Some(min), Some(max)) = (min, max) {
            let most = quantity::of(max) as f64 / quantity::of(min) as f64;
            if number as f64 / quantity::ONE as f64 > most {
                let detail = format!("ratio {} is greater than max/min = {most:.6}", text(ratio));
                errors.invalid(&at, ratio.clone(), detail);
            }
        }
    }
    if let (Some(limit), Some(request)) = (limit, request)
        && !is_overcommit_allowed(key)
        && quantity::of(limit) != quantity::of(request)
    {
        let detail = format!(
            "default value {} must equal to defaultRequest value {} in {key}",
            text(limit),
            text(request)
        );
        errors.invalid(&at.child("defaultRequest").key(key), request.clone(), detail);
    }
}
