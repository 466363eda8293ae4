//! ResourceClaims.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::{Errors, IMMUTABLE, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, keep};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, internal, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "ResourceClaim",
    default: |obj, _| super::default_claim(obj.child("spec")),
    prepare_create: |obj, _| obj.set("status", json!({})),
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
            super::allocation::drop_reports(new, old);
        } else {
            keep(new, old, "status");
        }
    },
    validate: |obj, context| {
        let obj = super::as_v1(obj, context, convert);
        let mut errors = objectmeta::validate(&obj, true, names::subdomain_name);
        super::claims::spec(obj.at("spec"), &Path::new("spec"), &mut errors);
        errors
    },
    validate_update,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), state(obj).into(), age(obj, now)],
        conditions: no_conditions,
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    storage: "v1",
    convert,
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("State", "string", "", 0, "A summary of the current state (allocated, pending, reserved, etc.)."),
    ("Age", "string", "", 0, CREATED),
];

fn convert(obj: &mut Value, from: &str, to: &str) {
    if obj.has("spec") {
        super::convert_claim(obj.child("spec"), from, to);
    }
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let (new, old) = (super::as_v1(new, context, convert), super::as_v1(old, context, convert));
    let (new, old) = (&*new, &*old);
    if context.subresource == "status" {
        let mut errors = objectmeta::validate_update(new, old);
        super::allocation::status(new, old, &mut errors);
        return errors;
    }
    let mut errors = objectmeta::validate(new, true, names::subdomain_name);
    errors.extend(objectmeta::validate_update(new, old));
    if !same(new.at("spec"), old.at("spec")) {
        let shown = internal::compact("resource.ResourceClaimSpec", new.at("spec"));
        errors.invalid_shown(&Path::new("spec"), shown, IMMUTABLE);
    }
    errors
}

fn state(claim: &Value) -> String {
    let deleted = claim.at("metadata").has("deletionTimestamp");
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    let status = claim.at("status");
    if status.has("allocation") {
        states.push("allocated");
        if !status.list("reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",")
}
