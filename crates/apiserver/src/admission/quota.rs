//! ResourceQuota: what a write would add is taken from the quotas first, by compare-and-swap of their status, so that no
//! two writes can take the same. <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use std::collections::BTreeMap;

use futures_util::FutureExt;
use machinery::quantity::Quantity;
use machinery::{Get, Status, Value, meta};

use super::limits::total;
use super::{Attributes, Operation, Plugin, forbidden};
use crate::registry::{Call, UpdateRequest, update_object};

pub static PLUGIN: Plugin = Plugin {
    name: "ResourceQuota",
    mutate: None,
    validate: Some(|call, attributes| admit(call, attributes).boxed()),
};

type Amounts = BTreeMap<String, Quantity>;

fn add(into: &mut Amounts, name: String, amount: &Quantity) {
    let sum = into.get(&name).map_or_else(|| amount.clone(), |have| have.add(amount));
    into.insert(name, sum);
}

fn one() -> Quantity {
    Quantity::new(1, machinery::quantity::Format::DecimalSi)
}

/// What an object counts as.
fn usage(a: &Attributes, object: &Value) -> Amounts {
    let mut out = Amounts::new();
    let (group, name) = (a.resource.group.as_str(), a.resource.name.as_str());
    let counted = if group.is_empty() { format!("count/{name}") } else { format!("count/{name}.{group}") };
    add(&mut out, counted, &one());
    if !group.is_empty() {
        return out;
    }
    let spec = object.at("spec");
    match name {
        "pods" => {
            if matches!(object.at("status").text("phase"), "Succeeded" | "Failed") {
                out.clear();
                return out;
            }
            add(&mut out, "pods".to_owned(), &one());
            for (key, prefix) in [("requests", "requests."), ("limits", "limits.")] {
                for (resource, amount) in total(spec, key).as_object().into_iter().flatten() {
                    let amount = Quantity::of(amount);
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
            let ports = Quantity::new(ports, machinery::quantity::Format::DecimalSi);
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

/// Is the object among those that a quota counts?
fn in_scope(a: &Attributes, quota: &Value, object: &Value) -> bool {
    let spec = object.at("spec");
    let pod = a.resource.group.is_empty() && a.resource.name == "pods";
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

async fn admit(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    let relevant = a.subresource.is_empty() && matches!(a.operation, Operation::Create | Operation::Update);
    if !relevant || a.namespace.is_empty() {
        return Ok(());
    }
    let quotas = call.core.kinds.now().find("", "v1", "resourcequotas");
    let Some(home) = quotas.as_ref().and_then(|r| r.home.clone()) else { return Ok(()) };
    if home.cache.is_empty() {
        return Ok(());
    }
    let prefix = format!("{}/", a.namespace);
    let (snapshot, _) = home.cache.snapshot();
    let names: Vec<(String, Value)> = snapshot
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(_, e)| (e.name().to_owned(), e.parse()))
        .collect();
    let mut wanted = usage(a, a.object());
    if a.operation == Operation::Update {
        // only what grows is asked for
        let before = usage(a, a.old());
        wanted = wanted
            .into_iter()
            .map(|(name, amount)| {
                let grown = before.get(&name).map_or_else(|| amount.clone(), |b| amount.sub(b));
                (name, grown)
            })
            .filter(|(_, amount)| !amount.is_zero() && !amount.is_negative())
            .collect();
    }
    for (name, quota) in names {
        if !in_scope(a, &quota, a.object()) {
            continue;
        }
        let hard = quota.at("spec").map("hard").cloned().unwrap_or_default();
        missing_requests(a, &name, &hard)?;
        let asked: Amounts = wanted
            .iter()
            .filter(|(n, _)| hard.contains_key(*n))
            .map(|(n, q)| (n.clone(), q.clone()))
            .collect();
        if !asked.is_empty() {
            charge(call, a, &name, &asked).await?;
        }
    }
    Ok(())
}

/// A quota on computing resources wants pods to say what they need.
fn missing_requests(a: &Attributes, quota: &str, hard: &machinery::Map<String, Value>) -> Result<(), Status> {
    if a.resource.name != "pods" || a.operation != Operation::Create {
        return Ok(());
    }
    let mut missing: Vec<String> = Vec::new();
    for name in hard.keys() {
        let (key, resource) = match name.split_once('.') {
            Some((key @ ("requests" | "limits"), resource)) => (key, resource),
            _ if matches!(name.as_str(), "cpu" | "memory") => ("requests", name.as_str()),
            _ => continue,
        };
        if !matches!(resource, "cpu" | "memory") {
            continue;
        }
        let spec = a.object().at("spec");
        let lacking: Vec<&str> = ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec.list(list))
            .filter(|c| !c.at("resources").at(key).has(resource))
            .map(|c| c.text("name"))
            .collect();
        if !lacking.is_empty() {
            missing.push(format!("{name} for: {}", lacking.join(",")));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort();
    Err(forbidden(a, &format!("failed quota: {quota}: must specify {}", missing.join("; "))))
}

fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

/// Adds to the used amounts of a quota's status, unless that would be too much.
async fn charge(call: &Call, a: &Attributes, name: &str, asked: &Amounts) -> Result<(), Status> {
    let Some(resource) = call.core.kinds.now().find("", "v1", "resourcequotas") else { return Ok(()) };
    let mut update = call.core.internal_call(resource, "update", &a.namespace, name);
    update.info.subresource = "status".to_owned();
    let mut options = crate::bootstrap::options();
    options.dry_run = a.dry_run;
    let request = UpdateRequest {
        options: &options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |_, old| {
            let status = old.at("status");
            if status.map("hard").is_none_or(|hard| hard.is_empty()) {
                let why = format!(
                    "status unknown for quota: {name}, resources: {}",
                    asked.keys().cloned().collect::<Vec<_>>().join(",")
                );
                return Err(forbidden(a, &why));
            }
            let (mut requested, mut used, mut limited) = (Amounts::new(), Amounts::new(), Amounts::new());
            let mut new = old.clone();
            for (key, amount) in asked {
                let Some(hard) = status.at("hard").get(key).map(Quantity::of) else { continue };
                let have = status.at("used").get(key).map_or_else(|| one().sub(&one()), Quantity::of);
                let sum = have.add(amount);
                if sum.compare(&hard).is_gt() {
                    requested.insert(key.clone(), amount.clone());
                    used.insert(key.clone(), have);
                    limited.insert(key.clone(), hard);
                    continue;
                }
                new.child("status").child("used").set(key, sum.to_string());
            }
            if !requested.is_empty() {
                let why = format!(
                    "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                    shown(&requested),
                    shown(&used),
                    shown(&limited)
                );
                return Err(forbidden(a, &why));
            }
            Ok(new)
        },
    };
    match Box::pin(update_object(&mut update, request)).await {
        Ok(_) => Ok(()),
        // the quota went away meanwhile
        Err(status)
            if status.code == 404 && status.details.as_ref().is_some_and(|d| d.kind == "resourcequotas") =>
        {
            Ok(())
        }
        Err(status) => {
            let _ = meta::name(a.object());
            Err(status)
        }
    }
}
