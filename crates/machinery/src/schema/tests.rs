use serde_json::{Value, json};

use super::*;
use crate::gvk::GroupVersionKind;
use crate::testdata;

fn kind(group: &str, version: &str, kind: &str) -> &'static Schema {
    of_kind(&GroupVersionKind::new(group, version, kind)).unwrap()
}

#[test]
fn a_pod_is_known_to_its_depths() {
    let pod = kind("", "v1", "Pod");
    let containers = pod.at(&["spec", "containers"]).unwrap().as_list().unwrap();
    assert_eq!((containers.kind, &*containers.keys), (ListType::Map, &["name".into()][..]));
    let port = pod.at(&["spec", "containers", "ports"]).unwrap().item().unwrap().as_struct().unwrap();
    assert_eq!(port.field("protocol").unwrap().schema.default.as_deref(), Some(&json!("TCP")));
    let selector = pod.at(&["spec", "nodeSelector"]).unwrap();
    assert!(matches!(selector.shape(), Shape::Map(m) if m.kind == MapType::Atomic));
    let volumes = pod.at(&["spec"]).unwrap().as_struct().unwrap().field("volumes").unwrap();
    assert!(volumes.merges() && volumes.retains_keys() && volumes.merge_key == "name");
    assert!(pod.at(&["spec", "volumes", "configMap", "items"]).is_some(), "inline fields are fields");
    assert_eq!(pod.as_struct().unwrap().id.unwrap().openapi_name(), "io.k8s.api.core.v1.Pod");
    assert!(of_type("io.k8s.api.core.v1.Pod").is_some() && of_type("core/v1.Pod").is_some());
    assert!(of_kind(&GroupVersionKind::new("apps", "v1", "Pod")).is_none());
    assert!(of_kind(&GroupVersionKind::new("apps", "v1", "DeploymentSpec")).is_none());
    assert!(of_kind(&GroupVersionKind::new("apps", "v1", "DeleteOptions")).is_some());
}

#[test]
fn every_type_of_the_table_parses() {
    let mut count = 0;
    for (gvk, schema) in kinds() {
        assert!(schema.field("kind").is_some(), "{gvk}");
        count += 1;
    }
    assert!(count > 300, "{count}");
}

#[test]
fn the_wire_form_drops_and_adds() {
    let mut service = json!({"kind": "Service", "metadata": {"name": "a", "labels": {}}, "spec":
        {"ports": [{"port": 80, "nodePort": 0, "targetPort": 80}], "publishNotReadyAddresses": false}});
    normalize(kind("", "v1", "Service"), &mut service);
    assert_eq!(
        service,
        json!({"kind": "Service", "metadata": {"name": "a"}, "status": {"loadBalancer": {}},
            "spec": {"ports": [{"port": 80, "targetPort": 80}]}})
    );
    let mut role = json!({"kind": "ClusterRole", "rules": []});
    normalize(kind("rbac.authorization.k8s.io", "v1", "ClusterRole"), &mut role);
    assert_eq!(role, json!({"kind": "ClusterRole", "metadata": {}, "rules": null}));
    let mut deployment = json!({"spec": {"replicas": 0}});
    normalize(kind("apps", "v1", "Deployment"), &mut deployment);
    assert_eq!(deployment["spec"]["replicas"], 0, "a pointer to zero stays");
    assert_eq!(deployment["spec"]["template"], json!({"metadata": {}, "spec": {"containers": null}}));
}

#[test]
fn a_structural_schema_prunes_and_defaults() {
    let schema = structural::parse(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "default": {}, "properties": {
            "size": {"type": "integer", "default": 3},
            "mode": {"type": "string", "nullable": true},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"in": {"type": "object", "properties": {"a": {"type": "string"}}}}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                "items": {"type": "object", "properties": {"port": {"type": "integer"}, "proto": {"type": "string", "default": "TCP"}}}}}}}}));
    let mut object = json!({"metadata": {"name": "x", "odd": 1}, "odd": 1, "spec": {"mode": null, "size": null, "bad": 1,
        "any": {"free": 1, "in": {"a": "", "b": 1}}, "ports": [{"port": 1, "x": 2}]}});
    let gone = prune(&schema, &mut object);
    assert_eq!(gone, ["metadata.odd", "odd", "spec.any.in.b", "spec.bad", "spec.ports[0].x"]);
    apply_defaults(&schema, &mut object);
    assert_eq!(
        object,
        json!({"metadata": {"name": "x"}, "spec": {"mode": null, "size": 3, "any": {"free": 1, "in": {"a": ""}},
            "ports": [{"port": 1, "proto": "TCP"}]}})
    );
    let mut empty = json!({});
    apply_defaults(&schema, &mut empty);
    assert_eq!(empty, json!({"spec": {"size": 3}}));
}

#[test]
fn resources_make_the_published_documents() {
    let Some(dir) = testdata::facts("discovery") else { return };
    for served in resources::group_versions() {
        let file = match served.group {
            "" => "api__v1.json".to_owned(),
            group => format!("apis__{group}__{}.json", served.version),
        };
        let want: Value = serde_json::from_slice(&std::fs::read(dir.join(file)).unwrap()).unwrap();
        assert_eq!(resources::resource_list(served.group, served.version, &served.resources), want);
    }
    let groups: Value = serde_json::from_slice(&std::fs::read(dir.join("apis.json")).unwrap()).unwrap();
    let want: Vec<String> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|g| {
            g["versions"].as_array().unwrap().iter().map(|v| v["groupVersion"].as_str().unwrap().to_owned())
        })
        .collect();
    let got: Vec<String> =
        resources::group_versions()[1..].iter().map(|v| format!("{}/{}", v.group, v.version)).collect();
    assert_eq!(got, want);
    let eviction = resources::find("", "v1", "pods", "eviction").unwrap();
    assert_eq!((eviction.kind_group, eviction.kind), ("policy", "Eviction"));
    for served in resources::group_versions() {
        for r in &served.resources {
            let gvk = GroupVersionKind::new(r.kind_group, r.kind_version, r.kind);
            assert!(of_kind(&gvk).is_some(), "{gvk}");
        }
    }
}
