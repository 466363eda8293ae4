use std::sync::Arc;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::decide::{MOST, Plan, decide, should_mirror};

fn endpoints(subsets: Value) -> Endpoints {
    let metadata = json!({
        "name": "e", "namespace": "ns", "uid": "u1",
        "labels": {"a": "b"},
        "annotations": {"kept": "1", "endpoints.kubernetes.io/last-change-trigger-time": "t"},
    });
    serde_json::from_value(json!({"metadata": metadata, "subsets": subsets})).unwrap()
}

/// What there is after a plan.
fn applied(plan: Plan, slices: &[Arc<EndpointSlice>]) -> Vec<Arc<EndpointSlice>> {
    let mut after: Vec<Arc<EndpointSlice>> = slices.to_vec();
    after.retain(|s| {
        let other = |o: &EndpointSlice| o.metadata.name != s.metadata.name;
        plan.delete.iter().all(other) && plan.update.iter().all(other)
    });
    for (n, mut slice) in plan.create.into_iter().enumerate() {
        assert_eq!(slice.metadata.generate_name.as_deref(), Some("e-"));
        slice.metadata.name = Some(format!("e-{n}"));
        after.push(Arc::new(slice));
    }
    after.extend(plan.update.into_iter().map(Arc::new));
    after
}

/// Family, ports and endpoints with their readiness.
fn shape(slices: &[Arc<EndpointSlice>]) -> Vec<String> {
    let mut shapes: Vec<String> = slices
        .iter()
        .map(|slice| {
            let ports: Vec<String> = slice
                .ports
                .iter()
                .flatten()
                .map(|p| format!("{}{}", p.name.as_deref().unwrap(), p.port.unwrap()))
                .collect();
            let of = slice.endpoints.iter().flatten().map(|e| {
                let ready = e.conditions.as_ref().unwrap().ready.unwrap();
                format!("{}{}", e.addresses[0], if ready { "" } else { "!" })
            });
            let of: Vec<String> = of.collect();
            format!("{} {} {}", slice.address_type, ports.join(","), of.join(","))
        })
        .collect();
    shapes.sort();
    shapes
}

fn check(subsets: Value, before: &[Arc<EndpointSlice>], wanted: &[&str]) -> Vec<Arc<EndpointSlice>> {
    let endpoints = endpoints(subsets);
    let after = applied(decide(&endpoints, before), before);
    assert_eq!(shape(&after), wanted);
    let again = decide(&endpoints, &after);
    assert_eq!((again.create.len(), again.update.len(), again.delete.len()), (0, 0, 0));
    after
}

#[test]
fn follows_the_endpoints() {
    let first = json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "name": "a"}]}]);
    let slices = check(first, &[], &["IPv4 a80 10.0.0.1"]);
    let meta = &slices[0].metadata;
    let labels: Vec<_> = meta.labels.iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        labels,
        [
            "a=b",
            "endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io",
            "kubernetes.io/service-name=e"
        ]
    );
    assert_eq!(meta.annotations.iter().flatten().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(meta.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
    let more = json!([
        {"addresses": [{"ip": "010.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
         "ports": [{"port": 80, "name": "a"}]},
        {"addresses": [{"ip": "10.0.0.9"}]},
    ]);
    let slices = check(more, &slices, &["IPv4  10.0.0.9", "IPv4 a80 10.0.0.1,10.0.0.2!", "IPv6 a80 fd00::1"]);
    // Another port is the same slice with other ports; what is not wanted goes.
    let moved = json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 81, "name": "a"}]}]);
    let slices = check(moved, &slices, &["IPv4 a81 10.0.0.1"]);
    check(json!([]), &slices, &[]);
}

#[test]
fn subsets_are_packed_first() {
    let split = json!([
        {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "name": "a"}]},
        {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 81, "name": "b"}]},
        {"notReadyAddresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 1, "name": "c"}]},
        {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 1, "name": "c"}]},
    ]);
    check(split, &[], &["IPv4 a80,b81 10.0.0.1", "IPv4 c1 10.0.0.3!"]);
}

#[test]
fn limits_and_oddities() {
    let many: Vec<Value> =
        (0..MOST + 5).map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)})).collect();
    let plan = decide(&endpoints(json!([{"addresses": many}])), &[]);
    assert_eq!((plan.skipped, plan.invalid), (5, 0));
    assert_eq!(plan.create[0].endpoints.as_ref().unwrap().len(), MOST);
    let plan = decide(&endpoints(json!([{"addresses": [{"ip": "x"}, {"ip": "10.0.0.1"}]}])), &[]);
    assert_eq!((plan.skipped, plan.invalid, plan.create.len()), (1, 1, 1));
    // The Endpoints of the same name that were made anew own it from now on.
    let mut endpoints = endpoints(json!([{"addresses": [{"ip": "10.0.0.1"}]}]));
    let slices = applied(decide(&endpoints, &[]), &[]);
    endpoints.metadata.uid = Some("u2".into());
    assert_eq!(decide(&endpoints, &slices).update.len(), 1);
}

#[test]
fn who_asks_not_to_be_mirrored() {
    let mut one = endpoints(json!([]));
    assert!(should_mirror(&one));
    let skip = "endpointslice.kubernetes.io/skip-mirror";
    one.metadata.labels.as_mut().unwrap().insert(skip.into(), "false".into());
    assert!(should_mirror(&one));
    one.metadata.labels.as_mut().unwrap().insert(skip.into(), "true".into());
    assert!(!should_mirror(&one));
    let mut leader = endpoints(json!([]));
    let annotations = leader.metadata.annotations.as_mut().unwrap();
    annotations.insert("control-plane.alpha.kubernetes.io/leader".into(), "{}".into());
    assert!(!should_mirror(&leader));
}
