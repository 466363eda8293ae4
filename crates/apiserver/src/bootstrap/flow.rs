//! The default priority levels and flow schemas of API Priority and Fairness: made, and kept where the cluster's owner
//! has not taken them over. <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults>

use std::sync::Arc;

use futures_util::future::join_all;
use machinery::{Get, Status, Value, json, meta};

use resources::flowcontrol::mandatory;

use crate::kinds::Resource;
use crate::registry::options::WriteOptions;
use crate::registry::{DeleteOptions, UpdateRequest, create_object, delete_object, update_object};
use crate::server::Core;

pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const MANAGER: &str = "api-priority-and-fairness-config-producer-v1";
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Those that hold whatever the API says.
const MANDATORY: &[&str] = &["exempt", "catch-all"];

/// (name, shares, lendable percent, (queues, hand size, queue length))
const LEVELS: &[(&str, i64, i64, (i64, i64, i64))] = &[
    ("system", 30, 33, (64, 6, 50)),
    ("node-high", 40, 25, (64, 6, 50)),
    ("leader-election", 10, 0, (16, 4, 50)),
    ("workload-high", 40, 50, (128, 6, 50)),
    ("workload-low", 100, 90, (128, 6, 50)),
    ("global-default", 20, 50, (128, 6, 50)),
];

/// (name, level, precedence, distinguisher, subjects), for everything they do.
const SCHEMAS: &[(&str, &str, i64, &str, &[(&str, &str)])] = &[
    ("system-nodes", "system", 500, "ByUser", &[("Group", "system:nodes")]),
    (
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        &[("User", "system:kube-controller-manager")],
    ),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", &[("User", "system:kube-scheduler")]),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", &[("ServiceAccount", "*")]),
    ("service-accounts", "workload-low", 9000, "ByUser", &[("Group", "system:serviceaccounts")]),
    ("global-default", "global-default", 9900, "ByUser", EVERYBODY),
];

const EVERYBODY: &[(&str, &str)] = &[("Group", "system:unauthenticated"), ("Group", "system:authenticated")];

pub fn mandatory() -> impl Iterator<Item = Value> {
    all().into_iter().map(|(_, object)| object).filter(|object| MANDATORY.contains(&meta::name(object)))
}

/// Makes every default object that is missing, mends those that are not their owner's business, removes what once was
/// a default.
pub async fn ensure_all(core: &Arc<Core>) -> Result<(), Status> {
    let defaults = all();
    let map = core.kinds.now();
    let each = defaults.iter().filter_map(|(resource, object)| {
        let resource = map.preferred(GROUP, resource)?;
        Some(ensure(core, resource, object))
    });
    for made in join_all(each).await {
        made?;
    }
    for plural in ["flowschemas", "prioritylevelconfigurations"] {
        let Some(resource) = map.preferred(GROUP, plural) else { continue };
        let Some(home) = &resource.home else { continue };
        let is_default = |name: &str| defaults.iter().any(|(r, o)| *r == plural && meta::name(o) == name);
        for entry in home.cache.snapshot().0.values().filter(|entry| !is_default(entry.name())) {
            if auto_update(&entry.parse()) != Some(true) {
                continue;
            }
            let mut call = core.internal_call(resource.clone(), "delete", "", entry.name());
            match delete_object(&mut call, &DeleteOptions::default()).await {
                Err(status) if status.code != 404 => return Err(status),
                _ => {}
            }
        }
    }
    Ok(())
}

/// What the annotation says, if it says something.
fn auto_update(object: &Value) -> Option<bool> {
    match meta::annotations(object)?.get(AUTOUPDATE)?.as_str()? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

async fn ensure(core: &Arc<Core>, resource: Arc<Resource>, want: &Value) -> Result<(), Status> {
    let Some(home) = resource.home.clone() else { return Ok(()) };
    let name = meta::name(want).to_owned();
    let options = WriteOptions { manager: MANAGER.to_owned(), ..WriteOptions::default() };
    let Some(entry) = home.cache.get(&name) else {
        let mut call = core.internal_call(resource, "create", "", "");
        return match create_object(&mut call, want.clone(), &options, None).await {
            Err(status) if status.reason != "AlreadyExists" => Err(status),
            _ => Ok(()),
        };
    };
    if revised(&entry.parse(), want).is_none() {
        return Ok(());
    }
    let mut call = core.internal_call(resource, "update", "", &name);
    let request = UpdateRequest {
        options: &options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |_, old| Ok(revised(old, want).unwrap_or_else(|| old.clone())),
    };
    update_object(&mut call, request).await.map(|_| ())
}

/// The object as it should be, if it is not.
fn revised(old: &Value, want: &Value) -> Option<Value> {
    let name = meta::name(want);
    // an object that was never changed is still ours
    let ours = || auto_update(old).unwrap_or_else(|| old.at("metadata").int("generation") == Some(1));
    let auto = MANDATORY.contains(&name) || ours();
    let mut spec = want.at("spec").clone();
    if let (Some(_), Some(theirs)) = (spec.get("exempt"), old.at("spec").get("exempt")) {
        // how much of the server the exempt level may lend is its owner's business
        spec.set("exempt", theirs.clone());
    }
    let mends = auto && spec != *old.at("spec");
    if !mends && auto_update(old) == Some(auto) {
        return None;
    }
    let mut new = old.clone();
    if mends {
        new.set("spec", want.at("spec").clone());
    }
    new.child("metadata").child("annotations").set(AUTOUPDATE, if auto { "true" } else { "false" });
    Some(new)
}

/// (resource, object) of all of them.
fn all() -> Vec<(&'static str, Value)> {
    let mut out = Vec::new();
    let mut add = |kind: &str, resource: &'static str, name: &str, spec: Value| {
        let object = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}}});
        out.push((resource, object));
    };
    let mut level = |name: &str, spec: Value| {
        add("PriorityLevelConfiguration", "prioritylevelconfigurations", name, spec)
    };
    for name in MANDATORY {
        level(name, mandatory::level(name).unwrap_or_default());
    }
    for (name, shares, lendable, queues) in LEVELS {
        let (queues, hand, length) = queues;
        let response = json!({"type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}});
        level(
            name,
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares,
                "lendablePercent": lendable, "limitResponse": response}}),
        );
    }
    let mut schema = |name: &str, spec: Value| add("FlowSchema", "flowschemas", name, spec);
    let everything = (json!([resources("*", "*", "*", true)]), json!([urls("*", &["*"])]));
    for name in MANDATORY {
        schema(name, mandatory::schema(name).unwrap_or_default());
    }
    for (name, level, precedence, method, who) in SCHEMAS {
        let rule = json!({"subjects": subjects(who), "resourceRules": everything.0, "nonResourceRules": everything.1});
        schema(name, spec(level, *precedence, method, rule));
    }
    let probes = json!({"subjects": subjects(EVERYBODY),
        "nonResourceRules": [urls("get", &["/healthz", "/readyz", "/livez"])]});
    schema("probes", spec("exempt", 2, "", probes));
    let election = json!({"subjects": subjects(&[("User", "system:kube-controller-manager"),
            ("User", "system:kube-scheduler"), ("ServiceAccount", "*")]),
        "resourceRules": [resources("get,create,update", "coordination.k8s.io", "leases", false)]});
    schema("system-leader-election", spec("leader-election", 100, "ByUser", election));
    let nodes = json!({"subjects": subjects(&[("Group", "system:nodes")]),
        "resourceRules": [resources("*", "", "nodes,nodes/status", true),
            resources("*", "coordination.k8s.io", "leases", false)]});
    schema("system-node-high", spec("node-high", 400, "ByUser", nodes));
    out
}

fn spec(level: &str, precedence: i64, method: &str, rule: Value) -> Value {
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
        "rules": [rule]});
    if !method.is_empty() {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    spec
}

fn subjects(who: &[(&str, &str)]) -> Vec<Value> {
    who.iter()
        .map(|(kind, name)| match *kind {
            "Group" => json!({"kind": "Group", "group": {"name": name}}),
            "User" => json!({"kind": "User", "user": {"name": name}}),
            _ => json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}}),
        })
        .collect()
}

fn resources(verbs: &str, group: &str, resources: &str, cluster: bool) -> Value {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut rule = json!({"verbs": list(verbs), "apiGroups": [group], "resources": list(resources),
        "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn urls(verbs: &str, paths: &[&str]) -> Value {
    json!({"verbs": [verbs], "nonResourceURLs": paths})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mended() {
        let levels = all();
        let level = |name: &str| levels.iter().find(|(_, o)| meta::name(o) == name).unwrap().1.clone();
        let want = level("workload-low");
        assert_eq!(revised(&want, &want), None);
        let mut changed = want.clone();
        changed["spec"]["limited"]["lendablePercent"] = 1.into();
        assert_eq!(revised(&changed, &want), Some(want.clone()));
        // its owner has taken it over
        changed["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(revised(&changed, &want), None);
        // ... or has not said so: then the generation tells
        changed["metadata"]["annotations"] = json!({});
        changed["metadata"]["generation"] = 2.into();
        let told = revised(&changed, &want).unwrap();
        assert_eq!(auto_update(&told), Some(false));
        assert_eq!(told["spec"], changed["spec"]);
        changed["metadata"]["generation"] = 1.into();
        assert_eq!(revised(&changed, &want).unwrap()["spec"], want["spec"]);
        let mut exempt = level("exempt");
        exempt["spec"]["exempt"]["lendablePercent"] = 50.into();
        assert_eq!(revised(&exempt, &level("exempt")), None);
        assert_eq!(mandatory().count(), 4);
    }
}
