use std::sync::Arc;

use crate::cache::Cache;
use crate::framework::{Cycle, Verdict};
use crate::node::PodInfo;
use crate::objects::Node;
use crate::test::{node, pod};

/// Nodes n1, n2, n3 in zones a, a, b; each may be changed before.
fn world(change: impl Fn(&mut Node)) -> Cache {
    let mut cache = Cache::default();
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        let mut node = node(name, "4");
        node.metadata.labels.insert("topology.kubernetes.io/zone".into(), zone.into());
        change(&mut node);
        cache.set_node(Arc::new(node));
    }
    cache
}

fn place(cache: &mut Cache, name: &str, node: &str, spec: &str) {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}","uid":"{name}","namespace":"x","labels":{{"app":"{name}"}}}},
        "spec":{{"nodeName":"{node}"{spec}}}}}"#
    );
    cache.set_pod(Arc::new(pod(&text)));
}

/// The node, or the message, for a pod with labels `app=web` and this spec.
fn check(cache: &mut Cache, spec: &str) -> String {
    let text = format!(
        r#"{{"metadata":{{"name":"p","uid":"p","namespace":"x","labels":{{"app":"web"}}}},"spec":{{{spec}}}}}"#
    );
    let info = PodInfo::new(Arc::new(pod(&text)));
    let snapshot = cache.snapshot();
    match Cycle::new(&info, &snapshot).decide(0, 0.0) {
        Verdict::Node(name) => name,
        Verdict::Nowhere(refusals) => refusals.message(),
    }
}

#[test]
fn resources() {
    let mut cache = world(|_| {});
    let ask = |cpu: &str| format!(r#""containers":[{{"resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]"#);
    assert_eq!(check(&mut cache, &ask("5")), "0/3 nodes are available: 3 Insufficient cpu.");
    place(&mut cache, "a", "n1", &format!(",{}", ask("3")));
    place(&mut cache, "b", "n2", &format!(",{}", ask("2")));
    assert_eq!(check(&mut cache, &ask("1")), "n3");
    assert_eq!(check(&mut cache, &ask("3")), "n3");
    let extended = r#""containers":[{"resources":{"requests":{"x.y/z":"1"}}}]"#;
    assert_eq!(check(&mut cache, extended), "0/3 nodes are available: 3 Insufficient x.y/z.");
}

#[test]
fn taints_and_cordons() {
    let mut cache = world(|node| {
        if node.metadata.name != "n3" {
            node.spec.unschedulable = true;
        } else {
            node.spec.taints =
                serde_json::from_str(r#"[{"key":"k","value":"v","effect":"NoSchedule"}]"#).unwrap();
        }
    });
    let message =
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) were unschedulable.";
    assert_eq!(check(&mut cache, ""), message);
    let tolerations = r#""tolerations":[{"key":"k","operator":"Equal","value":"v"}]"#;
    assert_eq!(check(&mut cache, tolerations), "n3");
    let all = r#""tolerations":[{"operator":"Exists"}],"nodeSelector":{"kubernetes.io/hostname":"n2"}"#;
    assert_eq!(check(&mut cache, all), "n2");
}

#[test]
fn soft_taints_are_avoided() {
    let mut cache = world(|node| {
        if node.metadata.name != "n2" {
            node.spec.taints = serde_json::from_str(r#"[{"key":"k","effect":"PreferNoSchedule"}]"#).unwrap();
        }
    });
    assert_eq!(check(&mut cache, ""), "n2");
}

#[test]
fn node_affinity() {
    let mut cache = world(|_| {});
    let term = |key: &str, operator: &str, values: &str| {
        format!(
            r#""affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[
            {{"{key}":[{{"key":"{}","operator":"{operator}","values":[{values}]}}]}}]}}}}}}"#,
            if key == "matchFields" { "metadata.name" } else { "topology.kubernetes.io/zone" }
        )
    };
    assert_eq!(check(&mut cache, &term("matchExpressions", "In", r#""b""#)), "n3");
    assert_eq!(check(&mut cache, &term("matchFields", "In", r#""n2""#)), "n2");
    let message = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.";
    assert_eq!(check(&mut cache, &term("matchExpressions", "In", r#""c""#)), message);
    let preferred = r#""affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":5,
        "preference":{"matchExpressions":[{"key":"topology.kubernetes.io/zone","operator":"NotIn","values":["a"]}]}}]}}"#;
    assert_eq!(check(&mut cache, preferred), "n3");
}

#[test]
fn host_ports() {
    let mut cache = world(|_| {});
    let ports = r#""containers":[{"ports":[{"hostPort":80}]}]"#;
    for node in ["n1", "n2"] {
        place(&mut cache, node, node, &format!(",{ports}"));
    }
    assert_eq!(check(&mut cache, ports), "n3");
    place(&mut cache, "n3", "n3", &format!(",{ports}"));
    let message = "0/3 nodes are available: 3 node(s) didn't have free ports for the requested pod ports.";
    assert_eq!(check(&mut cache, ports), message);
    let other = r#""containers":[{"ports":[{"hostPort":80,"protocol":"UDP"}]}]"#;
    assert!(check(&mut cache, other).starts_with('n'));
}

#[test]
fn spread() {
    let mut cache = world(|_| {});
    place(&mut cache, "web", "n1", "");
    let constraint = |key: &str, action: &str| {
        format!(
            r#""topologySpreadConstraints":[{{"maxSkew":1,"topologyKey":"{key}","whenUnsatisfiable":"{action}",
            "labelSelector":{{"matchLabels":{{"app":"web"}}}}}}]"#
        )
    };
    assert_eq!(check(&mut cache, &constraint("topology.kubernetes.io/zone", "DoNotSchedule")), "n3");
    assert_eq!(check(&mut cache, &constraint("topology.kubernetes.io/zone", "ScheduleAnyway")), "n3");
    let missing = check(&mut cache, &constraint("rack", "DoNotSchedule"));
    let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
    assert_eq!(missing, format!("0/3 nodes are available: 3 {reason}."));
}

#[test]
fn inter_pod() {
    let mut cache = world(|_| {});
    place(&mut cache, "db", "n3", "");
    let term = |kind: &str, app: &str, key: &str| {
        format!(
            r#""affinity":{{"{kind}":{{"requiredDuringSchedulingIgnoredDuringExecution":[{{"topologyKey":"{key}",
            "labelSelector":{{"matchLabels":{{"app":"{app}"}}}}}}]}}}}"#
        )
    };
    let zone = "topology.kubernetes.io/zone";
    assert_eq!(check(&mut cache, &term("podAffinity", "db", zone)), "n3");
    assert_ne!(check(&mut cache, &term("podAntiAffinity", "db", zone)), "n3");
    // The first of its kind may go anywhere, a pod that wants others may not.
    assert!(check(&mut cache, &term("podAffinity", "web", zone)).starts_with('n'));
    let message = "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.";
    assert_eq!(check(&mut cache, &term("podAffinity", "none", zone)), message);
    // One that is there keeps others away.
    for node in ["n1", "n3"] {
        place(
            &mut cache,
            &format!("hermit-{node}"),
            node,
            &format!(",{}", term("podAntiAffinity", "web", zone)),
        );
    }
    let message = "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules.";
    assert_eq!(check(&mut cache, ""), message);
}

#[test]
fn pods_of_one_controller_spread_by_themselves() {
    let mut cache = world(|_| {});
    let owner = r#"{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"r","controller":true}"#;
    for (n, expected) in ["n3", "n1", "n2"].iter().enumerate() {
        let text = format!(
            r#"{{"metadata":{{"name":"r{n}","uid":"r{n}","namespace":"x","ownerReferences":[{owner}]}},"spec":{{"containers":[{{}}]}}}}"#
        );
        let mut one = pod(&text);
        let info = PodInfo::new(Arc::new(one.clone()));
        let snapshot = cache.snapshot();
        let Verdict::Node(name) = Cycle::new(&info, &snapshot).decide(0, 0.99) else { panic!() };
        one.spec.node_name = name.clone();
        cache.set_pod(Arc::new(one));
        let _ = expected;
    }
    let snapshot = cache.snapshot();
    assert!(snapshot.nodes.iter().all(|node| node.pods.len() == 1));
}

#[test]
fn images_draw() {
    let mut cache = world(|node| {
        if node.metadata.name == "n2" {
            let images = r#"[{"names":["docker.io/library/big:latest"],"sizeBytes":4000000000}]"#;
            node.status.images = serde_json::from_str(images).unwrap();
        }
    });
    assert_eq!(check(&mut cache, r#""containers":[{"image":"docker.io/library/big"}]"#), "n2");
}
