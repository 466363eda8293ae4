//! ServiceAccounts.

use machinery::{Get, Value, json};

use crate::columns::{CREATED, NAME, age, name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "ServiceAccount",
    prepare_create: |new, _| clean(new),
    prepare_update: |new, _, _| clean(new),
    validate: |obj, _| objectmeta::validate(obj, true, names::subdomain_name),
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        errors.extend(objectmeta::validate(new, true, names::subdomain_name));
        errors
    },
    warnings,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), age(obj, now)],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Age", "string", "", 0, CREATED)];

/// Of a reference to a secret only the name counts.
fn clean(obj: &mut Value) {
    for secret in obj.list_mut("secrets") {
        *secret = json!({"name": secret.text("name")});
    }
}

fn warnings(new: &Value, old: Option<&Value>, _: &Context) -> Vec<String> {
    let key = "kubernetes.io/enforce-mountable-secrets";
    let has = |obj: &Value| obj.at("metadata").at("annotations").has(key);
    if has(new) && !old.is_some_and(has) {
        return vec![format!(
            "metadata.annotations[{key}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )];
    }
    Vec::new()
}
