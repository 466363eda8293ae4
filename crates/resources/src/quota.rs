//! What objects count as against a ResourceQuota, and which of them it counts.
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use std::collections::BTreeMap;

use machinery::quantity::{Format, Quantity};
use machinery::{Get, Value};

/// Amounts by the names that a quota's `hard` uses (`pods`, `requests.cpu`, `count/jobs.batch`, …).
pub type Amounts = BTreeMap<String, Quantity>;

/// Adds one amount to those there are.
pub fn add(into: &mut Amounts, name: String, amount: &Quantity) {
    let sum = into.get(&name).map_or_else(|| amount.clone(), |have| have.add(amount));
    into.insert(name, sum);
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

/// What an object of the resource `name` in `group` counts as.
pub fn usage(group: &str, name: &str, object: &Value) -> Amounts {
    let mut out = Amounts::new();
    let counted = if group.is_empty() { format!("count/{name}") } else { format!("count/{name}.{group}") };
    add(&mut out, counted, &one());
    if !group.is_empty() {
        return out;
    }
    let spec = object.at("spec");
    match name {
        "pods" => {
            if matches!(object.at("status").text("phase"), "Succeeded" | "Failed") {
                return out;
            }
            add(&mut out, "pods".to_owned(), &one());
            for (key, prefix) in [("requests", "requests."), ("limits", "limits.")] {
                for (resource, amount) in total(spec, key) {
                    add(&mut out, format!("{prefix}{resource}"), &amount);
                    let plain = matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage");
                    if key == "requests" && (plain || resource.starts_with("hugepages-")) {
                        add(&mut out, resource.clone(), &amount);
                    }
                }
            }
        }
        "services" => {
            add(&mut out, "services".to_owned(), &one());
            let ports = spec.list("ports").len() as i64;
            let ports = Quantity::new(ports, Format::DecimalSi);
            match spec.text("type") {
                "NodePort" => add(&mut out, "services.nodeports".to_owned(), &ports),
                "LoadBalancer" => {
                    add(&mut out, "services.loadbalancers".to_owned(), &one());
                    if spec.flag("allocateLoadBalancerNodePorts") != Some(false) {
                        add(&mut out, "services.nodeports".to_owned(), &ports);
                    }
                }
                _ => {}
            }
        }
        "persistentvolumeclaims" => {
            add(&mut out, "persistentvolumeclaims".to_owned(), &one());
            let asked = spec.at("resources").at("requests").get("storage").map(Quantity::of);
            let allocated = object.at("status").at("allocatedResources").get("storage").map(Quantity::of);
            // an expansion that failed has taken its storage all the same
            let storage = asked.map(|asked| match allocated {
                Some(more) if more.compare(&asked).is_gt() => more,
                _ => asked,
            });
            let class = spec.text("storageClassName");
            if let Some(storage) = &storage {
                add(&mut out, "requests.storage".to_owned(), storage);
            }
            if !class.is_empty() {
                let prefix = format!("{class}.storageclass.storage.k8s.io");
                add(&mut out, format!("{prefix}/persistentvolumeclaims"), &one());
                if let Some(storage) = &storage {
                    add(&mut out, format!("{prefix}/requests.storage"), storage);
                }
            }
        }
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            add(&mut out, name.to_owned(), &one());
        }
        _ => {}
    }
    out
}

fn is_best_effort(spec: &Value) -> bool {
    ["containers", "initContainers"].iter().flat_map(|list| spec.list(list)).all(|c| {
        ["requests", "limits"].iter().all(|key| c.at("resources").map(key).is_none_or(|m| m.is_empty()))
    })
}

/// True if the object is among those that the quota counts.
pub fn in_scope(group: &str, name: &str, quota: &Value, object: &Value) -> bool {
    let spec = object.at("spec");
    let pod = group.is_empty() && name == "pods";
    let claim = group.is_empty() && name == "persistentvolumeclaims";
    let matches = |scope: &str, operator: &str, values: &[Value]| -> bool {
        if claim && scope == "VolumeAttributesClass" {
            return names_match(&attributes_classes(object), operator, values);
        }
        if !pod {
            return false;
        }
        match scope {
            "BestEffort" => is_best_effort(spec),
            "NotBestEffort" => !is_best_effort(spec),
            "Terminating" => spec.int("activeDeadlineSeconds").is_some(),
            "NotTerminating" => spec.int("activeDeadlineSeconds").is_none(),
            "PriorityClass" => {
                let class = Some(spec.text("priorityClassName")).filter(|class| !class.is_empty());
                names_match(class.as_slice(), operator, values)
            }
            "CrossNamespacePodAffinity" => crosses_namespaces(spec.at("affinity")),
            _ => false,
        }
    };
    let quota = quota.at("spec");
    quota.list("scopes").iter().filter_map(Value::as_str).all(|s| matches(s, "Exists", &[]))
        && quota
            .at("scopeSelector")
            .list("matchExpressions")
            .iter()
            .all(|e| matches(e.text("scopeName"), e.text("operator"), e.list("values")))
}

/// Does a scope's requirement hold for one of the names that an object has, or for its having none?
fn names_match(names: &[&str], operator: &str, values: &[Value]) -> bool {
    let listed = |name: &&str| values.iter().any(|v| v == *name);
    match operator {
        "In" => names.iter().any(listed),
        "NotIn" => names.is_empty() || names.iter().any(|name| !listed(name)),
        "DoesNotExist" => names.is_empty(),
        _ => !names.is_empty(),
    }
}

/// The attributes classes of a claim: wanted, in effect, or being gone over to.
fn attributes_classes(claim: &Value) -> Vec<&str> {
    let status = claim.at("status");
    let mut names = vec![
        claim.at("spec").text("volumeAttributesClassName"),
        status.text("currentVolumeAttributesClassName"),
        status.at("modifyVolumeStatus").text("targetVolumeAttributesClassName"),
    ];
    names.retain(|name| !name.is_empty());
    names
}

fn crosses_namespaces(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, v)| {
            (matches!(key.as_str(), "namespaces" | "namespaceSelector")
                && !v.is_null()
                && v != &machinery::json!([]))
                || crosses_namespaces(v)
        }),
        Value::Array(items) => items.iter().any(crosses_namespaces),
        _ => false,
    }
}

/// What a pod's spec asks for (`key` is `requests` or `limits`): the sum over containers, or what one init container
/// needs if that is more.
pub fn total(spec: &Value, key: &str) -> Amounts {
    let mut sums = Amounts::new();
    for container in spec.list("containers") {
        for (name, quantity) in container.at("resources").map(key).into_iter().flatten() {
            let quantity = Quantity::of(quantity);
            let sum = sums.get(name).map_or_else(|| quantity.clone(), |s| s.add(&quantity));
            sums.insert(name.clone(), sum);
        }
    }
    for container in spec.list("initContainers") {
        let sidecar = container.text("restartPolicy") == "Always";
        for (name, quantity) in container.at("resources").map(key).into_iter().flatten() {
            let quantity = Quantity::of(quantity);
            let sum = match sums.get(name) {
                Some(sum) if sidecar => sum.add(&quantity),
                Some(sum) if sum.compare(&quantity).is_ge() => sum.clone(),
                _ => quantity,
            };
            sums.insert(name.clone(), sum);
        }
    }
    for (name, quantity) in spec.map("overhead").into_iter().flatten() {
        if let Some(sum) = sums.get(name) {
            let sum = sum.add(&Quantity::of(quantity));
            sums.insert(name.clone(), sum);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::json;

    #[test]
    fn claims_are_told_apart_by_their_attributes_class() {
        let claim = |class: Value| json!({"spec": {"volumeAttributesClassName": class}, "status": {}});
        let check = |operator: &str, class: Value, counted: bool| {
            let values = if operator == "In" || operator == "NotIn" { json!(["gold"]) } else { json!([]) };
            let expression =
                json!({"scopeName": "VolumeAttributesClass", "operator": operator, "values": values});
            let quota = json!({"spec": {"scopeSelector": {"matchExpressions": [expression]}}});
            let claim = claim(class);
            assert_eq!(in_scope("", "persistentvolumeclaims", &quota, &claim), counted, "{operator} {claim}");
        };
        check("In", json!("gold"), true);
        check("In", json!("silver"), false);
        check("In", Value::Null, false);
        check("NotIn", json!("gold"), false);
        check("NotIn", json!("silver"), true);
        check("NotIn", Value::Null, true);
        check("Exists", json!("gold"), true);
        check("Exists", Value::Null, false);
        check("DoesNotExist", Value::Null, true);
    }

    #[test]
    fn a_claim_counts_what_it_was_allocated() {
        let claim = json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}},
            "status": {"allocatedResources": {"storage": "2Gi"}}});
        let usage = usage("", "persistentvolumeclaims", &claim);
        assert_eq!(usage["requests.storage"].to_string(), "2Gi");
    }
}
