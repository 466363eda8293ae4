//! ResourceQuota: what a write would add is taken from the quotas first, by compare-and-swap of their status, so that no
//! two writes can take the same. <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use futures_util::FutureExt;
use machinery::quantity::Quantity;
use machinery::{Get, Status, Value, meta};

use resources::quota::{Amounts, in_scope, usage};

use super::{Attributes, Operation, Plugin, forbidden};
use crate::registry::{Call, UpdateRequest, update_object};

pub static PLUGIN: Plugin = Plugin {
    name: "ResourceQuota",
    mutate: None,
    validate: Some(|call, attributes| admit(call, attributes).boxed()),
};

async fn admit(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    if !relevant(a) || a.namespace.is_empty() {
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
    let (group, resource) = (a.resource.group.as_str(), a.resource.name.as_str());
    let whole = usage(group, resource, a.object());
    let mut grown = whole.clone();
    let is_update = a.operation == Operation::Update;
    if is_update {
        let before = usage(group, resource, a.old());
        grown = grown
            .into_iter()
            .map(|(name, amount)| {
                let grown = before.get(&name).map_or_else(|| amount.clone(), |b| amount.sub(b));
                (name, grown)
            })
            .filter(|(_, amount)| !amount.is_zero() && !amount.is_negative())
            .collect();
    }
    for (name, quota) in names {
        // only what grows is asked for, but all of it of a quota that did not count the object before
        let counted = is_update && in_scope(group, resource, &quota, a.old());
        let wanted = if counted { &grown } else { &whole };
        if !in_scope(group, resource, &quota, a.object()) {
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

/// Can a write change what an object counts as? Of pods that are there only the deadline and the resizing do.
fn relevant(a: &Attributes) -> bool {
    let pods = a.resource.group.is_empty() && a.resource.name == "pods";
    match (a.operation, a.subresource.as_str()) {
        (Operation::Create, "") => true,
        (Operation::Update, "") if pods => {
            let ends = |pod: &Value| pod.at("spec").int("activeDeadlineSeconds").is_some();
            ends(a.old()) != ends(a.object())
        }
        (Operation::Update, "") => true,
        (Operation::Update, "resize") => pods,
        _ => false,
    }
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
                let have = status.at("used").get(key).map_or(Quantity::ZERO, Quantity::of);
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
