//! Namespaces.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value, json};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::keep;
use crate::pod::defaults::text;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "Namespace",
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    selectable: &["name", "status.phase"],
    select: |obj, field| match field {
        "name" => obj.at("metadata").text("name").to_owned(),
        _ => obj.at("status").text("phase").to_owned(),
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), obj.at("status").text("phase").into(), age(obj, now)],
        conditions: no_conditions,
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]]), ("finalize", &[&["status"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Status", "string", "", 0, "The status of the namespace"),
    ("Age", "string", "", 0, CREATED),
];

fn default(obj: &mut Value, _: &Context) {
    let name = obj.at("metadata").text("name").to_owned();
    if !name.is_empty() {
        obj.child("metadata").child("labels").set("kubernetes.io/metadata.name", name);
    }
    text(obj.child("status"), "phase", "Active");
}

fn prepare_create(obj: &mut Value, context: &Context) {
    obj.set("status", json!({"phase": "Active"}));
    let spec = obj.child("spec");
    if !spec.list("finalizers").iter().any(|f| f == "kubernetes") {
        let mut finalizers = spec.list("finalizers").to_vec();
        finalizers.push("kubernetes".into());
        spec.set("finalizers", finalizers);
    }
    default(obj, context);
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    match context.subresource {
        "status" => keep(new, old, "spec"),
        "finalize" => keep(new, old, "status"),
        _ => {
            keep(new.child("spec"), old.at("spec"), "finalizers");
            keep(new, old, "status");
        }
    }
}

fn validate(obj: &Value, _: &Context) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::label_name);
    let at = Path::new("spec").child("finalizers");
    for finalizer in obj.at("spec").list("finalizers").iter().filter_map(Value::as_str) {
        self::finalizer(finalizer, &at, &mut errors);
    }
    errors
}

fn finalizer(name: &str, at: &Path, errors: &mut ErrorList) {
    errors.each(at, name, names::qualified_name(name));
    objectmeta::kube_finalizer(name, at, errors);
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let meta = || objectmeta::validate_update(new, old);
    match context.subresource {
        "status" => {
            let mut errors = meta();
            let want = if new.at("metadata").has("deletionTimestamp") { "Terminating" } else { "Active" };
            let phase = new.at("status").text("phase");
            if phase != want {
                let when = if want == "Active" { "is empty" } else { "is not empty" };
                let detail = format!("may only be '{want}' if `deletionTimestamp` {when}");
                errors.invalid(&Path::new("status").child("Phase"), phase, detail);
            }
            errors
        }
        "finalize" => {
            let mut errors = meta();
            let at = Path::new("spec").child("finalizers");
            for (i, name) in new.at("spec").list("finalizers").iter().enumerate() {
                finalizer(name.as_str().unwrap_or(""), &at.index(i), &mut errors);
            }
            errors
        }
        _ => {
            let mut errors = validate(new, context);
            errors.extend(meta());
            errors
        }
    }
}
