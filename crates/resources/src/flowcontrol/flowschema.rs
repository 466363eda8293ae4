//! FlowSchemas.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name, number, or_none};
use crate::gostruct::{Field, Zero, show};
use crate::{Column, Columns, Strategy, apps, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "flowcontrol.apiserver.k8s.io",
    kind: "FlowSchema",
    default: |obj, _| super::number(obj.child("spec"), "matchingPrecedence", 1000),
    prepare_create: apps::prepare_create,
    prepare_update: apps::prepare_update,
    validate: |obj, _| validate(obj),
    validate_update: |new, _, context| {
        if context.subresource != "status" {
            return validate(new);
        }
        let mut errors = ErrorList::new();
        super::conditions(new, &mut errors);
        errors
    },
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: crate::strategy::no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "PriorityLevel",
        "string",
        "",
        0,
        "`name` is the name of the priority level configuration being referenced Required.",
    ),
    (
        "MatchingPrecedence",
        "string",
        "",
        0,
        "`matchingPrecedence` is used to choose among the FlowSchemas that match a given request. The chosen FlowSchema is among those with the numerically lowest (which we take to be logically highest) MatchingPrecedence.  Each MatchingPrecedence value must be ranged in [1,10000]. Note that if the precedence is not specified, it will be set to 1000 as default.",
    ),
    (
        "DistinguisherMethod",
        "string",
        "",
        0,
        "`distinguisherMethod` defines how to compute the flow distinguisher for requests that match this schema. `nil` specifies that the distinguisher is disabled and thus will always be the empty string.",
    ),
    ("Age", "string", "", 0, CREATED),
    ("MissingPL", "string", "", 0, "references a broken or non-existent PriorityLevelConfiguration"),
];

fn validate(obj: &Value) -> ErrorList {
    const METHOD: &[Field] = &[("Type", "type", Zero::Text)];
    const PRECEDENCE_MAX: i64 = 10_000;
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let (precedence, own) = (spec.int("matchingPrecedence").unwrap_or(0), at.child("matchingPrecedence"));
    if precedence <= 0 {
        errors.invalid(&own, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        errors.invalid(&own, precedence, format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence == 1 && obj.at("metadata").text("name") != "exempt" {
        errors.invalid(&own, 1, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.at("distinguisherMethod");
    if !method.is_null() && !matches!(method.text("type"), "ByNamespace" | "ByUser") {
        let at = at.child("distinguisherMethod").child("type");
        errors.unsupported_shown(&at, show(method, METHOD), &["ByNamespace", "ByUser"]);
    }
    let own = at.child("priorityLevelConfiguration").child("name");
    match spec.at("priorityLevelConfiguration").text("name") {
        "" => errors.required(&own, "must reference a priority level"),
        level => errors.each(&own, level, names::subdomain_name(level, false)),
    }
    for (i, each) in spec.list("rules").iter().enumerate() {
        rule(each, &at.child("rules").index(i), &mut errors);
    }
    super::mandatory::validate_schema(obj, &mut errors);
    super::conditions(obj, &mut errors);
    errors
}

fn rule(rule: &Value, at: &Path, errors: &mut ErrorList) {
    for (i, each) in rule.list("subjects").iter().enumerate() {
        subject(each, &at.child("subjects").index(i), errors);
    }
    if rule.list("subjects").is_empty() {
        errors.required(&at.child("subjects"), "subjects must contain at least one value");
    }
    let (resources, others) = (rule.list("resourceRules"), rule.list("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        errors.required(at, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (i, each) in resources.iter().enumerate() {
        resource_rule(each, &at.child("resourceRules").index(i), errors);
    }
    for (i, each) in others.iter().enumerate() {
        other_rule(each, &at.child("nonResourceRules").index(i), errors);
    }
}

/// (kind, field)
const SUBJECTS: [(&str, &str); 3] =
    [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn subject(subject: &Value, at: &Path, errors: &mut ErrorList) {
    let kind = subject.text("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(k, _)| *k == kind) else {
        return errors.unsupported(&at.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
    };
    let (value, own_at) = (subject.at(own), at.child(own));
    if value.is_null() {
        errors.required(&own_at, format!("{own} is required when subject kind is '{kind}'"));
    } else {
        subject_names(kind, value, &own_at, errors);
    }
    for (other, field) in SUBJECTS.iter().rev().filter(|(_, f)| f != own && subject.has(f)).rev() {
        let detail = format!("{field} is forbidden when subject kind is not '{other}'");
        errors.forbidden(&at.child(field), detail);
    }
}

fn subject_names(kind: &str, value: &Value, at: &Path, errors: &mut ErrorList) {
    let account = kind == "ServiceAccount";
    match value.text("name") {
        "" => errors.required(&at.child("name"), ""),
        name if account && name != "*" => {
            errors.each(&at.child("name"), name, names::subdomain_name(name, false));
        }
        _ => {}
    }
    if account {
        match value.text("namespace") {
            "" => errors.required(&at.child("namespace"), "must specify namespace for service account"),
            space => errors.each(&at.child("namespace"), space, names::label_name(space, false)),
        }
    }
}

fn texts<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
    rule.list(field).iter().filter_map(Value::as_str).collect()
}

fn verbs(rule: &Value, at: &Path, errors: &mut ErrorList) {
    const KNOWN: [&str; 9] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
    let (verbs, at) = (texts(rule, "verbs"), at.child("verbs"));
    if verbs.is_empty() {
        errors.required(&at, "verbs must contain at least one value");
    } else if verbs.contains(&"*") {
        if verbs.len() > 1 {
            errors.invalid(&at, verbs, "if '*' is present, must not specify other verbs");
        }
    } else if !verbs.iter().all(|v| KNOWN.contains(v)) {
        errors.unsupported(&at, verbs, &KNOWN);
    }
}

fn resource_rule(rule: &Value, at: &Path, errors: &mut ErrorList) {
    verbs(rule, at, errors);
    for (field, one, more) in
        [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
    {
        let (all, at) = (texts(rule, field), at.child(field));
        if all.is_empty() {
            errors.required(&at, format!("resource rules must supply at least one {one}"));
        } else if all.len() > 1 && all.contains(&"*") {
            errors.invalid(&at, all, format!("if '*' is present, must not specify other {more}"));
        }
    }
    let (spaces, at) = (texts(rule, "namespaces"), at.child("namespaces"));
    if spaces.is_empty() && rule.flag("clusterScope") != Some(true) {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&at, detail);
    } else if spaces.contains(&"*") {
        if spaces.len() > 1 {
            errors.invalid(&at, spaces, "if '*' is present, must not specify other namespaces");
        }
    } else {
        for (i, space) in spaces.into_iter().enumerate() {
            for message in names::label_name(space, false) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                errors.invalid(&at.index(i), space, detail);
            }
        }
    }
}

fn other_rule(rule: &Value, at: &Path, errors: &mut ErrorList) {
    verbs(rule, at, errors);
    let (urls, at) = (texts(rule, "nonResourceURLs"), at.child("nonResourceURLs"));
    if urls.is_empty() {
        errors.required(&at, "nonResourceURLs must contain at least one value");
    } else if urls.contains(&"*") {
        if urls.len() > 1 {
            errors.invalid(&at, urls, "if '*' is present, must not specify other non-resource URLs");
        }
    } else {
        for (i, url) in urls.into_iter().enumerate() {
            if let Some(detail) = bad_url(url) {
                errors.invalid(&at.index(i), url, detail);
            }
        }
    }
}

fn bad_url(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    if url.is_empty() {
        Some("must not be empty")
    } else if url == "/" {
        None
    } else if !url.starts_with('/') {
        Some("must start with slash")
    } else if url.contains(' ') {
        Some("must not contain white-space")
    } else if url.contains("//") {
        Some("must not contain double slash")
    } else if stars > 1 || (stars == 1 && !url.ends_with("/*")) {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

fn cells(schema: &Value, now: Timestamp) -> Vec<Value> {
    let spec = schema.at("spec");
    let dangling = schema.at("status").list("conditions").iter().find(|c| c.text("type") == "Dangling");
    vec![
        name(schema),
        spec.at("priorityLevelConfiguration").text("name").into(),
        number(spec, "matchingPrecedence"),
        or_none(spec.at("distinguisherMethod").text("type")),
        age(schema, now),
        dangling.map_or("?", |c| c.text("status")).into(),
    ]
}
