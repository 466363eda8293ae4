//! What a claim asks for: requests, constraints between them, configuration.

use std::sync::OnceLock;

use cel::{DeclType, Env, Type, Version};
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::common::{self as own, list, set};
use crate::check::{Errors, label_name};
use crate::names;
use crate::pod::plugins::csi_driver;

const REQUESTS_MAX: usize = 32;
const NOT_A_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// The spec of a claim, in the shape of v1.
pub(super) fn spec(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let (devices, at) = (spec.at("devices"), at.child("devices"));
    set(
        devices.list("requests"),
        Some(REQUESTS_MAX),
        |r| r.text("name").into(),
        &at.child("requests"),
        errors,
        request,
    );
    list(devices.list("constraints"), 32, &at.child("constraints"), errors, |constraint, at, errors| {
        request_refs(constraint.list("requests"), devices, &at.child("requests"), errors);
        let name = |field: &str| constraint.at(field).as_str();
        if let Some(name) = name("matchAttribute") {
            own::fully_qualified(name, &at.child("matchAttribute"), errors);
        } else if let Some(name) = name("distinctAttribute") {
            own::fully_qualified(name, &at.child("distinctAttribute"), errors);
        } else {
            let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.required(at, detail);
        }
    });
    list(devices.list("config"), 32, &at.child("config"), errors, |config, at, errors| {
        request_refs(config.list("requests"), devices, &at.child("requests"), errors);
        configuration(config, false, at, errors);
    });
}

fn request(request: &Value, at: &Path, errors: &mut ErrorList) {
    own::label(request.text("name"), &at.child("name"), errors);
    let choices = request.list("firstAvailable");
    match (!choices.is_empty(), request.has("exactly")) {
        (false, false) => errors.required(at, "exactly one of `exactly` or `firstAvailable` is required"),
        (true, true) => {
            let detail =
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.invalid(at, Value::Null, detail);
        }
        (true, false) => {
            let at = at.child("firstAvailable");
            set(
                choices,
                Some(8),
                |c| c.text("name").into(),
                &at,
                errors,
                |choice, at, errors| {
                    own::label(choice.text("name"), &at.child("name"), errors);
                    exact(choice, at, errors);
                },
            );
        }
        (false, true) => exact(request.at("exactly"), &at.child("exactly"), errors),
    }
}

fn exact(request: &Value, at: &Path, errors: &mut ErrorList) {
    match request.text("deviceClassName") {
        "" => errors.required(&at.child("deviceClassName"), ""),
        name => errors.each(&at.child("deviceClassName"), name, names::dns1123_subdomain(name)),
    }
    selectors(request.list("selectors"), &at.child("selectors"), errors);
    let count = request.int("count").unwrap_or(0);
    match request.text("allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.invalid(&at.child("count"), count, detail);
        }
        "All" => {}
        "ExactCount" if count <= 0 => {
            errors.invalid(&at.child("count"), count, "must be greater than zero");
        }
        mode => errors.one_of(&at.child("allocationMode"), mode, &["All", "ExactCount"]),
    }
    for (i, each) in request.list("tolerations").iter().enumerate() {
        toleration(each, &at.child("tolerations").index(i), errors);
    }
}

pub(super) fn selectors(selectors: &[Value], at: &Path, errors: &mut ErrorList) {
    const MAX: usize = 10 * 1024;
    list(selectors, 32, at, errors, |selector, at, errors| {
        let at = at.child("cel");
        if !selector.has("cel") {
            errors.required(&at, "");
            return;
        }
        let (expression, at) = (selector.at("cel").text("expression"), at.child("expression"));
        if expression.len() > MAX {
            errors.too_long(&at, MAX);
        } else {
            compiles(expression, &at, errors);
        }
    });
}

/// A selector says of a device whether it will do.
fn compiles(expression: &str, at: &Path, errors: &mut ErrorList) {
    const MOST: u64 = 1_000_000;
    let program = match devices().compile(expression) {
        Ok(program) => program,
        Err(issues) => return errors.invalid(at, expression, format!("compilation failed: {issues}")),
    };
    match program.output_type() {
        Type::Bool | Type::Any => {}
        other => {
            let detail = format!("must evaluate to bool or the unknown type, not {other}");
            return errors.invalid(at, expression, detail);
        }
    }
    if program.estimated_cost().max > MOST {
        errors.forbidden(at, "too complex, exceeds cost limit");
    }
}

/// What selectors know: `device`, with its attributes and capacities by domain and name.
fn devices() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| {
        const MOST: i64 = 32;
        let text = |max| DeclType::simple(Type::String).sized(max);
        let by_name = |value| DeclType::map(text(63), DeclType::map(text(32), value, MOST), MOST);
        let device = DeclType::object(
            "kubernetes.DRADevice",
            [
                ("driver", text(63)),
                ("allowMultipleAllocations", DeclType::simple(Type::Bool).sized(1)),
                ("attributes", by_name(DeclType::simple(Type::Any).sized(64))),
                ("capacity", by_name(DeclType::simple(Type::object("kubernetes.Quantity")))),
            ],
        );
        Env::builder(Version::COMPATIBLE).bindings().typed_variable("device", &device).build()
    })
}

fn toleration(toleration: &Value, at: &Path, errors: &mut ErrorList) {
    let (key, value) = (toleration.text("key"), toleration.text("value"));
    if !key.is_empty() {
        label_name(key, &at.child("key"), errors);
    }
    match toleration.text("operator") {
        "Exists" if !value.is_empty() => {
            errors.invalid(&at.child("value"), value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => errors.each(&at.child("value"), value, names::label_value(value)),
        "" => errors.required(&at.child("operator"), ""),
        other => errors.unsupported(&at.child("operator"), other, &["Equal", "Exists"]),
    }
    match toleration.text("effect") {
        "" => {}
        effect => errors.one_of(&at.child("effect"), effect, super::EFFECTS),
    }
}

pub(super) fn request_refs(refs: &[Value], devices: &Value, at: &Path, errors: &mut ErrorList) {
    set(refs, Some(REQUESTS_MAX), Value::clone, at, errors, |name, at, errors| {
        request_ref(name.as_str().unwrap_or(""), devices, at, errors);
    });
}

/// `devices`: of the claim's spec.
pub(super) fn request_ref(name: &str, devices: &Value, at: &Path, errors: &mut ErrorList) {
    let segments: Vec<&str> = name.split('/').collect();
    if segments.len() > 2 {
        return errors.invalid(at, name, NOT_A_REQUEST);
    }
    for segment in &segments {
        own::label(segment, at, errors);
    }
    // of requests with the same name the last one counts
    let found = devices.list("requests").iter().rfind(|r| r.text("name") == segments[0]);
    let known = match (found, segments.get(1)) {
        (Some(request), Some(sub)) => {
            request.list("firstAvailable").iter().any(|choice| choice.text("name") == *sub)
        }
        (found, _) => found.is_some(),
    };
    if !known {
        errors.invalid(at, name, NOT_A_REQUEST);
    }
}

/// `stored`: as it was before; then it may be larger than a new one.
pub(super) fn configuration(config: &Value, stored: bool, at: &Path, errors: &mut ErrorList) {
    let (opaque, at) = (config.at("opaque"), at.child("opaque"));
    if opaque.is_null() {
        return errors.required(&at, "");
    }
    csi_driver(opaque.text("driver"), &at.child("driver"), errors);
    own::raw(opaque.at("parameters"), stored, &at.child("parameters"), errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_compile() {
        let cases = [
            ("device.driver == 'x' && device.allowMultipleAllocations", ""),
            ("device.attributes['x'].y", ""),
            ("device.capacity['x'].y.compareTo(quantity('1Gi')) >= 0", ""),
            ("device.capacity['x'].y.isGreaterThan(quantity('1Gi').add(1))", ""),
            ("device.attributes['x'].v.isGreaterThan(semver('1.0.0'))", ""),
            ("cel.bind(x, device.attributes['x'], x.a == 1 && x.b == 'c')", ""),
            (
                "cel.bind(x, device.capacity['x'], x.a == 1)",
                "found no matching overload for '_==_' applied to '(kubernetes.Quantity, int)'",
            ),
            ("device.driver", "must evaluate to bool or the unknown type, not string"),
            ("device.nothing", "undefined field 'nothing'"),
        ];
        for (expression, wanted) in cases {
            let mut errors = ErrorList::new();
            compiles(expression, &Path::new("expression"), &mut errors);
            let found = errors.iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; ");
            assert!(found.contains(wanted) && found.is_empty() == wanted.is_empty(), "{expression}: {found}");
        }
    }
}
