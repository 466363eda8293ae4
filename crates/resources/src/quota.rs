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
            let storage = spec.at("resources").at("requests").get("storage").map(Quantity::of);
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
    let matches = |scope: &str, operator: &str, values: &[Value]| -> bool {
        if !pod {
            return false;
        }
        match scope {
            "BestEffort" => is_best_effort(spec),
            "NotBestEffort" => !is_best_effort(spec),
            "Terminating" => spec.int("activeDeadlineSeconds").is_some(),
            "NotTerminating" => spec.int("activeDeadlineSeconds").is_none(),
            "PriorityClass" => {
                let class = spec.text("priorityClassName");
                let listed = values.iter().any(|v| v == class);
                match operator {
                    "In" => listed,
                    "NotIn" => !listed,
                    "DoesNotExist" => class.is_empty(),
                    _ => !class.is_empty(),
                }
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
