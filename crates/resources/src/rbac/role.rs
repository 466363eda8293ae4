//! Roles.

use machinery::{Get, Value};

use super::{GROUP, rbac_name, rules};
use crate::columns::{CREATED, NAME, name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: GROUP,
    create_on_update: true,
    kind: "Role",
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = validate(new);
        errors.extend(objectmeta::validate_update(new, old));
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        // upstream's answer has the time itself
        cells: |obj, _| vec![name(obj), obj.at("metadata").at("creationTimestamp").clone()],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Created At", "date", "", 0, CREATED)];

fn validate(obj: &Value) -> machinery::field::ErrorList {
    let mut errors = objectmeta::validate(obj, true, rbac_name);
    rules(obj.list("rules"), true, &mut errors);
    errors
}
