//! Containers of all three kinds.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::resources::is_sidecar;
use super::volumes::Volumes;
use super::{env, handlers, requirements, security};
use crate::check::Errors;
use crate::gostruct::{Field, Zero, show};
use crate::{names, quantity};

/// What validating a container needs to know of its pod.
pub(crate) struct Pod<'a> {
    pub spec: &'a Value,
    pub volumes: Volumes<'a>,
    pub claims: Vec<&'a str>,
    pub grace: Option<i64>,
    pub host_users: bool,
}

/// `containers`, `initContainers` and `ephemeralContainers`, in this order.
pub(crate) fn all(pod: &Pod, at: &Path, errors: &mut ErrorList) {
    regular(pod, &at.child("containers"), errors);
    init(pod, &at.child("initContainers"), errors);
    ephemeral(pod, &at.child("ephemeralContainers"), errors);
}

fn regular(pod: &Pod, at: &Path, errors: &mut ErrorList) {
    let containers = pod.spec.list("containers");
    if containers.is_empty() {
        return errors.required(at, "");
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let at = at.index(i);
        common(container, pod, &at, errors);
        unique(container, &mut seen, &at, errors);
        hooks(container, pod, &at, errors);
        restart_policy(container, &at, errors);
    }
    host_ports(containers, at, errors);
}

fn unique<'a>(container: &'a Value, seen: &mut Vec<&'a str>, at: &Path, errors: &mut ErrorList) {
    let name = container.text("name");
    if seen.contains(&name) {
        errors.duplicate(&at.child("name"), name);
    } else {
        seen.push(name);
    }
}

fn hooks(container: &Value, pod: &Pod, at: &Path, errors: &mut ErrorList) {
    if container.at("lifecycle").is_object() {
        let os = pod.spec.at("os");
        handlers::lifecycle(container.at("lifecycle"), pod.grace, os, &at.child("lifecycle"), errors);
    }
    handlers::probes(container, at, errors);
}

fn init(pod: &Pod, at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = pod.spec.list("containers").iter().map(|c| c.text("name")).collect();
    for (i, container) in pod.spec.list("initContainers").iter().enumerate() {
        let item = at.index(i);
        common(container, pod, &item, errors);
        restart_policy(container, &item, errors);
        let name = container.text("name");
        if seen.contains(&name) {
            errors.duplicate(&item.child("name"), name);
        } else if !name.is_empty() {
            seen.push(name);
        }
        host_ports(std::slice::from_ref(container), at, errors);
        if is_sidecar(container) {
            hooks(container, pod, &item, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(&item.child(field), detail);
            }
        }
        for (j, policy) in container.list("resizePolicy").iter().enumerate() {
            if policy.text("restartPolicy") == "RestartContainer" {
                let at = item.child("resizePolicy").index(j).child("restartPolicy");
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.invalid(&at, "RestartContainer", detail);
            }
        }
    }
}

/// What an ephemeral container may not have, in upstream's order.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

fn ephemeral(pod: &Pod, at: &Path, errors: &mut ErrorList) {
    let names = |list: &str| pod.spec.list(list).iter().map(|c| c.text("name"));
    let others: Vec<&str> = names("containers").chain(names("initContainers")).collect();
    let mut seen = others.clone();
    for (i, container) in pod.spec.list("ephemeralContainers").iter().enumerate() {
        let at = at.index(i);
        common(container, pod, &at, errors);
        image_only_in_pods(container, &at, errors);
        unique(container, &mut seen, &at, errors);
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        let detail = "cannot be set for an Ephemeral Container";
        for field in NOT_EPHEMERAL {
            let value = container.at(field);
            let empty = match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => *field == "resources" && map.is_empty(),
                _ => value.is_null(),
            };
            if !empty {
                errors.forbidden(&at.child(field), detail);
            }
        }
        for (j, mount) in container.list("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    errors.forbidden(&at.child("volumeMounts").index(j).child(field), detail);
                }
            }
        }
    }
}

/// In pods, not in templates: images have no blanks around them.
pub(crate) fn image_only_in_pods(container: &Value, at: &Path, errors: &mut ErrorList) {
    let image = container.text("image");
    if image.trim() != image {
        errors.invalid(&at.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn common(container: &Value, pod: &Pod, at: &Path, errors: &mut ErrorList) {
    let name = container.text("name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.each(&at.child("name"), name, names::dns1123_label(name));
    }
    if container.text("image").is_empty() {
        errors.required(&at.child("image"), "");
    }
    match container.text("terminationMessagePolicy") {
        "" => errors.required(&at.child("terminationMessagePolicy"), ""),
        policy => {
            let supported = ["File", "FallbackToLogsOnError"];
            errors.one_of(&at.child("terminationMessagePolicy"), policy, &supported);
        }
    }
    ports(container.list("ports"), &at.child("ports"), errors);
    env::env(container.list("env"), &at.child("env"), errors);
    env::env_from(container.list("envFrom"), &at.child("envFrom"), errors);
    pod.volumes.mounts(container, &at.child("volumeMounts"), errors);
    pod.volumes.devices(container, &at.child("volumeDevices"), errors);
    pull_policy(container.text("imagePullPolicy"), &at.child("imagePullPolicy"), errors);
    requirements::container(container.at("resources"), &pod.claims, &at.child("resources"), errors);
    resize_policy(container, pod, &at.child("resizePolicy"), errors);
    security::container(
        container.at("securityContext"),
        pod.host_users,
        &at.child("securityContext"),
        errors,
    );
}

pub(crate) fn pull_policy(policy: &str, at: &Path, errors: &mut ErrorList) {
    match policy {
        "" => errors.required(at, ""),
        _ => errors.one_of(at, policy, &["Always", "IfNotPresent", "Never"]),
    }
}

fn ports(ports: &[Value], at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let at = at.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                errors.each(&at.child("name"), name, messages);
            } else if seen.contains(&name) {
                errors.duplicate(&at.child("name"), name);
            } else {
                seen.push(name);
            }
        }
        match port.int("containerPort").unwrap_or(0) {
            0 => errors.required(&at.child("containerPort"), ""),
            n => errors.each(&at.child("containerPort"), n, names::port_number(n)),
        }
        if let Some(n) = port.int("hostPort").filter(|n| *n != 0) {
            errors.each(&at.child("hostPort"), n, names::port_number(n));
        }
        match port.text("protocol") {
            "" => errors.required(&at.child("protocol"), ""),
            protocol => errors.one_of(&at.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]),
        }
    }
}

fn host_ports(containers: &[Value], at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<String> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.list("ports").iter().enumerate() {
            let Some(number) = port.int("hostPort").filter(|n| *n != 0) else { continue };
            let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if seen.contains(&key) {
                errors.duplicate(&at.index(i).child("ports").index(j).child("hostPort"), key);
            } else {
                seen.push(key);
            }
        }
    }
}

fn resize_policy(container: &Value, pod: &Pod, at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, policy) in container.list("resizePolicy").iter().enumerate() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if seen.contains(&resource) {
            errors.duplicate(&at.index(i), resource);
        }
        seen.push(resource);
        match resource {
            "" => errors.required(at, ""),
            _ => errors.one_of(at, resource, &["cpu", "memory"]),
        }
        match restart {
            "" => errors.required(at, ""),
            _ => errors.one_of(at, restart, &["NotRequired", "RestartContainer"]),
        }
        if pod.spec.text("restartPolicy") == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.invalid(at, restart, detail);
        }
    }
}

fn restart_policy(container: &Value, at: &Path, errors: &mut ErrorList) {
    let rules = container.list("restartPolicyRules");
    let rules_at = at.child("restartPolicyRules");
    if container.has("restartPolicy") {
        let supported = ["Always", "Never", "OnFailure"];
        errors.one_of(&at.child("restartPolicy"), container.text("restartPolicy"), &supported);
    } else if rules.is_empty() {
        return;
    } else {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.required(&at.child("restartPolicy"), detail);
        if !container.has("restartPolicy") && at.as_str().contains("initContainers") {
            return;
        }
    }
    if rules.len() > 20 {
        errors.too_many(&rules_at, rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = rules_at.index(i);
        errors.one_of(&at.child("action"), rule.text("action"), &["Restart", "RestartAllContainers"]);
        let codes = rule.at("exitCodes");
        if !codes.is_object() {
            errors.required(&at.child("exitCodes"), "must be specified");
            continue;
        }
        let at = at.child("exitCodes");
        errors.one_of(&at.child("operator"), codes.text("operator"), &["In", "NotIn"]);
        if codes.list("values").len() > 255 {
            errors.too_many(&at.child("values"), codes.list("values").len(), 255);
        }
    }
}

/// `spec.resourceClaims`. `mirror`: it is a static pod's, which has none.
pub(crate) fn resource_claims(claims: &[Value], mirror: bool, at: &Path, errors: &mut ErrorList) {
    const CLAIM: &[Field] = &[
        ("Name", "name", Zero::Text),
        ("ResourceClaimName", "resourceClaimName", Zero::Null),
        ("ResourceClaimTemplateName", "resourceClaimTemplateName", Zero::Null),
    ];
    let mut seen: Vec<&str> = Vec::new();
    for (i, claim) in claims.iter().enumerate() {
        let at = at.index(i);
        if mirror {
            errors.forbidden(&Path::root(), "static pods do not support resource claims");
            continue;
        }
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if seen.contains(&name) {
            errors.duplicate(&at.child("name"), name);
        } else {
            errors.each(&at.child("name"), name, names::dns1123_label(name));
            seen.push(name);
        }
        let (own, template) = (claim.at("resourceClaimName"), claim.at("resourceClaimTemplateName"));
        if own.is_string() && template.is_string() {
            let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            errors.invalid_shown(&at, show(claim, CLAIM), detail);
        }
        if own.is_null() && template.is_null() {
            let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            errors.invalid_shown(&at, show(claim, CLAIM), detail);
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            if let Some(name) = claim.at(field).as_str() {
                errors.each(&at.child(field), name, names::subdomain_name(name, false));
            }
        }
    }
}

/// Memory and storage are counted in whole bytes: warnings for those that are not.
pub(crate) fn fractional(list: &Value, at: &Path, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let value = list.at(name);
        if quantity::of(value) % quantity::ONE != 0 {
            let shown = machinery::field::go_quote(value.as_str().unwrap_or(""));
            let at = at.key(name);
            warnings.push(format!("{at}: fractional byte value {shown} is invalid, must be an integer"));
        }
    }
}
