//! How much of a shared device's capacity a request may ask for.

use std::cmp::Ordering;

use machinery::field::{ErrorList, Path};
use machinery::quantity::Quantity;
use machinery::{Get, Value};

use super::common::set;
use crate::check::Errors;

/// The request policy of a capacity.
pub(super) fn request_policy(capacity: &Value, at: &Path, errors: &mut ErrorList) {
    let (policy, most) = (capacity.at("requestPolicy"), Quantity::of(capacity.at("value")));
    let (values, range) = (policy.list("validValues"), policy.at("validRange"));
    let default = policy.has("default").then(|| Quantity::of(policy.at("default")));
    match (values.is_empty(), range.is_object(), default) {
        (false, true, _) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.forbidden(at, detail);
        }
        (true, false, _) => {}
        (false, _, None) => errors.required(&at.child("default"), "required when validValues is defined"),
        (_, true, None) => errors.required(&at.child("default"), "required when validRange is defined"),
        (false, _, Some(default)) => discrete(values, &default, &most, &at.child("validValues"), errors),
        (_, true, Some(default)) => between(range, &default, &most, &at.child("validRange"), errors),
    }
}

fn discrete(values: &[Value], default: &Quantity, most: &Quantity, at: &Path, errors: &mut ErrorList) {
    for (i, pair) in values.windows(2).enumerate() {
        let next = Quantity::of(&pair[1]);
        if Quantity::of(&pair[0]).compare(&next) == Ordering::Greater {
            errors.invalid(&at.index(i + 1), next.to_string(), "values must be sorted in ascending order");
        }
    }
    let mut found = false;
    let key = |v: &Value| Quantity::of(v).value().to_string().into();
    set(values, Some(10), key, at, errors, |value, at, errors| {
        let value = Quantity::of(value);
        if value.compare(most) == Ordering::Greater {
            let detail = format!("option is larger than capacity value: {most}");
            errors.invalid(at, value.to_string(), detail);
        }
        found |= value.compare(default) == Ordering::Equal;
    });
    if !found {
        let detail = "default value is not valid according to the requestPolicy";
        errors.invalid(at, default.to_string(), detail);
    }
}

fn between(range: &Value, default: &Quantity, most: &Quantity, at: &Path, errors: &mut ErrorList) {
    let get = |field: &str| range.has(field).then(|| Quantity::of(range.at(field)));
    let larger = |a: &Quantity, b: &Quantity| a.compare(b) == Ordering::Greater;
    let Some(min) = get("min") else {
        return errors.required(&at.child("min"), "required when validRange is defined");
    };
    let mut wrong = |field: &str, value: &Quantity, detail: String| {
        errors.invalid(&at.child(field), value.to_string(), detail);
    };
    if larger(&min, most) {
        wrong("min", &min, format!("min is larger than capacity value: {most}"));
    }
    if larger(&min, default) {
        wrong("min", default, format!("default is less than min: {min}"));
    }
    let max = get("max");
    if let Some(max) = &max {
        if larger(&min, max) {
            wrong("max", &min, format!("min is larger than max: {max}"));
        }
        if larger(max, most) {
            wrong("max", max, format!("max is larger than capacity value: {most}"));
        }
        if larger(default, max) {
            wrong("max", default, format!("default is more than max: {max}"));
        }
    }
    let Some(step) = get("step") else { return };
    let first = min.add(&step);
    if larger(&first, most) {
        wrong("step", &step, format!("one step {first} is larger than capacity value: {most}"));
    }
    for value in [Some(default), max.as_ref()].into_iter().flatten() {
        let above = value.value().wrapping_sub(min.value());
        if above.checked_rem(step.value()).is_some_and(|rest| rest != 0) {
            wrong("step", value, format!("value is not a multiple of a given step ({step}) from ({min})"));
        }
    }
}
