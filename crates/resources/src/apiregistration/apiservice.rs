//! APIServices.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, keep};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    default: |obj, _| {
        if obj.at("spec").has("service") {
            obj.child("spec").child("service").set_default("port", 443);
        }
    },
    prepare_create,
    prepare_update: |new, old, context| {
        if context.subresource != "status" {
            return keep(new, old, "status");
        }
        keep(new, old, "spec");
        let before = old.at("metadata").clone();
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            keep(new.child("metadata"), &before, field);
        }
    },
    validate: |obj, _| validate(obj),
    validate_update: |new, old, context| {
        let mut errors = objectmeta::generic_update(new, old);
        if context.subresource == "status" {
            statuses(new, &mut errors);
        } else {
            errors.extend(validate(new));
        }
        errors
    },
    unconditional_update: false,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Service", "string", "", 0, "The reference to the service that hosts this API endpoint."),
    ("Available", "string", "", 0, "Whether this service is available."),
    ("Age", "string", "", 0, CREATED),
];

fn prepare_create(obj: &mut Value, context: &Context) {
    let mut status = json!({});
    if !obj.at("spec").has("service") {
        let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        status.set(
            "conditions",
            json!([{
                "type": "Available", "status": "True", "lastTransitionTime": now,
                "reason": "Local", "message": "Local APIServices are always available",
            }]),
        );
    }
    obj.set("status", status);
}

fn validate(obj: &Value) -> ErrorList {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let (group, version) = (spec.text("group"), spec.text("version"));
    let mut errors = objectmeta::validate_generic(obj, false, names::path_segment);
    let wanted = format!("{version}.{group}");
    let why = format!("must be `spec.version+\".\"+spec.group`: {}", json!(wanted));
    objectmeta::exact_name(
        obj,
        &wanted,
        &why,
        |name| names::path_segment(name, false).is_empty(),
        &mut errors,
    );
    if group.is_empty() && version != "v1" {
        errors.required(&at.child("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        errors.each(&at.child("group"), group, names::dns1123_subdomain(group));
    }
    errors.each(&at.child("version"), version, names::dns1035_label(version));
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.int(field).unwrap_or(0);
        if priority <= 0 || priority > max {
            errors.invalid(&at.child(field), priority, format!("must be positive and less than {max}"));
        }
    }
    let insecure = spec.flag("insecureSkipTLSVerify") == Some(true);
    let bundle = spec.text("caBundle");
    if !spec.has("service") {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.trim_end_matches('=').len() * 3 / 4);
            errors.invalid(&at.child("caBundle"), shown, "local APIServices may not have a caBundle");
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&at.child("insecureSkipTLSVerify"), true, detail);
        }
        return errors;
    }
    service(spec.at("service"), &at.child("service"), &mut errors);
    if insecure && !bundle.is_empty() {
        let detail = "may not be true if caBundle is present";
        errors.invalid(&at.child("insecureSkipTLSVerify"), true, detail);
    }
    errors
}

fn service(service: &Value, at: &Path, errors: &mut ErrorList) {
    for field in ["namespace", "name"] {
        if service.text(field).is_empty() {
            errors.required(&at.child(field), "");
        }
    }
    let port = service.int("port").unwrap_or(0);
    let messages = names::port_number(port);
    if !messages.is_empty() {
        errors.invalid(&at.child("port"), port, format!("port is not valid: {}", messages.join(", ")));
    }
}

fn statuses(obj: &Value, errors: &mut ErrorList) {
    for (i, condition) in obj.at("status").list("conditions").iter().enumerate() {
        let at = Path::new("status").child("conditions").index(i).child("status");
        errors.one_of(&at, condition.text("status"), &["True", "False", "Unknown"]);
    }
}

fn cells(api: &Value, now: Timestamp) -> Vec<Value> {
    let service = api.at("spec").at("service");
    let shown = match service {
        Value::Null => "Local".into(),
        _ => format!("{}/{}", service.text("namespace"), service.text("name")),
    };
    let available = api.at("status").list("conditions").iter().find(|c| c.text("type") == "Available");
    let available = available.map_or("Unknown".to_owned(), |c| match (c.text("status"), c.text("reason")) {
        ("True", _) => "True".into(),
        (status, "") => status.into(),
        (status, reason) => format!("{status} ({reason})"),
    });
    vec![name(api), shown.into(), available.into(), age(api, now)]
}
