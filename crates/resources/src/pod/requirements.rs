//! Resource requirements of containers and pods, and names of resources.

use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, Value};

use super::resources::{aggregate, is_huge_page, is_pod_level};
use crate::check::{Errors, NEGATIVE};
use crate::{names, quantity};

const NATIVE: &str = "kubernetes.io/";

/// Names without a domain that quotas, limits and containers may speak of.
pub(crate) fn is_standard(name: &str) -> bool {
    matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
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
            | "storage"
            | "requests.storage"
    ) || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

fn is_container_standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

/// Is it one of Kubernetes' own?
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains(NATIVE)
}

/// A device or other resource of a domain.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// May requests be less than limits?
pub(crate) fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Can only be had in whole units.
pub(crate) fn is_integer(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended(name)
}

/// Any resource's name. True if it is good.
pub(crate) fn resource_name(name: &str, at: &Path, errors: &mut ErrorList) -> bool {
    let before = errors.len();
    errors.each(at, name, names::qualified_name(name));
    if errors.len() == before && !name.contains('/') && !is_standard(name) {
        errors.invalid(at, name, "must be a standard resource type or fully qualified");
    }
    errors.len() == before
}

/// A resource's name in a container.
pub(crate) fn container_resource_name(name: &str, at: &Path, errors: &mut ErrorList) {
    resource_name(name, at, errors);
    if !name.contains('/') {
        if !is_container_standard(name) {
            errors.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(at, name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource_name(name: &str, at: &Path, errors: &mut ErrorList) {
    if resource_name(name, at, errors) && !is_pod_level(name) {
        errors.unsupported(at, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// Not negative, and whole where it must be.
pub(crate) fn quantity_value(name: &str, value: &Value, at: &Path, errors: &mut ErrorList) {
    not_negative(value, at, errors);
    if is_integer(name) && quantity::of(value) % (quantity::ONE) != 0 {
        errors.invalid(at, value.clone(), "must be an integer");
    }
}

/// A quantity that must not be negative.
pub(crate) fn not_negative(value: &Value, at: &Path, errors: &mut ErrorList) {
    if quantity::of(value) < 0 {
        errors.invalid(at, value.clone(), NEGATIVE);
    }
}

type NameCheck = fn(&str, &Path, &mut ErrorList);

/// `resources` of a container; `claims` are the names of the pod's resource claims.
pub(crate) fn container(requirements: &Value, claims: &[&str], at: &Path, errors: &mut ErrorList) {
    requirements_with(requirements, container_resource_name, claims, at, errors);
}

fn requirements_with(
    requirements: &Value,
    name_check: NameCheck,
    claims: &[&str],
    at: &Path,
    errors: &mut ErrorList,
) {
    let (mut sized, mut huge) = (false, false);
    let limits_at = at.child("limits");
    for (name, value) in requirements.map("limits").into_iter().flatten() {
        let at = limits_at.key(name);
        name_check(name, &at, errors);
        quantity_value(name, value, &at, errors);
        huge |= huge_page_value(name, value, &at, errors);
        sized |= matches!(name.as_str(), "cpu" | "memory");
    }
    let requests_at = at.child("requests");
    for (name, value) in requirements.map("requests").into_iter().flatten() {
        let at = requests_at.key(name);
        name_check(name, &at, errors);
        quantity_value(name, value, &at, errors);
        let limit = requirements.at("limits").at(name);
        if limit.is_null() {
            if !is_overcommit_allowed(name) {
                errors.required(&limits_at, "Limit must be set for non overcommitable resources");
            }
        } else {
            let (want, most) = (quantity::of(value), quantity::of(limit));
            let shown = limit.as_str().unwrap_or("");
            if want != most && !is_overcommit_allowed(name) {
                let detail = format!("must be equal to {name} limit of {shown}");
                errors.invalid(&requests_at, value.clone(), detail);
            } else if want > most {
                let detail = format!("must be less than or equal to {name} limit of {shown}");
                errors.invalid(&requests_at, value.clone(), detail);
            }
        }
        huge |= huge_page_value(name, value, &at, errors);
        sized |= matches!(name.as_str(), "cpu" | "memory");
    }
    if huge && !sized {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
    claim_names(requirements.list("claims"), claims, &at.child("claims"), errors);
}

/// Is it huge pages? Then it must be a multiple of the page size.
fn huge_page_value(name: &str, value: &Value, at: &Path, errors: &mut ErrorList) -> bool {
    let Some(size) = name.strip_prefix("hugepages-") else { return false };
    let divides = quantity::parse(size).is_some_and(|page| {
        let whole = page > 0 && quantity::of(value) % quantity::ONE == 0;
        whole && quantity::of(value) % page == 0
    });
    if !divides {
        let shown = value.as_str().unwrap_or("");
        let detail = format!("{shown} is not positive integer multiple of {name}");
        errors.invalid(at, value.clone(), detail);
    }
    true
}

fn claim_names(claims: &[Value], known: &[&str], at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<String> = Vec::new();
    for (i, claim) in claims.iter().enumerate() {
        let at = at.index(i);
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        if seen.iter().any(|s| s == name) {
            errors.duplicate(&at, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                errors.each(&at.child("request"), request, names::dns1123_label(request));
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                errors.duplicate(&at, key.as_str());
            } else if request.is_empty() {
                let parts = seen.iter().filter(|s| s.split_once('/').is_some_and(|(n, _)| n == name)).count();
                for _ in 0..parts {
                    errors.duplicate(&at, name);
                }
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut error = Error::not_found(&at, name);
            error.detail = "must be one of the names in pod.spec.resourceClaims".into();
            if known.is_empty() {
                error.detail.push_str(" which is empty");
            } else {
                let mut known = known.to_vec();
                known.sort_unstable();
                error.detail.push_str(&format!(": {}", known.join(", ")));
            }
            errors.push(error);
        }
    }
}

/// `spec.resources` of a pod.
pub(crate) fn pod_level(spec: &Value, claims: &[&str], at: &Path, errors: &mut ErrorList) {
    let requirements = spec.at("resources");
    if !requirements.is_object() {
        return;
    }
    let at = at.child("resources");
    if spec.at("os").text("name") == "windows" {
        return errors.forbidden(&at, "may not be set for a windows pod");
    }
    if requirements.has("claims") {
        errors.forbidden(&at.child("claims"), "claims may not be set for Resources at pod-level");
    }
    requirements_with(requirements, pod_resource_name, claims, &at, errors);
    pod_level_holds_containers(spec, requirements, &at, errors);
}

fn pod_level_holds_containers(spec: &Value, requirements: &Value, at: &Path, errors: &mut ErrorList) {
    let shown = |name: &str, q: i128| quantity::format(q, name != "cpu");
    for (name, sum) in aggregate(spec, "requests") {
        let own = requirements.at("requests").at(name);
        if !own.is_null() && sum > quantity::of(own) {
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {}",
                shown(name, sum)
            );
            errors.invalid(&at.child("requests").key(name), own.clone(), detail);
        }
    }
    for (name, sum) in aggregate(spec, "limits").into_iter().filter(|(name, _)| is_huge_page(name)) {
        let own = requirements.at("limits").at(name);
        if !own.is_null() && sum > quantity::of(own) {
            let detail = format!(
                "must be greater than or equal to aggregate container limits of {}",
                shown(name, sum)
            );
            errors.invalid(&at.child("limits").key(name), own.clone(), detail);
        }
    }
    for (i, container) in spec.list("containers").iter().enumerate() {
        for (name, limit) in container.at("resources").map("limits").into_iter().flatten() {
            let own = requirements.at("limits").at(name);
            if !own.is_null() && quantity::of(limit) > quantity::of(own) {
                let at = at.child("containers").index(i).key(name).child("limits");
                let own = own.as_str().unwrap_or("");
                errors.invalid(
                    &at,
                    limit.clone(),
                    format!("must be less than or equal to pod limits of {own}"),
                );
            }
        }
    }
}
