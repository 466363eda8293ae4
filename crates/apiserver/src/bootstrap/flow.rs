//! The default priority levels and flow schemas of API Priority and Fairness.
//! <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults>

use machinery::{Value, json};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// (name, shares, lendable percent, (queues, hand size, queue length) or none to reject)
const LEVELS: &[(&str, i64, i64, Option<(i64, i64, i64)>)] = &[
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
    ("global-default", 20, 50, Some((128, 6, 50))),
];

/// (name, level, precedence, distinguisher, subjects), for everything they do.
const SCHEMAS: &[(&str, &str, i64, &str, &[(&str, &str)])] = &[
    ("exempt", "exempt", 1, "", &[("Group", "system:masters")]),
    ("catch-all", "catch-all", 10000, "ByUser", EVERYBODY),
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

pub fn all() -> Vec<(&'static str, &'static str, Value)> {
    let mut out = Vec::new();
    let mut add = |kind: &str, resource: &'static str, name: &str, spec: Value| {
        let object = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}});
        out.push((GROUP, resource, object));
    };
    let mut level = |name: &str, spec: Value| {
        add("PriorityLevelConfiguration", "prioritylevelconfigurations", name, spec)
    };
    level(
        "exempt",
        json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
    );
    for (name, shares, lendable, queues) in LEVELS {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand, length)) => json!({"type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}}),
        };
        level(
            name,
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares,
                "lendablePercent": lendable, "limitResponse": response}}),
        );
    }
    let mut schema = |name: &str, spec: Value| add("FlowSchema", "flowschemas", name, spec);
    let everything = (json!([resources("*", "*", "*", true)]), json!([urls("*", &["*"])]));
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
