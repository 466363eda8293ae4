//! Leases.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "coordination.k8s.io",
    kind: "Lease",
    prepare_create: |obj, context| drop_disabled(obj, None, context),
    prepare_update: |new, old, context| drop_disabled(new, Some(old), context),
    validate: |obj, _| {
        let mut errors = objectmeta::validate_generic(obj, true, names::subdomain_name);
        spec(obj.at("spec"), &mut errors);
        errors
    },
    validate_update: |new, old, _| {
        let mut errors = objectmeta::generic_update(new, old);
        spec(new.at("spec"), &mut errors);
        errors
    },
    create_on_update: true,
    unconditional_update: false,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), obj.at("spec").text("holderIdentity").into(), age(obj, now)],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Holder",
        "string",
        "",
        0,
        "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn drop_disabled(obj: &mut Value, old: Option<&Value>, context: &Context) {
    if context.enabled("CoordinatedLeaderElection") {
        return;
    }
    for field in ["strategy", "preferredHolder"] {
        if !old.is_some_and(|old| old.at("spec").has(field)) {
            obj.child("spec").unset(field);
        }
    }
}

fn spec(spec: &Value, errors: &mut ErrorList) {
    let at = Path::new("spec");
    if let Some(seconds) = spec.int("leaseDurationSeconds").filter(|s| *s <= 0) {
        errors.invalid(&at.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    errors.not_negative(&at.child("leaseTransitions"), spec.int("leaseTransitions"));
    if let Some(strategy) = spec.at("strategy").as_str() {
        super::election(strategy, &at.child("strategy"), errors);
    }
    if !spec.text("preferredHolder").is_empty() && spec.text("strategy").is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.forbidden(&at.child("preferredHolder"), detail);
    }
}
