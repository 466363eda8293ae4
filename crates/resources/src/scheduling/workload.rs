//! Workloads.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::group;
use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::declared::{changed, immutable, required, short_name, unique};
use crate::objectmeta;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "scheduling.k8s.io",
    kind: "Workload",
    prepare_create: |obj, context| drop_disabled(obj, &Value::Null, context),
    prepare_update: drop_disabled,
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
        spec(obj.at("spec"), None, &mut errors);
        errors
    },
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        spec(new.at("spec"), Some(old.at("spec")), &mut errors);
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), age(obj, now)],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Age", "string", "", 0, CREATED)];

fn drop_disabled(new: &mut Value, old: &Value, context: &Context) {
    let before = old.at("spec").list("podGroupTemplates");
    for (i, template) in new.child("spec").list_mut("podGroupTemplates").iter_mut().enumerate() {
        group::drop_disabled(template, before.get(i).unwrap_or(&Value::Null), context);
    }
}

fn spec(spec: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let at = Path::new("spec");
    let (controller, before) = (spec.at("controllerRef"), old.map(|old| old.at("controllerRef")));
    let frozen = immutable(controller, before, &at.child("controllerRef"), errors);
    if !frozen && changed(controller, before) && controller.is_object() {
        let at = at.child("controllerRef");
        let group = controller.text("apiGroup");
        if !group.is_empty() {
            errors.each(&at.child("apiGroup"), group, names::dns1123_subdomain(group));
        }
        for field in ["kind", "name"] {
            let rule = |text: &str| names::path_segment(text, false);
            required(controller.text(field), &at.child(field), errors, rule);
        }
    }
    let field = "podGroupTemplates";
    let (templates, at) = (spec.list(field), at.child(field));
    if old.is_some_and(|old| !changed(spec.at(field), Some(old.at(field)))) {
        return;
    }
    let mut bad = immutable(spec.at(field), old.map(|old| old.at(field)), &at, errors);
    if templates.len() > 8 {
        errors.too_many(&at, templates.len(), 8);
        bad = true;
    }
    if templates.is_empty() {
        errors.required(&at, "");
        bad = true;
    }
    if bad {
        return;
    }
    unique(templates, "name", &["name", "schedulingPolicy", "schedulingConstraints"], &at, errors);
    for (i, template) in templates.iter().enumerate() {
        let at = at.index(i);
        short_name(template.text("name"), &at.child("name"), errors);
        group::policy(template.at("schedulingPolicy"), None, &at.child("schedulingPolicy"), errors);
        group::constraints(template.at("schedulingConstraints"), &at.child("schedulingConstraints"), errors);
        group::claims(template.list("resourceClaims"), &at.child("resourceClaims"), errors);
        group::priority(template, &at, errors);
    }
}
