//! A quota's status, from the objects it counts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;
use resources::quota::{Amounts, add, in_scope, usage};
use serde_json::Value;

/// A resource by group and plural.
pub(super) type Kind = (String, String);

fn core(plural: &str) -> Kind {
    (String::new(), plural.to_owned())
}

/// The resource whose objects the name in `hard` counts.
pub(super) fn counted(name: &str) -> Option<Kind> {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Some((group.to_owned(), plural.to_owned()));
    }
    Some(match name {
        "configmaps"
        | "secrets"
        | "replicationcontrollers"
        | "resourcequotas"
        | "persistentvolumeclaims"
        | "pods" => core(name),
        "requests.storage" => core("persistentvolumeclaims"),
        _ if name == "services" || name.starts_with("services.") => core("services"),
        _ if name.contains(".storageclass.storage.k8s.io/") => core("persistentvolumeclaims"),
        "cpu" | "memory" | "ephemeral-storage" => core("pods"),
        _ if ["requests.", "limits.", "hugepages-"].iter().any(|prefix| name.starts_with(prefix)) => {
            core("pods")
        }
        _ => return None,
    })
}

/// The resources that a quota counts.
pub(super) fn kinds(quota: &ResourceQuota) -> BTreeSet<Kind> {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    hard.into_iter().flatten().filter_map(|(name, _)| counted(name)).collect()
}

/// The status to write, if it is not there yet. `objects` are those of the namespace of the kinds that the quota
/// counts; of kinds that are counted by number only, each may be an empty object.
pub(super) fn decide(quota: &ResourceQuota, objects: &[(Kind, Vec<Value>)]) -> Option<ResourceQuotaStatus> {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
    let shown = serde_json::to_value(quota).unwrap_or_default();
    let mut sums = Amounts::new();
    for ((group, plural), objects) in objects {
        for object in objects.iter().filter(|object| in_scope(group, plural, &shown, object)) {
            usage(group, plural, object).into_iter().for_each(|(name, amount)| add(&mut sums, name, &amount));
        }
    }
    let used: BTreeMap<String, Text> = hard
        .keys()
        .map(|name| (name.clone(), Text(sums.get(name).map_or("0".to_owned(), Quantity::to_string))))
        .collect();
    let old = quota.status.clone().unwrap_or_default();
    let same = |a: &BTreeMap<String, Text>, b: &Option<BTreeMap<String, Text>>| {
        let amount = |text: &Text| text.0.parse::<Quantity>().unwrap_or(Quantity::ZERO);
        let b = b.as_ref().cloned().unwrap_or_default();
        a.len() == b.len()
            && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| amount(a).compare(&amount(b)).is_eq()))
    };
    let settled = same(&hard, &old.hard) && same(&used, &old.used);
    (!settled).then_some(ResourceQuotaStatus { hard: Some(hard), used: Some(used) })
}
