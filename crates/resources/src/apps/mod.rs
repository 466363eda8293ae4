//! `apps`: workloads that run pods for ever.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::Context;
use crate::check::Errors;
use crate::objectmeta::{generation_by_spec, keep};
use crate::pod::{disabled, warnings};

pub(crate) mod controllerrevision;
pub(crate) mod daemonset;
pub(crate) mod deployment;
pub(crate) mod replicaset;
pub(crate) mod statefulset;

/// Takes out of the pod template what the features that are off would bring.
pub(crate) fn drop_disabled(new: &mut Value, old: &Value, context: &Context) {
    let before = old.at("spec").at("template").at("spec");
    let template = new.child_if("spec").and_then(|spec| spec.child_if("template"));
    if let Some(pod) = template.and_then(|template| template.child_if("spec")) {
        disabled::drop(pod, before, context);
    }
}

/// Upstream counts these kinds' replicas in a plain number, which is never absent.
pub(crate) fn no_replicas(obj: &mut Value) {
    obj.child("spec").set("replicas", 0);
}

/// A new workload: no status yet, first generation.
pub(crate) fn prepare_create(obj: &mut Value, context: &Context) {
    drop_disabled(obj, &Value::Null, context);
    obj.set("status", serde_json::json!({}));
    obj.child("metadata").set("generation", 1);
}

/// Spec and status apart; the generation counts changes of the spec.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource == "status" {
        keep(new, old, "spec");
    } else {
        drop_disabled(new, old, context);
        keep(new, old, "status");
        generation_by_spec(new, old);
    }
}

/// None of these numbers in `status` is negative.
pub(crate) fn counts(status: &Value, fields: &[&str], errors: &mut ErrorList) {
    for field in fields {
        errors.not_negative(&Path::new("status").child(field), status.int(field));
    }
}

/// None of these numbers is greater than `of`, which messages name so.
pub(crate) fn within(status: &Value, fields: &[&str], of: &str, shown: &str, errors: &mut ErrorList) {
    let most = status.int(of).unwrap_or(0);
    for field in fields {
        let value = status.int(field).unwrap_or(0);
        if value > most {
            errors.invalid(
                &Path::new("status").child(field),
                value,
                format!("cannot be greater than {shown}"),
            );
        }
    }
}

pub(crate) fn collisions_not_decremented(new: &Value, old: &Value, errors: &mut ErrorList) {
    let count = |obj: &Value| obj.at("status").int("collisionCount");
    let Some(before) = count(old) else { return };
    let now = count(new).unwrap_or(0);
    if now < before {
        errors.invalid(&Path::new("status").child("collisionCount"), now, "cannot be decremented");
    }
}

/// Warnings about `spec.template`; on an update only if the generation changed.
pub(crate) fn template_warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let generation = |obj: &Value| obj.at("metadata").int("generation");
    if old.is_some_and(|old| context.subresource == "status" || generation(new) == generation(old)) {
        return Vec::new();
    }
    warnings::warnings(new.at("spec").at("template"), &Path::new("spec").child("template"))
}

/// As [`template_warnings`], with one about names that pods' names are made of.
pub(crate) fn named_warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() {
        out.extend(warnings::name(new.at("metadata").text("name"), "Pod names and hostnames"));
    }
    out.extend(template_warnings(new, old, context));
    out
}
