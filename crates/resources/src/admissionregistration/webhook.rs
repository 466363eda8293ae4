//! Configurations of mutating and validating webhooks.

use std::collections::BTreeSet;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::matching::{self, FAILURE, MATCH, REINVOCATION};
use crate::check::{self, Errors, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, next_generation};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const HARMLESS: [&str; 2] = ["None", "NoneOnDryRun"];

pub(crate) static MUTATING: Strategy = Strategy {
    kind: "MutatingWebhookConfiguration",
    default: |obj, _| {
        default(obj);
        for hook in obj.list_mut("webhooks") {
            hook.set_default("reinvocationPolicy", "Never");
        }
    },
    columns: Some(Columns { definitions: MUTATING_DEFINITIONS, cells, conditions: no_conditions }),
    ..BASE
};

pub(crate) static VALIDATING: Strategy = Strategy {
    kind: "ValidatingWebhookConfiguration",
    default: |obj, _| default(obj),
    columns: Some(Columns { definitions: VALIDATING_DEFINITIONS, cells, conditions: no_conditions }),
    ..BASE
};

const BASE: Strategy = Strategy {
    group: "admissionregistration.k8s.io",
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    prepare_update: |new, old, _| {
        if !same(new.at("webhooks"), old.at("webhooks")) {
            next_generation(new, old);
        }
    },
    validate: |obj, _| validate(obj, &Lax::default()),
    validate_update: |new, old, _| validate(new, &Lax::of(new, old)),
    unconditional_update: false,
    ..Strategy::BASE
};

const MUTATING_DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Webhooks",
        "integer",
        "",
        0,
        "Webhooks indicates the number of webhooks registered in this configuration",
    ),
    ("Age", "string", "", 0, CREATED),
];
const VALIDATING_DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Webhooks",
        "integer",
        "",
        0,
        "Webhooks indicates the number of webhooks registered in this configuration",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn cells(obj: &Value, now: jiff::Timestamp) -> Vec<Value> {
    vec![name(obj), obj.list("webhooks").len().into(), age(obj, now)]
}

fn default(obj: &mut Value) {
    for hook in obj.list_mut("webhooks") {
        hook.set_default("failurePolicy", "Fail");
        hook.set_default("matchPolicy", "Equivalent");
        hook.set_default("namespaceSelector", json!({}));
        hook.set_default("objectSelector", json!({}));
        hook.set_default("timeoutSeconds", 10);
        matching::default_rules(hook, "rules");
        if hook.at("clientConfig").has("service") {
            hook.child("clientConfig").child("service").set_default("port", 443);
        }
    }
}

/// What the old object had wrong may stay wrong.
#[derive(Default)]
struct Lax {
    conditions: bool,
    /// Those of its match conditions.
    expressions: BTreeSet<String>,
    side_effects: bool,
    reviews: bool,
    names: bool,
    selectors: bool,
}

impl Lax {
    fn of(new: &Value, old: &Value) -> Lax {
        let (now, before) = (new.list("webhooks"), old.list("webhooks"));
        let mut seen = BTreeSet::new();
        let mut selector_errors = ErrorList::new();
        for hook in before {
            for field in ["namespaceSelector", "objectSelector"] {
                check::label_selector(hook.at(field), &Path::new(field), &mut selector_errors);
            }
        }
        let conditions = before.iter().flat_map(|h| h.list("matchConditions"));
        Lax {
            expressions: conditions.map(|c| c.text("expression").to_owned()).collect(),
            conditions: now.len() == before.len()
                && now
                    .iter()
                    .zip(before)
                    .all(|(a, b)| same(a.at("matchConditions"), b.at("matchConditions"))),
            side_effects: !before.iter().all(|h| HARMLESS.contains(&h.text("sideEffects"))),
            reviews: before.iter().any(|h| {
                let versions = h.list("admissionReviewVersions");
                !versions.is_empty() && !versions.iter().any(is_known)
            }),
            names: !before.iter().all(|h| seen.insert(h.text("name"))),
            selectors: !selector_errors.is_empty(),
        }
    }
}

fn is_known(version: &Value) -> bool {
    version.as_str().is_some_and(|v| REVIEWS.contains(&v))
}

fn validate(obj: &Value, lax: &Lax) -> ErrorList {
    let mut errors = objectmeta::validate_generic(obj, false, names::subdomain_name);
    let mut seen = BTreeSet::new();
    for (i, each) in obj.list("webhooks").iter().enumerate() {
        let at = Path::new("webhooks").index(i);
        hook(each, lax, &at, &mut errors);
        let versions_at = at.child("admissionReviewVersions");
        reviews(each.list("admissionReviewVersions"), lax, &versions_at, &mut errors);
        let name = each.text("name");
        if !lax.names && !name.is_empty() && !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
    }
    errors
}

fn hook(hook: &Value, lax: &Lax, at: &Path, errors: &mut ErrorList) {
    full_name(hook.text("name"), &at.child("name"), errors);
    for (i, rule) in hook.list("rules").iter().enumerate() {
        matching::rule(rule, &at.child("rules").index(i), errors);
    }
    for (field, known) in [("failurePolicy", FAILURE), ("matchPolicy", MATCH)] {
        if let Some(policy) = hook.at(field).as_str() {
            errors.one_of(&at.child(field), policy, &known);
        }
    }
    side_effects(hook, lax, &at.child("sideEffects"), errors);
    if let Some(seconds) = hook.int("timeoutSeconds").filter(|s| !(1..=30).contains(s)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&at.child("timeoutSeconds"), seconds, detail);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        check::label_selector_with(hook.at(field), &at.child(field), lax.selectors, errors);
    }
    if let Some(policy) = hook.at("reinvocationPolicy").as_str() {
        errors.one_of(&at.child("reinvocationPolicy"), policy, &REINVOCATION);
    }
    client(hook.at("clientConfig"), &at.child("clientConfig"), errors);
    if !lax.conditions {
        let stored = |source: &str| lax.expressions.contains(source);
        let conditions = hook.list("matchConditions");
        matching::conditions(conditions, false, &stored, &at.child("matchConditions"), errors);
    }
}

fn full_name(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(at, "");
    }
    let messages = names::dns1123_subdomain(name);
    if !messages.is_empty() {
        errors.invalid(at, name, messages.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(at, name, "should be a domain with at least three segments separated by dots");
    }
}

fn side_effects(hook: &Value, lax: &Lax, at: &Path, errors: &mut ErrorList) {
    let all = ["None", "NoneOnDryRun", "Some", "Unknown"];
    let allowed = if lax.side_effects { &all[..] } else { &HARMLESS[..] };
    match hook.at("sideEffects").as_str() {
        None => errors.required(at, format!("must specify one of {}", allowed.join(", "))),
        Some(effects) => errors.one_of(at, effects, allowed),
    }
}

fn reviews(versions: &[Value], lax: &Lax, at: &Path, errors: &mut ErrorList) {
    let known = REVIEWS.join(", ");
    if versions.is_empty() {
        return errors.required(at, format!("must specify one of {known}"));
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().filter_map(Value::as_str).enumerate() {
        let at = at.index(i);
        if seen.insert(version) {
            errors.each(&at, version, names::dns1035_label(version));
        } else {
            errors.invalid(&at, version, "duplicate version");
        }
    }
    if !lax.reviews && !versions.iter().any(is_known) {
        errors.invalid(at, versions.to_vec(), format!("must include at least one of {known}"));
    }
}

pub(crate) fn client(client: &Value, at: &Path, errors: &mut ErrorList) {
    match (client.at("url").as_str(), client.at("service")) {
        (Some(address), Value::Null) => url(address, &at.child("url"), errors),
        (None, to) if !to.is_null() => service(to, &at.child("service"), errors),
        _ => errors.required(at, "exactly one of url or service is required"),
    }
}

/// An address of a webhook: https, nothing but host and path.
pub(crate) fn url(address: &str, at: &Path, errors: &mut ErrorList) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if !scheme.contains('/') => (scheme, rest),
        _ => ("", rest),
    };
    let authority = rest.strip_prefix("//").map_or("", |r| r.split('/').next().unwrap_or(""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if scheme != "https" {
        errors.invalid(at, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(at, host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(at, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(at, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(at, query, "query parameters are not permitted in the URL");
    }
}

/// A service that serves webhooks. Upstream mixes up namespace and name here: the one is reported as the other.
fn service(service: &Value, at: &Path, errors: &mut ErrorList) {
    for (field, shown) in [("namespace", "name"), ("name", "namespace")] {
        if service.text(field).is_empty() {
            errors.required(&at.child(shown), "");
        }
    }
    service_port_and_path(service, at, errors);
}

pub(crate) fn service_port_and_path(service: &Value, at: &Path, errors: &mut ErrorList) {
    let port = service.int("port").unwrap_or(0);
    let messages = names::port_number(port);
    if !messages.is_empty() {
        errors.invalid(&at.child("port"), port, format!("port is not valid: {}", messages.join(", ")));
    }
    let (path, at) = (service.text("path"), at.child("path"));
    match path {
        "" | "/" => return,
        "//" => return errors.invalid(&at, path, "segment[0] may not be empty"),
        _ => {}
    }
    if !path.starts_with('/') {
        errors.invalid(&at, path, "must start with a '/'");
    }
    let mut rest = path.chars();
    rest.next();
    let rest = rest.as_str();
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&at, path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for message in names::dns1123_subdomain(step) {
            errors.invalid(&at, path, format!("segment[{i}]: {message}"));
        }
    }
}
