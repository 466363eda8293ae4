//! PodDisruptionBudgets.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age, name, number};
use crate::gostruct::{self, Field, Zero, show_with};
use crate::{Column, Columns, Context, Strategy, apps, intstr};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "policy",
    kind: "PodDisruptionBudget",
    prepare_create: apps::prepare_create,
    prepare_update: apps::prepare_update,
    validate: |obj, _| {
        let mut errors = ErrorList::new();
        spec(obj.at("spec"), false, &mut errors);
        errors
    },
    validate_update,
    unconditional_update: false,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| {
            let amount = |field: &str| -> Value {
                match obj.at("spec").at(field) {
                    Value::Null => "N/A".into(),
                    Value::String(s) => s.as_str().into(),
                    other => other.to_string().into(),
                }
            };
            vec![
                name(obj),
                amount("minAvailable"),
                amount("maxUnavailable"),
                number(obj.at("status"), "disruptionsAllowed"),
                age(obj, now),
            ]
        },
        conditions: crate::strategy::no_conditions,
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Min Available", "string", "", 0, "The minimum number of pods that must be available."),
    ("Max Unavailable", "string", "", 0, "The maximum number of pods that may be unavailable."),
    (
        "Allowed Disruptions",
        "integer",
        "",
        0,
        "Calculated number of pods that may be disrupted at this time.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = ErrorList::new();
    if context.subresource == "status" {
        let status = new.at("status");
        check::conditions(status.list("conditions"), &Path::new("status").child("conditions"), &mut errors);
        apps::counts(
            status,
            &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"],
            &mut errors,
        );
        return errors;
    }
    let mut before = ErrorList::new();
    check::label_selector(old.at("spec").at("selector"), &Path::new("selector"), &mut before);
    spec(new.at("spec"), !before.is_empty(), &mut errors);
    errors
}

fn spec(spec: &Value, lax_selector: bool, errors: &mut ErrorList) {
    let at = Path::new("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        errors.invalid_shown(&at, shown(spec), "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if spec.has(field) {
            intstr::not_negative(spec.at(field), &at.child(field), errors);
            intstr::at_most_all(spec.at(field), &at.child(field), errors);
        }
    }
    check::label_selector_with(spec.at("selector"), &at.child("selector"), lax_selector, errors);
    if let Some(policy) = spec.at("unhealthyPodEvictionPolicy").as_str() {
        errors.one_of(&at.child("unhealthyPodEvictionPolicy"), policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
}

fn shown(spec: &Value) -> String {
    const FIELDS: &[Field] = &[
        ("MinAvailable", "minAvailable", Zero::Null),
        ("Selector", "selector", Zero::Null),
        ("MaxUnavailable", "maxUnavailable", Zero::Null),
        ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy", Zero::Null),
    ];
    show_with(spec, FIELDS, |field, value| match field {
        "selector" => gostruct::label_selector(value),
        _ => value.to_string(),
    })
}
