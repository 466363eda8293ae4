//! What a pod's status may say.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::spec::Options;
use super::update::annotation_updates;
use crate::check::{self, Errors};
use crate::{ip, names, objectmeta};

/// The `status` subresource.
pub(crate) fn update(new: &Value, old: &Value, options: Options) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    annotation_updates(new, old, options, &mut errors);
    let at = Path::new("status");
    let (status, before) = (new.at("status"), old.at("status"));
    conditions(status.list("conditions"), &at.child("conditions"), &mut errors);
    nominated(status, old, &at, &mut errors);
    let generation = status.int("observedGeneration").unwrap_or(0);
    if generation < 0 {
        errors.invalid(&at.child("observedGeneration"), generation, "must be a non-negative integer");
    }
    errors.immutable(&at.child("qosClass"), status.at("qosClass"), before.at("qosClass"));
    transitions(status, before, old.at("spec"), &at, &mut errors);
    claims(status, new.at("spec"), &at, &mut errors);
    addresses(status, before, &at, &mut errors);
    users_and_resources(status, new.at("spec"), &at, &mut errors);
    errors
}

fn conditions(conditions: &[Value], at: &Path, errors: &mut ErrorList) {
    for (i, condition) in conditions.iter().enumerate() {
        let at = at.index(i);
        let generation = condition.int("observedGeneration").unwrap_or(0);
        if generation < 0 {
            errors.invalid(&at.child("observedGeneration"), generation, "must be a non-negative integer");
        }
        let kind = condition.text("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            check::label_name(kind, &at.child("Type"), errors);
        }
    }
}

fn nominated(status: &Value, old: &Value, at: &Path, errors: &mut ErrorList) {
    let name = status.text("nominatedNodeName");
    if name.is_empty() || name == old.at("status").text("nominatedNodeName") {
        return;
    }
    let at = at.child("nominatedNodeName");
    errors.each(&at, name, names::subdomain_name(name, false));
    if !old.at("spec").text("nodeName").is_empty() {
        errors.forbidden(&at, "may not be set on pods that are already bound to a node");
    }
}

/// Containers that ended for good do not come back.
fn transitions(status: &Value, before: &Value, spec: &Value, at: &Path, errors: &mut ErrorList) {
    let all_may_restart = ["initContainers", "containers"].iter().any(|list| {
        let rules = |c: &Value| {
            c.list("restartPolicyRules").iter().any(|r| r.text("action") == "RestartAllContainers")
        };
        spec.list(list).iter().any(rules)
    });
    for (field, list) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        if all_may_restart && !list.is_empty() {
            continue;
        }
        for (i, was) in before.list(field).iter().enumerate() {
            let ended = was.at("state").at("terminated");
            let name = was.text("name");
            let Some(now) = status.list(field).iter().find(|s| s.text("name") == name) else { continue };
            if !ended.is_object() || now.at("state").has("terminated") {
                continue;
            }
            let container = spec.list(list).iter().find(|c| c.text("name") == name);
            let code = ended.int("exitCode").unwrap_or(0);
            if !container.is_some_and(|c| may_restart(c, spec, code)) {
                let at = at.child(field).index(i).child("state");
                errors.forbidden(&at, "may not be transitioned to non-terminated state");
            }
        }
    }
}

fn may_restart(container: &Value, spec: &Value, code: i64) -> bool {
    let own = container.text("restartPolicy");
    if !own.is_empty() {
        for rule in container.list("restartPolicyRules") {
            let codes = rule.at("exitCodes");
            let listed = codes.list("values").iter().any(|v| v.as_i64() == Some(code));
            if codes.is_object() && listed == (codes.text("operator") == "In") {
                return matches!(rule.text("action"), "Restart" | "RestartAllContainers");
            }
        }
    }
    match if own.is_empty() { spec.text("restartPolicy") } else { own } {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

fn claims(status: &Value, spec: &Value, at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, claim) in status.list("resourceClaimStatuses").iter().enumerate() {
        let at = at.child("resourceClaimStatuses").index(i);
        let name = claim.text("name");
        if !spec.list("resourceClaims").iter().any(|c| c.text("name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&at.child("name"), name, detail);
        }
        if seen.contains(&name) {
            errors.duplicate(&at.child("name"), name);
        } else {
            seen.push(name);
        }
        if let Some(name) = claim.at("resourceClaimName").as_str() {
            errors.each(&at.child("resourceClaimName"), name, names::subdomain_name(name, false));
        }
    }
    if status.at("extendedResourceClaimStatus").is_object() {
        let at = at.child("extendedResourceClaimStatus");
        extended(status.at("extendedResourceClaimStatus"), spec, &at, errors);
    }
}

fn extended(claim: &Value, spec: &Value, at: &Path, errors: &mut ErrorList) {
    let mappings = claim.list("requestMappings");
    if mappings.is_empty() {
        errors.required(&at.child("requestMappings"), "at least one request mapping is required");
    }
    let mut seen: Vec<&Value> = Vec::new();
    for (i, mapping) in mappings.iter().enumerate() {
        let item = at.child("requestMappings").index(i);
        let (container, resource) = (mapping.text("containerName"), mapping.text("resourceName"));
        let found = ["containers", "initContainers"]
            .iter()
            .find_map(|list| spec.list(list).iter().find(|c| c.text("name") == container));
        match found {
            None => {
                let detail =
                    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.invalid(&item.child("containerName"), container, detail);
            }
            Some(c) if !c.at("resources").at("requests").has(resource) => {
                let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.invalid(&item.child("resourceName"), resource, detail);
            }
            Some(_) => {}
        }
        let request = mapping.text("requestName");
        errors.each(&at.child("requestName"), request, names::dns1123_label(request));
        if seen.contains(&mapping) {
            for field in ["containerName", "resourceName", "requestName"] {
                errors.duplicate(&item.child(field), mapping.text(field));
            }
        }
        seen.push(mapping);
    }
    match claim.text("resourceClaimName") {
        "" => errors.required(&at.child("resourceClaimName"), ""),
        name => errors.each(&at.child("resourceClaimName"), name, names::subdomain_name(name, false)),
    }
}

fn addresses(status: &Value, before: &Value, at: &Path, errors: &mut ErrorList) {
    let hosts = status.list("hostIPs");
    for field in ["podIPs", "hostIPs"] {
        let list_at = at.child(field);
        if field == "hostIPs"
            && let Some(first) = hosts.first()
            && first.text("ip") != status.text("hostIP")
        {
            errors.invalid(&list_at.index(0).child("ip"), first.text("ip"), "must be equal to `hostIP`");
        }
        let known: Vec<&str> = before.list(field).iter().map(|i| i.text("ip")).collect();
        let now: Vec<&str> = status.list(field).iter().map(|i| i.text("ip")).collect();
        for (i, address) in now.iter().enumerate() {
            ip::legacy(&list_at.index(i), address, &known, errors);
        }
        if now.len() > 1 {
            let parsed: Vec<_> = now.iter().filter_map(|a| ip::sloppy(a)).collect();
            let dual = parsed.iter().any(|a| a.is_ipv4()) && parsed.iter().any(|a| a.is_ipv6());
            if !dual || now.len() > 2 {
                let shown: Vec<String> = now.iter().map(|a| format!("{{\"IP\":{a:?}}}")).collect();
                let detail = "may specify no more than one IP for each IP family";
                errors.invalid_shown(&list_at, format!("[{}]", shown.join(",")), detail);
            }
        }
    }
}

fn users_and_resources(status: &Value, spec: &Value, at: &Path, errors: &mut ErrorList) {
    let os = if spec.has("os") { spec.at("os").text("name") } else { "linux" };
    let lists = [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ];
    for (field, _) in lists {
        for (i, container) in status.list(field).iter().enumerate() {
            let user = container.at("user").at("linux");
            let at = at.child(field).index(i).child("user").child("linux");
            if !user.is_object() {
                continue;
            }
            if os == "windows" {
                errors.forbidden(&at, "cannot be set for a windows pod");
                continue;
            }
            for id in ["uid", "gid"] {
                let value = user.int(id).unwrap_or(0);
                errors.each(&at.child(id), value, names::unix_id(value));
            }
            for (g, gid) in user.list("supplementalGroups").iter().enumerate() {
                let gid = gid.as_i64().unwrap_or(0);
                errors.each(&at.child("supplementalGroups").index(g), gid, names::unix_id(gid));
            }
        }
    }
    for (field, list) in lists {
        for (i, container) in status.list(field).iter().enumerate() {
            let at = at.child(field).index(i).child("allocatedResourcesStatus");
            let resources = container.list("allocatedResourcesStatus");
            if list.is_empty() {
                if !resources.is_empty() {
                    errors.forbidden(&at, "must not be specified in container status");
                }
                continue;
            }
            let of = spec.list(list).iter().find(|c| c.text("name") == container.text("name"));
            for (j, resource) in resources.iter().enumerate() {
                allocated(resource, of, &at.index(j), errors);
            }
        }
    }
}

fn allocated(resource: &Value, container: Option<&Value>, at: &Path, errors: &mut ErrorList) {
    let name = resource.text("name");
    if let Some(container) = container {
        let own = container.at("resources");
        let (found, detail) = if name.starts_with("claim:") {
            let is = |c: &Value| {
                let request = c.text("request");
                let slash = if request.is_empty() { "" } else { "/" };
                format!("claim:{}{slash}{request}", c.text("name")) == name
            };
            let detail = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
            (own.list("claims").iter().any(is), detail)
        } else {
            (own.at("requests").has(name), "must match one of the container's resource requests")
        };
        if !found {
            errors.invalid(&at.child("name"), name, detail);
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for (k, health) in resource.list("resources").iter().enumerate() {
        let at = at.child("resources").index(k);
        errors.one_of(&at.child("health"), health.text("health"), &["Healthy", "Unhealthy", "Unknown"]);
        if let Some(message) = health.at("message").as_str() {
            if message.is_empty() {
                errors.required(&at.child("message"), "must be non-empty if specified");
            } else if message.len() > 1024 {
                errors.too_long(&at.child("message"), 1024);
            }
        }
        let id = health.text("resourceID");
        if seen.contains(&id) {
            errors.duplicate(&at.child("resourceID"), id);
        } else {
            seen.push(id);
        }
    }
}
