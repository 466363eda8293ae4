//! IngressClasses.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::generation_by_spec;
use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "networking.k8s.io",
    kind: "IngressClass",
    default: |obj, _| {
        if obj.at("spec").has("parameters") {
            obj.child("spec").child("parameters").set_default("scope", "Cluster");
        }
    },
    prepare_create: |obj, _| super::first_generation(obj),
    prepare_update: |new, old, _| generation_by_spec(new, old),
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        let at = Path::new("spec").child("controller");
        let controller = |class: &Value| class.at("spec").text("controller").into();
        errors.immutable(&at, &controller(new), &controller(old));
        errors.extend(validate(new));
        errors
    },
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Controller", "string", "", 0, "Controller that is responsible for handling this class"),
    ("Parameters", "string", "", 0, "A reference to a resource with additional parameters"),
    ("Age", "string", "", 0, CREATED),
];

fn validate(obj: &Value) -> ErrorList {
    const CONTROLLER_MAX: usize = 250;
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let controller = spec.text("controller");
    if controller.len() > CONTROLLER_MAX {
        errors.too_long(&at.child("controller"), CONTROLLER_MAX);
    }
    check::domain_prefixed_path(controller, &at.child("controller"), &mut errors);
    if spec.has("parameters") {
        parameters(spec.at("parameters"), &at.child("parameters"), &mut errors);
    }
    errors
}

fn parameters(reference: &Value, at: &Path, errors: &mut ErrorList) {
    super::typed_reference(reference, at, errors);
    let namespace_at = at.child("namespace");
    match (reference.at("scope").as_str(), reference.at("namespace").as_str()) {
        (None, _) => errors.required(&at.child("scope"), ""),
        (Some("Namespace"), None) => {
            errors.required(&namespace_at, "`parameters.scope` is set to 'Namespace'");
        }
        (Some("Namespace"), Some(namespace)) => {
            errors.each(&namespace_at, namespace, names::label_name(namespace, false));
        }
        (Some("Cluster"), Some(_)) => {
            errors.forbidden(&namespace_at, "`parameters.scope` is set to 'Cluster'");
        }
        (Some("Cluster"), None) => {}
        (Some(scope), _) => errors.unsupported(&at.child("scope"), scope, &["Cluster", "Namespace"]),
    }
}

fn cells(class: &Value, now: Timestamp) -> Vec<Value> {
    let (meta, spec) = (class.at("metadata"), class.at("spec"));
    let mut name = meta.text("name").to_owned();
    if meta.at("annotations").text("ingressclass.kubernetes.io/is-default-class") == "true" {
        name.push_str(" (default)");
    }
    let reference = spec.at("parameters");
    let mut shown = String::from("<none>");
    if !reference.is_null() {
        shown = reference.text("kind").to_owned();
        if let Some(group) = reference.at("apiGroup").as_str() {
            shown = format!("{shown}.{group}");
        }
        shown = format!("{shown}/{}", reference.text("name"));
    }
    vec![name.into(), spec.text("controller").into(), shown.into(), age(class, now)]
}
