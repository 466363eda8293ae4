//! ResourceQuotas.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::keep;
use crate::pod::requirements::{quantity_value, resource_name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, internal, names, objectmeta, quantity};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "ResourceQuota",
    default: |obj, _| {
        quantity::round_up(obj.child("spec"), "hard");
        for list in ["hard", "used"] {
            quantity::round_up(obj.child("status"), list);
        }
    },
    prepare_create: |obj, _| obj.set("status", serde_json::json!({})),
    prepare_update: |new, old, context| {
        keep(new, old, if context.subresource == "status" { "spec" } else { "status" });
    },
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
        spec(obj.at("spec"), &mut errors);
        status(obj.at("status"), &mut errors);
        errors
    },
    validate_update,
    warnings: |obj, old, _| if old.is_some() { Vec::new() } else { warnings(obj.at("spec").at("hard")) },
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Request",
        "string",
        "",
        0,
        "Request represents a minimum amount of cpu/memory that a container may consume.",
    ),
    (
        "Limit",
        "string",
        "",
        0,
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
    ),
    ("Age", "string", "", 0, CREATED),
];

/// Names without a domain that a quota may limit.
fn is_quota_resource(name: &str) -> bool {
    matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.storage"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
            | "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "persistentvolumeclaims"
            | "configmaps"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

fn amounts(list: &Value, at: &Path, errors: &mut ErrorList) {
    for (name, value) in list.as_object().into_iter().flatten() {
        let at = at.key(name);
        resource_name(name, &at, errors);
        if !name.contains('/') && !is_quota_resource(name) {
            errors.invalid(&at, name.as_str(), "must be a standard resource for quota");
        }
        quantity_value(name, value, &at, errors);
    }
}

fn status(status: &Value, errors: &mut ErrorList) {
    for list in ["hard", "used"] {
        amounts(status.at(list), &Path::new("status").child(list), errors);
    }
}

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

/// Can this scope narrow down what is counted of this resource?
fn scope_fits(scope: &str, resource: &str) -> bool {
    let compute = matches!(
        resource,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => resource == "pods" || compute,
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn misfits(scope: &str, spec: &Value) -> usize {
    let hard = spec.map("hard").into_iter().flatten();
    hard.filter(|(name, _)| is_quota_resource(name) && !scope_fits(scope, name)).count()
}

const CONFLICTS: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

fn spec(spec: &Value, errors: &mut ErrorList) {
    let at = Path::new("spec");
    amounts(spec.at("hard"), &at.child("hard"), errors);
    let scopes = spec.list("scopes");
    let scopes_at = at.child("scopes");
    for scope in scopes.iter().filter_map(Value::as_str) {
        if !SCOPES.contains(&scope) {
            errors.invalid(&scopes_at, scopes.to_vec(), "unsupported scope");
        }
        for _ in 0..misfits(scope, spec) {
            errors.invalid(&scopes_at, scopes.to_vec(), "unsupported scope applied to resource");
        }
    }
    for (one, other) in CONFLICTS {
        if scopes.iter().any(|s| s == one) && scopes.iter().any(|s| s == other) {
            errors.invalid(&scopes_at, scopes.to_vec(), "conflicting scopes");
        }
    }
    selector(spec, &at.child("scopeSelector").child("matchExpressions"), errors);
}

fn selector(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let terms = spec.at("scopeSelector").list("matchExpressions");
    for term in terms {
        let (scope, operator) = (term.text("scopeName"), term.text("operator"));
        let values = term.list("values");
        if !SCOPES.contains(&scope) {
            errors.invalid(&at.child("scopeName"), scope, "unsupported scope");
        }
        for _ in 0..misfits(scope, spec) {
            let shown = internal::compact("core.ScopeSelector", spec.at("scopeSelector"));
            errors.invalid_shown(at, shown, "unsupported scope applied to resource");
        }
        let only_exists = matches!(
            scope,
            "BestEffort" | "NotBestEffort" | "Terminating" | "NotTerminating" | "CrossNamespacePodAffinity"
        );
        if only_exists && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&at.child("operator"), operator, detail);
        }
        match operator {
            "In" | "NotIn" => {
                if values.is_empty() {
                    let detail =
                        "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                    errors.required(&at.child("values"), detail);
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail =
                        "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                    errors.invalid(&at.child("values"), values.to_vec(), detail);
                }
            }
            _ => errors.invalid(&at.child("operator"), operator, "not a valid selector operator"),
        }
    }
    for (one, other) in CONFLICTS {
        let has = |scope: &str| terms.iter().any(|t| t.text("scopeName") == scope);
        if has(one) && has(other) {
            errors.invalid(at, spec.at("scopes").clone(), "conflicting scopes");
        }
    }
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        status(new.at("status"), &mut errors);
        return errors;
    }
    spec(new.at("spec"), &mut errors);
    let (now, was) = (new.at("spec").list("scopes"), old.at("spec").list("scopes"));
    if now.iter().any(|s| !was.contains(s)) || was.iter().any(|s| !now.contains(s)) {
        errors.invalid(
            &Path::new("spec").child("scopes"),
            new.at("spec").at("scopes").clone(),
            crate::check::IMMUTABLE,
        );
    }
    errors
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let status = obj.at("status");
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in status.map("hard").into_iter().flatten() {
        let used = status.at("used").at(resource).as_str().unwrap_or("0");
        let text = format!("{resource}: {used}/{}", hard.as_str().unwrap_or(""));
        if resource.starts_with("limits.") { &mut limits } else { &mut requests }.push(text);
    }
    vec![name(obj), requests.join(", ").into(), limits.join(", ").into(), age(obj, now)]
}

/// Requests of which the quota has more than of the limits, which no request can be above.
fn warnings(hard: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let (mut asked, limit) = (format!("requests.{name}"), format!("limits.{name}"));
        if !hard.has(&asked) && matches!(name, "cpu" | "memory") {
            asked = name.to_owned();
        }
        let amount = |key: &str| quantity::nanos(hard.at(key));
        if let (Some(request), Some(top)) = (amount(&asked), amount(&limit))
            && request > top
        {
            let (request, top) = (hard.text(&asked), hard.text(&limit));
            out.push(format!("ResourceQuota {asked} ({request}) should be less than {limit} ({top})"));
        }
    }
    out
}
