//! PriorityClasses.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name, number};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta};

/// Above are the priorities of the system's own classes.
const USER_MAX: i64 = 1_000_000_000;

/// (name, value)
const SYSTEM: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    default: |obj, _| {
        obj.set_default("preemptionPolicy", "PreemptLowerPriority");
        obj.set_default("value", 0);
    },
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        if new.int("value") != old.int("value") {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let field = "preemptionPolicy";
        errors.immutable(&Path::new(field), new.at(field), old.at(field));
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| {
            let default = obj.flag("globalDefault").unwrap_or(false);
            vec![
                name(obj),
                number(obj, "value"),
                default.into(),
                age(obj, now),
                obj.text("preemptionPolicy").into(),
            ]
        },
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Value",
        "integer",
        "",
        0,
        "value represents the integer value of this priority class. This is the actual priority that pods receive when they have the name of this class in their pod spec.",
    ),
    (
        "Global-Default",
        "boolean",
        "",
        0,
        "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class. Only one PriorityClass can be marked as `globalDefault`. However, if more than one PriorityClasses exists with their `globalDefault` field set to true, the smallest value of such global default PriorityClasses will be used as the default priority.",
    ),
    ("Age", "string", "", 0, CREATED),
    (
        "PreemptionPolicy",
        "string",
        "",
        0,
        "preemptionPolicy is the Policy for preempting pods with lower priority. One of Never, PreemptLowerPriority. Defaults to PreemptLowerPriority if unset.",
    ),
];

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let (name, value) = (obj.at("metadata").text("name"), obj.int("value").unwrap_or(0));
    if name.starts_with("system-") {
        if let Some(error) = not_a_system_class(name, value, obj.flag("globalDefault") == Some(true)) {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {error}"
            );
            errors.forbidden(&Path::new("metadata").child("name"), detail);
        }
    } else if value > USER_MAX {
        let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
        errors.forbidden(&Path::new("value"), detail);
    }
    if let Some(policy) = obj.at("preemptionPolicy").as_str() {
        let known = ["PreemptLowerPriority", "Never"];
        match policy {
            "" => errors.required(&Path::new("preemptionPolicy"), ""),
            _ => errors.one_of(&Path::new("preemptionPolicy"), policy, &known),
        }
    }
    errors
}

fn not_a_system_class(name: &str, value: i64, default: bool) -> Option<String> {
    let Some((_, right)) = SYSTEM.iter().find(|(n, _)| *n == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if value != *right {
        return Some(format!("value of {name} PriorityClass must be {right}"));
    }
    default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
