//! PodSecurity: the Pod Security Standards, by labels of the namespace.
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>

mod checks;

use futures_util::FutureExt;
use machinery::field::{Error, Path, go_quote};
use machinery::{Get, Status, Value, meta};

use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::Call;
use checks::{Level, violations};

pub static PLUGIN: Plugin = Plugin {
    name: "PodSecurity",
    mutate: None,
    validate: Some(|call, attributes| async move { validate(call, attributes) }.boxed()),
};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// Kinds with a pod template, and where it is.
const TEMPLATES: &[(&str, &str, &[&str])] = &[
    ("", "podtemplates", &["template"]),
    ("", "replicationcontrollers", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("batch", "cronjobs", &["spec", "jobTemplate", "spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
];

fn label<'a>(namespace: &'a Value, name: &str) -> &'a str {
    meta::labels(namespace)
        .and_then(|l| l.get(&format!("{PREFIX}{name}")))
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// The level of a mode, and how messages name it: by the namespace's labels, else by the plugin's `defaults`; a level
/// that can't be read is the strictest.
fn policy(namespace: &Value, settings: &Value, mode: &str) -> Option<(Level, String)> {
    let of = |name: &str| match label(namespace, name) {
        "" => settings.at("defaults").text(name).to_owned(),
        text => text.to_owned(),
    };
    let text = of(mode);
    let level = match text.as_str() {
        "" | "privileged" => return None,
        "baseline" => Level::Baseline,
        _ => Level::Restricted,
    };
    let version = of(&format!("{mode}-version"));
    let version = if version.is_empty() { "latest" } else { &version };
    Some((level, format!("{text}:{version}")))
}

/// Is somebody or something excepted by the plugin's `exemptions`, and as what?
fn exemption(call: &Call, a: &Attributes, settings: &Value, subject: &Value) -> Option<&'static str> {
    let exemptions = settings.at("exemptions");
    let has = |list: &str, item: &str| exemptions.list(list).iter().any(|v| v.as_str() == Some(item));
    let class = match subject.at("spec").text("runtimeClassName") {
        "" => subject.at("template").at("spec").text("runtimeClassName"),
        class => class,
    };
    if has("namespaces", &a.namespace) {
        Some("namespace")
    } else if has("usernames", &call.user.name) {
        Some("user")
    } else if !class.is_empty() && has("runtimeClasses", class) {
        Some("runtimeClass")
    } else {
        None
    }
}

fn validate(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    if a.resource.group.is_empty() && a.resource.name == "namespaces" {
        return labels(a);
    }
    let pod = a.resource.group.is_empty()
        && a.resource.name == "pods"
        && (a.subresource.is_empty() && a.operation == Operation::Create
            || a.subresource == "ephemeralcontainers" && a.operation == Operation::Update);
    let template = TEMPLATES.iter().find(|(g, r, _)| a.is(g, r)).map(|(.., path)| *path);
    let template = template.filter(|_| matches!(a.operation, Operation::Create | Operation::Update));
    if !pod && template.is_none() {
        return Ok(());
    }
    let Some(namespace) = cached(call, "", "namespaces", &a.namespace) else { return Ok(()) };
    let subject = template.unwrap_or(&[]).iter().fold(a.object(), |at, name| at.at(name));
    let core = call.core.clone();
    let settings = core.admission.settings("PodSecurity");
    if let Some(why) = exemption(call, a, settings, subject) {
        call.audit.annotate("pod-security.kubernetes.io/exempt", why);
        return Ok(());
    }
    let enforced = policy(&namespace, settings, "enforce");
    if pod {
        let name = enforced.as_ref().map_or("privileged:latest", |(_, name)| name);
        call.audit.annotate("pod-security.kubernetes.io/enforce-policy", name);
    }
    if let Some((level, name)) = policy(&namespace, settings, "audit") {
        let found = violations(level, subject);
        if !found.is_empty() {
            let text = format!("would violate PodSecurity {}: {}", go_quote(&name), found.join(", "));
            call.audit.annotate("pod-security.kubernetes.io/audit-violations", &text);
        }
    }
    if pod && let Some((level, name)) = enforced {
        let found = violations(level, subject);
        if !found.is_empty() {
            return Err(forbidden(
                a,
                &format!("violates PodSecurity {}: {}", go_quote(&name), found.join(", ")),
            ));
        }
    }
    if let Some((level, name)) = policy(&namespace, settings, "warn") {
        let found = violations(level, subject);
        if !found.is_empty() {
            call.warnings.push(format!(
                "would violate PodSecurity {}: {}",
                go_quote(&name),
                found.join(", ")
            ));
        }
    }
    Ok(())
}

/// Labels of a namespace that are no policy are refused.
fn labels(a: &Attributes) -> Result<(), Status> {
    if !a.subresource.is_empty() || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let at = Path::new("metadata").child("labels");
    let mut errors = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let has =
            |name: &str| meta::labels(a.object()).is_some_and(|l| l.contains_key(&format!("{PREFIX}{name}")));
        let level = label(a.object(), mode);
        if has(mode) && !matches!(level, "privileged" | "baseline" | "restricted") {
            let at = at.key(&format!("{PREFIX}{mode}"));
            errors.push(Error::invalid(&at, level, "must be one of privileged, baseline, restricted"));
        }
        let key = format!("{mode}-version");
        let version = label(a.object(), &key);
        let good = version == "latest"
            || version
                .strip_prefix("v1.")
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if has(&key) && !good {
            let at = at.key(&format!("{PREFIX}{key}"));
            errors.push(Error::invalid(&at, version, "must be \"latest\" or \"v1.x\""));
        }
    }
    // what was wrong before may stay
    let same = a.operation == Operation::Update
        && a.old().at("metadata").at("labels") == a.object().at("metadata").at("labels");
    if errors.is_empty() || same {
        return Ok(());
    }
    Err(Status::invalid(&a.resource.group_kind(), &a.name, &errors))
}
