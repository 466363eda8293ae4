//! RuntimeClasses.

use std::collections::BTreeSet;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age, name};
use crate::gostruct::{Field, Zero, show};
use crate::pod::{requirements, scheduling, warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta, quantity};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    default: |obj, _| {
        if obj.has("overhead") {
            quantity::round_up(obj.child("overhead"), "podFixed");
        }
    },
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = validate(new);
        errors.extend(objectmeta::generic_update(new, old));
        errors.immutable(&Path::new("handler"), new.at("handler"), old.at("handler"));
        errors
    },
    warnings: |new, _, _| {
        let labels = new.at("scheduling").map("nodeSelector").into_iter().flatten();
        labels
            .filter_map(|(key, _)| warnings::node_label(key))
            .map(|m| format!("scheduling.nodeSelector: {m}"))
            .collect()
    },
    create_on_update: true,
    unconditional_update: false,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), obj.text("handler").into(), age(obj, now)],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Handler", "string", "", 0, ""),
    ("Age", "string", "", 0, CREATED),
];

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate_generic(obj, false, names::subdomain_name);
    match obj.text("handler") {
        "" => errors.required(&Path::new("handler"), ""),
        handler => errors.each(&Path::new("handler"), handler, names::dns1123_label(handler)),
    }
    if obj.has("overhead") {
        let limits = json!({"limits": obj.at("overhead").at("podFixed")});
        requirements::container(&limits, &[], &Path::new("overhead"), &mut errors);
    }
    let (rules, at) = (obj.at("scheduling"), Path::new("scheduling"));
    check::labels(rules.at("nodeSelector"), &at.child("nodeSelector"), &mut errors);
    tolerations(rules.list("tolerations"), &at.child("tolerations"), &mut errors);
    errors
}

fn tolerations(tolerations: &[Value], at: &Path, errors: &mut ErrorList) {
    const SHOWN: &[Field] = &[
        ("Key", "key", Zero::Text),
        ("Operator", "operator", Zero::Text),
        ("Value", "value", Zero::Text),
        ("Effect", "effect", Zero::Text),
        ("TolerationSeconds", "tolerationSeconds", Zero::Null),
    ];
    scheduling::tolerations(tolerations, false, at, errors);
    let mut seen = BTreeSet::new();
    for (i, toleration) in tolerations.iter().enumerate() {
        if !seen.insert(["key", "operator", "value", "effect"].map(|f| toleration.text(f))) {
            errors.duplicate_shown(&at.index(i), show(toleration, SHOWN));
        }
    }
}
