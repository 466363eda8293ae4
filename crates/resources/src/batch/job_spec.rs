//! The spec of a Job, alone and in a CronJob's template.

use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, Value};

use super::indexes;
use crate::check::{self, Errors};
use crate::gostruct::{Field, Zero, show};
use crate::names;
use crate::pod::spec::Options;
use crate::pod::{template, warnings as pod_warnings};

/// What `podFailurePolicy` leaves open.
pub(super) fn default_policy(spec: &mut Value) {
    let Some(policy) = spec.child_if("podFailurePolicy") else { return };
    for rule in policy.list_mut("rules") {
        for pattern in rule.list_mut("onPodConditions") {
            crate::pod::defaults::text(pattern, "status", "True");
        }
    }
}

/// Invalid, with no value shown.
pub(super) fn bare(errors: &mut ErrorList, at: &Path, detail: impl Into<String>) {
    let mut error = Error::invalid(at, Value::Null, detail);
    error.value = None;
    errors.push(error);
}

fn indexed(spec: &Value) -> bool {
    spec.text("completionMode") == "Indexed"
}

pub(super) fn spec(spec: &Value, options: Options, at: &Path, errors: &mut ErrorList) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.not_negative(&at.child(field), spec.int(field));
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&at.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.at("managedBy").as_str() {
        let at = at.child("managedBy");
        check::domain_prefixed_path(manager, &at, errors);
        if manager.len() > 63 {
            errors.too_long(&at, 63);
        }
    }
    if let Some(mode) = spec.at("completionMode").as_str() {
        errors.one_of(&at.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    if indexed(spec) {
        index_limits(spec, at, errors);
    }
    if !spec.has("completionMode") || spec.text("completionMode") == "NonIndexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(n) = spec.int(field) {
                errors.invalid(&at.child(field), n, "requires indexed completion mode");
            }
        }
    }
    failure_policy(spec, &at.child("podFailurePolicy"), errors);
    success_policy(spec, &at.child("successPolicy"), errors);
    if let Some(policy) = spec.at("podReplacementPolicy").as_str() {
        let supported: &[&str] =
            if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        errors.one_of(&at.child("podReplacementPolicy"), policy, supported);
    }
    let template_at = at.child("template");
    template::template(spec.at("template"), options, &template_at, errors);
    let at = template_at.child("spec").child("restartPolicy");
    match spec.at("template").at("spec").text("restartPolicy") {
        "" | "Always" => errors.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&at, "OnFailure", detail);
        }
        "OnFailure" => {}
        other => errors.unsupported(&at, other, &["OnFailure", "Never"]),
    }
}

fn index_limits(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let (completions, parallelism) = (spec.int("completions"), spec.int("parallelism"));
    let failed = spec.int("maxFailedIndexes");
    let (parallelism_at, failed_at) = (at.child("parallelism"), at.child("maxFailedIndexes"));
    if completions.is_none() {
        errors.required(&at.child("completions"), "when completion mode is Indexed");
    }
    if let Some(n) = parallelism.filter(|n| *n > 100_000) {
        let detail = "must be less than or equal to 100000 when completion mode is Indexed";
        errors.invalid(&parallelism_at, n, detail);
    }
    if let (Some(all), Some(n)) = (completions, failed)
        && n > all
    {
        errors.invalid(&failed_at, n, "must be less than or equal to completions");
    }
    if let Some(n) = failed.filter(|n| *n > 100_000) {
        errors.invalid(&failed_at, n, "must be less than or equal to 100000");
    }
    if completions.is_some_and(|n| n > 100_000) && spec.has("backoffLimitPerIndex") {
        if failed.is_none() {
            errors.required(&failed_at, "must be specified when completions is above 100000");
        }
        let detail = "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index";
        if let Some(n) = parallelism.filter(|n| *n > 10_000) {
            errors.invalid(&parallelism_at, n, detail);
        }
        if let Some(n) = failed.filter(|n| *n > 10_000) {
            errors.invalid(&failed_at, n, detail);
        }
    }
}

fn failure_policy(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let rules = spec.at("podFailurePolicy").list("rules");
    let at = at.child("rules");
    if rules.len() > 20 {
        errors.too_many(&at, rules.len(), 20);
    }
    let pod = spec.at("template").at("spec");
    let known: Vec<&str> =
        ["containers", "initContainers"].iter().flat_map(|l| pod.list(l)).map(|c| c.text("name")).collect();
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        match rule.text("action") {
            "" => {
                let detail = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
                errors.required(&at.child("action"), detail);
            }
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                let detail = "requires the backoffLimitPerIndex to be set";
                errors.invalid(&at.child("action"), "FailIndex", detail);
            }
            action => {
                errors.one_of(&at.child("action"), action, &["Count", "FailIndex", "FailJob", "Ignore"]);
            }
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.list("onPodConditions"));
        if codes.is_object() {
            exit_codes(codes, &known, &at.child("onExitCodes"), errors);
        }
        pod_conditions(conditions, &at.child("onPodConditions"), errors);
        match (codes.is_object(), conditions.is_empty()) {
            (true, false) => {
                bare(errors, &at, "specifying both OnExitCodes and OnPodConditions is not supported");
            }
            (false, true) => {
                bare(errors, &at, "specifying one of OnExitCodes and OnPodConditions is required")
            }
            _ => {}
        }
    }
}

fn exit_codes(codes: &Value, known: &[&str], at: &Path, errors: &mut ErrorList) {
    match codes.text("operator") {
        "" => errors.required(&at.child("operator"), "valid values: [\"In\" \"NotIn\"]"),
        operator => errors.one_of(&at.child("operator"), operator, &["In", "NotIn"]),
    }
    if let Some(name) = codes.at("containerName").as_str().filter(|n| !known.contains(n)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&at.child("containerName"), name, detail);
    }
    let at_values = at.child("values");
    let values: Vec<i64> = codes.list("values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        errors.invalid(&at_values, codes.at("values").clone(), "at least one value is required");
    } else if values.len() > 255 {
        errors.too_many(&at_values, values.len(), 255);
    }
    for (i, value) in values.iter().enumerate() {
        if *value == 0 && codes.text("operator") == "In" {
            errors.invalid(&at_values.index(i), 0, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            errors.duplicate(&at_values.index(i), *value);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&at_values, codes.at("values").clone(), "must be ordered");
    }
}

fn pod_conditions(patterns: &[Value], at: &Path, errors: &mut ErrorList) {
    if patterns.len() > 20 {
        errors.too_many(at, patterns.len(), 20);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = at.index(i);
        let kind = pattern.text("type");
        errors.each(&at.child("type"), kind, names::qualified_name(kind));
        match pattern.text("status") {
            "" => errors.required(&at.child("status"), "valid values: [\"False\" \"True\" \"Unknown\"]"),
            status => errors.one_of(&at.child("status"), status, &["False", "True", "Unknown"]),
        }
    }
}

fn success_policy(spec: &Value, at: &Path, errors: &mut ErrorList) {
    const RULE: &[Field] = &[
        ("SucceededIndexes", "succeededIndexes", Zero::Null),
        ("SucceededCount", "succeededCount", Zero::Null),
    ];
    let policy = spec.at("successPolicy");
    if !policy.is_object() {
        return;
    }
    let rules = policy.list("rules");
    if !indexed(spec) {
        let shown: Vec<String> = rules.iter().map(|r| show(r, RULE)).collect();
        let shown = format!("[{}]", shown.join(","));
        return errors.invalid_shown(
            at,
            format!("{{\"Rules\":{shown}}}"),
            "requires indexed completion mode",
        );
    }
    let at = at.child("rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&at, detail);
    }
    if rules.len() > 20 {
        errors.too_many(&at, rules.len(), 20);
    }
    let completions = spec.int("completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        let list = rule.at("succeededIndexes").as_str();
        let count = rule.int("succeededCount");
        if list.is_none() && count.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&at, detail);
        }
        let mut total = 0;
        if let Some(list) = list {
            let at = at.child("succeededIndexes");
            if list.len() > 64 * 1024 {
                errors.too_long(&at, 64 * 1024);
            }
            match indexes::count(list, completions) {
                Ok(n) => total = n,
                Err(why) => errors.invalid(&at, list, format!("error parsing succeededIndexes: {why}")),
            }
        }
        if let Some(count) = count {
            let at = at.child("succeededCount");
            errors.not_negative(&at, Some(count));
            if count > completions {
                let detail = format!(
                    "must be less than or equal to {completions} (the number of specified completions)"
                );
                errors.invalid(&at, count, detail);
            }
            if list.is_some() && count > total {
                let detail = format!(
                    "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                );
                errors.invalid(&at, count, detail);
            }
        }
    }
}

pub(super) fn warnings(spec: &Value, at: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let many = |field: &str, most: i64| spec.int(field).unwrap_or(0) > most;
    if indexed(spec) && many("completions", 100_000) && many("parallelism", 10_000) {
        out.push(format!("{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"));
    }
    out.extend(pod_warnings::warnings(spec.at("template"), &at.child("template")));
    out
}
