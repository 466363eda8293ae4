//! Ingresses.

use std::collections::BTreeSet;

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name, or_none};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, apps, ip, names, objectmeta};

const CLASS: &str = "kubernetes.io/ingress.class";

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "networking.k8s.io",
    kind: "Ingress",
    prepare_create: apps::prepare_create,
    prepare_update: apps::prepare_update,
    validate: |obj, _| validate(obj),
    validate_update,
    warnings,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Class",
        "string",
        "",
        0,
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    ("Hosts", "string", "", 0, "Hosts that incoming requests are matched against before the ingress rule"),
    ("Address", "string", "", 0, "Address is a list containing ingress points for the load-balancer"),
    ("Ports", "string", "", 0, "Ports of TLS configurations that open"),
    ("Age", "string", "", 0, CREATED),
];

/// What an old object may keep.
#[derive(Default)]
struct Lax {
    secret_names: bool,
    wildcard_rules: bool,
}

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    spec(obj.at("spec"), &Lax::default(), &mut errors);
    let (annotation, class) =
        (obj.at("metadata").at("annotations").at(CLASS), obj.at("spec").at("ingressClassName"));
    if let (Some(one), Some(other)) = (annotation.as_str(), class.as_str())
        && one != other
    {
        let detail = "must match `ingressClassName` when both are specified";
        errors.invalid(&Path::new("annotations").child(CLASS), one, detail);
    }
    errors
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        status(new, old, &mut errors);
        return errors;
    }
    let before = old.at("spec");
    let lax = Lax {
        secret_names: before.list("tls").iter().any(|t| !secret_name(t.text("secretName")).is_empty()),
        wildcard_rules: before.list("rules").iter().any(|rule| {
            let mut errors = ErrorList::new();
            rule_value(rule, &Path::new("rules"), &mut errors);
            rule.text("host").contains('*') && !errors.is_empty()
        }),
    };
    errors.extend(objectmeta::validate(new, true, names::subdomain_name));
    spec(new.at("spec"), &lax, &mut errors);
    errors
}

fn spec(spec: &Value, lax: &Lax, errors: &mut ErrorList) {
    let at = Path::new("spec");
    let rules = spec.list("rules");
    if rules.is_empty() && !spec.has("defaultBackend") {
        let shown = if spec.has("rules") { "[]" } else { "null" };
        errors.invalid_shown(&at, shown, "either `defaultBackend` or `rules` must be specified");
    }
    if spec.has("defaultBackend") {
        backend(spec.at("defaultBackend"), &at.child("defaultBackend"), errors);
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = at.child("rules").index(i);
        let host = rule.text("host");
        if !host.is_empty() {
            if ip::sloppy(host).is_some() {
                errors.invalid(&at.child("host"), host, "must be a DNS name, not an IP address");
            }
            errors.each(&at.child("host"), host, host_messages(host));
        }
        if !(host.contains('*') && lax.wildcard_rules) {
            rule_value(rule, &at, errors);
        }
    }
    for (i, tls) in spec.list("tls").iter().enumerate() {
        let at = at.child("tls").index(i);
        for (j, host) in tls.list("hosts").iter().filter_map(Value::as_str).enumerate() {
            errors.each(&at.child("hosts").index(j), host, host_messages(host));
        }
        let secret = tls.text("secretName");
        if !lax.secret_names {
            errors.each(&at.child("secretName"), secret, secret_name(secret));
        }
    }
    if let Some(class) = spec.at("ingressClassName").as_str() {
        errors.each(&at.child("ingressClassName"), class, names::subdomain_name(class, false));
    }
}

fn host_messages(host: &str) -> Vec<String> {
    if host.contains('*') { names::wildcard_dns1123_subdomain(host) } else { names::dns1123_subdomain(host) }
}

fn secret_name(name: &str) -> Vec<String> {
    if name.is_empty() { Vec::new() } else { names::subdomain_name(name, false) }
}

fn rule_value(rule: &Value, at: &Path, errors: &mut ErrorList) {
    if !rule.has("http") {
        return;
    }
    let (paths, at) = (rule.at("http").list("paths"), at.child("http").child("paths"));
    if paths.is_empty() {
        errors.required(&at, "");
    }
    for (i, each) in paths.iter().enumerate() {
        path(each, &at.index(i), errors);
    }
}

fn path(path: &Value, at: &Path, errors: &mut ErrorList) {
    const IN: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
    const LAST: [&str; 2] = ["/..", "/."];
    let Some(kind) = path.at("pathType").as_str() else {
        return errors.required(&at.child("pathType"), "pathType must be specified");
    };
    let (text, path_at) = (path.text("path"), at.child("path"));
    let absolute = text.starts_with('/');
    match kind {
        "Exact" | "Prefix" => {
            if !absolute {
                errors.invalid(&path_at, text, "must be an absolute path");
            }
            for part in IN.iter().filter(|p| text.contains(**p)) {
                errors.invalid(&path_at, text, format!("must not contain '{part}'"));
            }
            for part in LAST.iter().filter(|p| text.ends_with(**p)) {
                errors.invalid(&path_at, text, format!("cannot end with '{part}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !absolute {
                errors.invalid(&path_at, text, "must be an absolute path");
            }
        }
        _ => errors.unsupported(&at.child("pathType"), kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(path.at("backend"), &at.child("backend"), errors);
}

fn backend(backend: &Value, at: &Path, errors: &mut ErrorList) {
    match (backend.has("resource"), backend.has("service")) {
        (true, true) => errors.invalid(at, "", "cannot set both resource and service backends"),
        (true, false) => super::typed_reference(backend.at("resource"), &at.child("resource"), errors),
        (false, true) => service(backend.at("service"), at, errors),
        (false, false) => errors.invalid(at, "", "resource or service backend is required"),
    }
}

fn service(service: &Value, at: &Path, errors: &mut ErrorList) {
    let own = at.child("service");
    match service.text("name") {
        "" => errors.required(&own.child("name"), ""),
        name => errors.each(&own.child("name"), name, names::label_name(name, false)),
    }
    let port = service.at("port");
    match (port.text("name"), port.int("number").unwrap_or(0)) {
        ("", 0) => errors.required(at, "port name or number is required"),
        ("", number) => {
            errors.each(&own.child("port").child("number"), number, names::port_number(number));
        }
        (name, 0) => errors.each(&own.child("port").child("name"), name, names::port_name(name)),
        _ => errors.invalid(at, "", "cannot set both port name & port number"),
    }
}

fn points(ingress: &Value) -> &[Value] {
    ingress.at("status").at("loadBalancer").list("ingress")
}

fn status(new: &Value, old: &Value, errors: &mut ErrorList) {
    let before: Vec<&str> = points(old).iter().map(|p| p.text("ip")).collect();
    for (i, point) in points(new).iter().enumerate() {
        let at = Path::new("status").child("loadBalancer").child("ingress").index(i);
        if !point.text("ip").is_empty() {
            ip::legacy(&at.child("ip"), point.text("ip"), &before, errors);
        }
        let host = point.text("hostname");
        if !host.is_empty() {
            errors.each(&at.child("hostname"), host, names::dns1123_subdomain(host));
            if ip::sloppy(host).is_some() {
                errors.invalid(&at.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
}

fn warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    if context.subresource == "status" {
        let at = Path::new("status").child("loadBalancer").child("ingress");
        let all = points(new).iter().enumerate().filter(|(_, p)| !p.text("ip").is_empty());
        return all.filter_map(|(i, p)| ip::warnings(&at.index(i), p.text("ip"))).collect();
    }
    let annotated = new.at("metadata").at("annotations").has(CLASS);
    if old.is_some() || !annotated || new.at("spec").has("ingressClassName") {
        return Vec::new();
    }
    vec![format!("annotation \"{CLASS}\" is deprecated, please use 'spec.ingressClassName' instead")]
}

fn hosts(rules: &[Value]) -> String {
    const MAX: usize = 3;
    let mut list: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= list.len() == MAX;
        if !more && !rule.text("host").is_empty() {
            list.push(rule.text("host"));
        }
    }
    match (list.is_empty(), more) {
        (true, _) => "*".into(),
        (false, true) => format!("{} + {} more...", list.join(","), rules.len() - MAX),
        (false, false) => list.join(","),
    }
}

fn cells(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let spec = ingress.at("spec");
    let addresses: BTreeSet<&str> = points(ingress)
        .iter()
        .map(|p| if p.text("ip").is_empty() { p.text("hostname") } else { p.text("ip") })
        .filter(|a| !a.is_empty())
        .collect();
    let addresses: Vec<&str> = addresses.into_iter().collect();
    vec![
        name(ingress),
        or_none(spec.text("ingressClassName")),
        hosts(spec.list("rules")).into(),
        addresses.join(",").into(),
        if spec.list("tls").is_empty() { "80" } else { "80, 443" }.into(),
        age(ingress, now),
    ]
}
