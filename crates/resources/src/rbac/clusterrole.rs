//! ClusterRoles.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{GROUP, rbac_name, rules};
use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: GROUP,
    create_on_update: true,
    kind: "ClusterRole",
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = validate(new);
        errors.extend(objectmeta::validate_update(new, old));
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, _| vec![name(obj), obj.at("metadata").at("creationTimestamp").clone()],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Created At", "date", "", 0, CREATED)];

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, rbac_name);
    rules(obj.list("rules"), false, &mut errors);
    let aggregation = obj.at("aggregationRule");
    if !aggregation.is_object() {
        return errors;
    }
    let at = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = aggregation.list("clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&at, detail);
    }
    for (i, selector) in selectors.iter().enumerate() {
        let at = at.index(i);
        let before = errors.len();
        check::label_selector(selector, &at, &mut errors);
        if errors.len() > before {
            errors.invalid(&at, Value::Null, "invalid label selector.");
        }
    }
    errors
}
