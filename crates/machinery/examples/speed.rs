//! How fast objects are read and written: `cargo run --release -p machinery --example speed`.

use std::time::Instant;

use machinery::{GroupVersionKind, codec::json, json, schema};

fn main() {
    let start = Instant::now();
    let pod = schema::of_kind(&GroupVersionKind::new("", "v1", "Pod")).expect("a built-in kind");
    println!("first type: {:?}", start.elapsed());
    let start = Instant::now();
    let count = schema::kinds().count();
    println!("all {count} kinds: {:?}", start.elapsed());
    let start = Instant::now();
    println!("{} group-versions: {:?}", schema::resources::group_versions().len(), start.elapsed());

    let container = json!({"name": "app", "image": "registry.example.com/team/app:1.2.3", "command": ["/bin/app", "--serve"],
        "args": ["--flag", "value"], "env": [{"name": "A", "value": "b"}, {"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}],
        "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "token", "mountPath": "/var/run/secrets", "readOnly": true}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
        "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "allowPrivilegeEscalation": false}});
    let condition = json!({"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2024-01-01T00:00:00Z"});
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {".": {}, "f:image": {}, "f:name": {}, "f:env": {}}}}});
    let object = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-5d4f8c7b9d-abcde", "generateName": "web-5d4f8c7b9d-", "namespace": "default", "uid": "6b2f6c0e-0000-4000-8000-000000000000",
            "resourceVersion": "12345", "creationTimestamp": "2024-01-01T00:00:00Z", "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9d", "uid": "x", "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "a", "operation": "Update", "apiVersion": "v1", "time": "2024-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}]},
        "spec": {"containers": [container, container, container], "volumes": [{"name": "config", "configMap": {"name": "c", "defaultMode": 420}}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "serviceAccountName": "default", "nodeName": "n1",
            "securityContext": {}, "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
        "status": {"phase": "Running", "conditions": [condition, condition, condition, condition], "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "qosClass": "Burstable"}});
    let mut bytes = Vec::new();
    json::encode(pod, &object, &mut bytes);
    println!("a pod of {} bytes", bytes.len());
    let rounds = 5000;
    let time = |what: &str, mut run: Box<dyn FnMut()>| {
        run();
        let start = Instant::now();
        (0..rounds).for_each(|_| run());
        println!("{what:<24} {:?}", start.elapsed() / rounds);
    };
    let copy = bytes.clone();
    time("parse", Box::new(move || drop(json::Document::parse(&copy))));
    let copy = bytes.clone();
    time("decode", Box::new(move || drop(json::Document::parse(&copy).and_then(|d| d.decode(pod, false)))));
    let copy = bytes.clone();
    time(
        "decode strict",
        Box::new(move || drop(json::Document::parse(&copy).and_then(|d| d.decode(pod, true)))),
    );
    time("serde_json to Value", Box::new(move || drop(serde_json::from_slice::<machinery::Value>(&bytes))));
    let value = object.clone();
    time(
        "encode",
        Box::new(move || {
            let mut out = Vec::with_capacity(8192);
            json::encode(pod, &value, &mut out)
        }),
    );
    let value = object.clone();
    time("serde_json to bytes", Box::new(move || drop(serde_json::to_vec(&value))));
    let value = object.clone();
    time("to protobuf", Box::new(move || drop(machinery::codec::proto::encode_message(pod, &value))));
    let wire = machinery::codec::proto::encode_message(pod, &object);
    time("from protobuf", Box::new(move || drop(machinery::codec::proto::decode_message(&wire, pod))));
    let (live, mut changed) = (object.clone(), object.clone());
    changed["metadata"]["labels"]["new"] = "label".into();
    time("managed fields, update", Box::new(move || drop(manage(&live, changed.clone()))));
    let mut value = object;
    time("normalize", Box::new(move || schema::normalize(pod, &mut value)));
}

fn manage(live: &machinery::Value, new: machinery::Value) -> machinery::Value {
    use machinery::apply::{FieldManager, Filter, OneVersion, Typed};
    let gvk = GroupVersionKind::new("", "v1", "Pod");
    let filters = std::collections::BTreeMap::from([("v1".to_owned(), Filter::exclude(&[&["status"]]))]);
    let typed = Typed::Schema(schema::of_kind(&gvk).expect("a built-in kind"));
    let now = "2024-01-01T00:00:00Z";
    let manager =
        FieldManager { typed, gvk: &gvk, subresource: "", filters: &filters, convert: &OneVersion, now };
    manager.update(live, new, "me")
}
