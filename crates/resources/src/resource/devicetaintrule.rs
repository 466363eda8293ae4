//! DeviceTaintRules.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::common;
use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age, name, since};
use crate::objectmeta::{self, generation_by_spec, keep};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "DeviceTaintRule",
    default: |obj, context| super::default_taint(obj.child("spec").child("taint"), context.now),
    prepare_create: |obj, _| {
        obj.set("status", json!({}));
        obj.child("metadata").set("generation", 1);
    },
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
        } else {
            keep(new, old, "status");
            let (taint, before) = (new.at("spec").at("taint"), old.at("spec").at("taint"));
            let renewed = taint.text("effect") != before.text("effect")
                && taint.text("timeAdded") == before.text("timeAdded");
            if renewed {
                new.child("spec").child("taint").set("timeAdded", super::seconds(context.now));
            }
            generation_by_spec(new, old);
        }
    },
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
        spec(obj.at("spec"), &Value::Null, &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource == "status" {
            let (conditions, at) =
                (new.at("status").list("conditions"), Path::new("status").child("conditions"));
            check::conditions(conditions, &at, &mut errors);
            if conditions.len() > 8 {
                errors.too_many(&at, conditions.len(), 8);
            }
        } else {
            spec(new.at("spec"), old.at("spec"), &mut errors);
        }
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| {
            let taint = obj.at("spec").at("taint");
            let added = taint.text("timeAdded");
            let added = if added.is_empty() { String::new() } else { since(added, now) };
            let text = |field: &str| taint.text(field).into();
            vec![name(obj), text("key"), text("value"), text("effect"), added.into(), age(obj, now)]
        },
        conditions: no_conditions,
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Key", "string", "", 0, "The taint key to be applied to a device. Must be a label name."),
    ("Value", "string", "", 0, "The taint value corresponding to the taint key. Must be a label value."),
    (
        "Effect",
        "string",
        "",
        0,
        "The effect of the taint on claims that do not tolerate the taint and through such claims on the pods using them.\n\nValid effects are None, NoSchedule and NoExecute. PreferNoSchedule as used for nodes is not valid here. More effects may get added in the future. Consumers must treat unknown effects like None.",
    ),
    (
        "TimeAdded",
        "string",
        "",
        0,
        "TimeAdded represents the time at which the taint was added or (only in a DeviceTaintRule) the effect was modified. Added automatically during create or update if not set.\n\nIn addition, in a DeviceTaintRule a value provided during an update gets replaced with the current time if the provided value is the same as the old one and the new effect is different. Changing the key and/or value while keeping the effect unchanged is possible and does not update the time stamp because the eviction which uses it is either already started (NoExecute) or not started yet (NoEffect, NoSchedule).",
    ),
    ("Age", "string", "", 0, CREATED),
];

/// `old` is null for a new rule.
fn spec(spec: &Value, old: &Value, errors: &mut ErrorList) {
    let (selector, at) = (spec.at("deviceSelector"), Path::new("spec").child("deviceSelector"));
    if let Some(driver) = selector.at("driver").as_str() {
        crate::pod::plugins::csi_driver(driver, &at.child("driver"), errors);
    }
    if let Some(pool) = selector.at("pool").as_str() {
        common::pool(pool, &at.child("pool"), errors);
    }
    if let Some(device) = selector.at("device").as_str() {
        common::label(device, &at.child("device"), errors);
    }
    super::taint(spec.at("taint"), old.at("taint"), &Path::new("spec").child("taint"), errors);
}
