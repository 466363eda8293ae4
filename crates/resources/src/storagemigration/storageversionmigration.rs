//! StorageVersionMigrations.

use jiff::Timestamp;
use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, GroupResource, Value};
use serde_json::json;

use crate::check::{self, Errors, IMMUTABLE};
use crate::columns::{NAME, name};
use crate::objectmeta::{self, keep};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "storagemigration.k8s.io",
    kind: "StorageVersionMigration",
    prepare_create: |obj, _| obj.set("status", json!({})),
    prepare_update: |new, old, context| {
        keep(new, old, if context.subresource == "status" { "spec" } else { "status" });
    },
    validate: |obj, _| validate(obj),
    validate_update: |new, old, context| {
        if context.subresource == "status" {
            let mut errors = objectmeta::validate_update(new, old);
            status(new.at("status"), old.at("status"), &mut errors);
            return errors;
        }
        let mut errors = validate(new);
        errors.extend(objectmeta::validate_update(new, old));
        let kind = "storagemigration.StorageVersionMigrationSpec";
        errors.immutable_as(kind, &Path::new("spec"), new.at("spec"), old.at("spec"));
        errors
    },
    unconditional_update: false,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "", 0, NAME),
    ("Resource", "string", "", 0, "GroupResource to migrate"),
    ("Status", "string", "", 0, "Status of the migration"),
];

fn cells(obj: &Value, _: Timestamp) -> Vec<Value> {
    let resource = obj.at("spec").at("resource");
    let shown = GroupResource::new(resource.text("group"), resource.text("resource")).to_string();
    let states = obj.at("status").list("conditions").iter().filter(|c| c.text("status") == "True");
    let state = states.map(|c| c.text("type")).rfind(|t| matches!(*t, "Running" | "Failed" | "Succeeded"));
    vec![name(obj), shown.into(), state.unwrap_or("Unknown").into()]
}

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let (resource, at) = (obj.at("spec").at("resource"), Path::new("spec").child("resource"));
    let (name, group) = (resource.text("resource"), resource.text("group"));
    let mut check = |field: &str, text: &str, messages: Vec<String>| {
        if !messages.is_empty() {
            errors.invalid(&at.child(field), text, messages.join(","));
        }
    };
    if !name.is_empty() {
        check("resource", name, names::dns1035_label(name));
    }
    if !group.is_empty() {
        check("group", group, names::dns1123_subdomain(group));
    }
    if name.is_empty() {
        let error = Error::required(&at.child("resource"), "resource is required to be set");
        let after_metadata = errors.iter().position(|e| e.field.as_str().starts_with("spec"));
        errors.insert(after_metadata.unwrap_or(errors.len()), error);
    }
    errors
}

fn status(status: &Value, old: &Value, errors: &mut ErrorList) {
    let at = Path::new("status");
    let (now, before) = (status.text("resourceVersion"), old.text("resourceVersion"));
    let well_formed = now.bytes().all(|b| b.is_ascii_digit()) && !now.starts_with('0');
    if !now.is_empty() && !well_formed {
        let detail = format!("resource version is not well formed: {now}");
        errors.invalid(&at.child("resourceVersion"), now, detail);
    }
    let conditions = status.list("conditions");
    check::conditions(conditions, &at.child("conditions"), errors);
    if !before.is_empty() && before != now {
        errors.invalid(&at.child("resourceVersion"), now, IMMUTABLE);
    }
    let is = |status: &Value, kind: &str| {
        let found = status.list("conditions").iter().find(|c| c.text("type") == kind);
        found.is_some_and(|c| c.text("status") == "True")
    };
    let mut wrong = |detail: &str| {
        let fields = ["type", "status", "observedGeneration", "lastTransitionTime", "reason", "message"];
        let shown: Vec<String> = conditions.iter().map(|c| check::shown(c, &fields)).collect();
        errors.invalid_shown(&at.child("conditions"), format!("[{}]", shown.join(",")), detail);
    };
    if is(status, "Succeeded") && is(status, "Failed") {
        wrong("Both success and failed conditions cannot be true at the same time");
    }
    if is(old, "Succeeded") && !is(status, "Succeeded") {
        wrong("Success condition cannot be set to false once it is true");
    }
    if is(old, "Failed") && !is(status, "Failed") {
        wrong("Failed condition cannot be set to false once it is true");
    }
}
