use serde_json::{Value, json};

use super::*;

fn of(api: &str, resource: &str) -> &'static Removed {
    let (group, version) = api.split_once('/').unwrap();
    find(group, version, resource).unwrap_or_else(|| panic!("{api} {resource}"))
}

/// `old` becomes `now`, and that becomes `back` (or `old`) again.
fn check(api: &str, resource: &str, old: Value, now: Value, back: Option<Value>) {
    let removed = of(api, resource);
    let mut object = old.clone();
    object["apiVersion"] = api.into();
    removed.to_now(&mut object);
    let mut want = now;
    want["apiVersion"] = removed.api_version_now().into();
    assert_eq!(object, want, "{api} {resource} to now");
    removed.to_old(&mut object);
    let mut want = back.unwrap_or(old);
    want["apiVersion"] = api.into();
    assert_eq!(object, want, "{api} {resource} to old");
}

#[test]
fn the_table_is_of_kinds_that_are_served() {
    for (at, removed) in TABLE.iter().enumerate() {
        let found = machinery::schema::resources::find(removed.now.0, removed.now.1, removed.resource, "");
        assert_eq!(
            found.map(|f| f.kind),
            Some(removed.kind),
            "{} {}",
            removed.api_version(),
            removed.resource
        );
        assert!(removed.deprecated < removed.gone, "{}", removed.kind);
        let again = find(removed.group, removed.version, removed.resource).unwrap();
        assert!(std::ptr::eq(again, removed), "row {at} is twice in the table");
        let known = machinery::schema::resources::find(removed.group, removed.version, removed.resource, "");
        assert!(known.is_none(), "{} {} is served today", removed.api_version(), removed.resource);
    }
    assert_eq!(
        of("extensions/v1beta1", "deployments").warning(),
        "extensions/v1beta1 Deployment is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 Deployment"
    );
}

#[test]
fn workloads_have_the_defaults_of_old() {
    let template = json!({"metadata": {"labels": {"a": "b"}}});
    let old = json!({"metadata": {}, "spec": {"template": template}});
    let labelled = json!({"labels": {"a": "b"}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let deployment = |deadline: i64, history: i64, bound: Value| {
        json!({"metadata": labelled, "spec": {"template": template, "selector": selector, "replicas": 1,
            "progressDeadlineSeconds": deadline, "revisionHistoryLimit": history,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": bound, "maxUnavailable": bound}}}})
    };
    let never = i64::from(i32::MAX);
    let want = deployment(never, never, json!(1));
    check("extensions/v1beta1", "deployments", old.clone(), want.clone(), Some(want));
    let want = deployment(600, 2, json!("25%"));
    check("apps/v1beta1", "deployments", old.clone(), want.clone(), Some(want));
    let want = json!({"metadata": labelled, "spec": {"template": template, "selector": selector,
        "updateStrategy": {"type": "OnDelete"}, "revisionHistoryLimit": 10}});
    check("extensions/v1beta1", "daemonsets", old, want.clone(), Some(want));
    let own = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"template": template, "replicas": 3,
        "selector": {"matchLabels": {"c": "d"}}}});
    check("extensions/v1beta1", "replicasets", own.clone(), own, None);
}

#[test]
fn a_rollback_is_an_annotation() {
    let base = |metadata: Value, mut spec: Value| {
        spec["replicas"] = 1.into();
        spec["progressDeadlineSeconds"] = 600.into();
        spec["revisionHistoryLimit"] = 2.into();
        spec["strategy"] = json!({"type": "Recreate"});
        json!({"metadata": metadata, "spec": spec})
    };
    let annotated = json!({"annotations": {"deprecated.deployment.rollback.to": "7"}});
    let now = base(annotated, json!({}));
    check("apps/v1beta1", "deployments", base(json!({}), json!({"rollbackTo": {"revision": 7}})), now, None);
}

#[test]
fn ingresses_have_flat_backends() {
    let old = json!({"spec": {"backend": {"serviceName": "s", "servicePort": 80}, "rules": [{"http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"serviceName": "t", "servicePort": "http"}}]}}]}});
    let now = json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}, "rules": [
        {"http": {"paths": [{"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "t", "port": {"name": "http"}}}}]}}]}});
    check("extensions/v1beta1", "ingresses", old.clone(), now.clone(), None);
    check("networking.k8s.io/v1beta1", "ingresses", old, now, None);
}

#[test]
fn an_empty_selector_of_a_budget_means_what_it_meant() {
    let of = |selector: Value| json!({"spec": {"selector": selector}});
    let key = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";
    let says = |operator: &str| json!({"matchExpressions": [{"key": key, "operator": operator}]});
    check("policy/v1beta1", "poddisruptionbudgets", of(json!({})), of(says("Exists")), None);
    check("policy/v1beta1", "poddisruptionbudgets", of(says("DoesNotExist")), of(json!({})), None);
    let some = of(json!({"matchLabels": {"a": "b"}}));
    check("policy/v1beta1", "poddisruptionbudgets", some.clone(), some, None);
}

#[test]
fn autoscalers_have_flat_metrics() {
    let old = json!({"spec": {"metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 50}},
        {"type": "Pods", "pods": {"metricName": "qps", "targetAverageValue": "1k"}},
        {"type": "Object", "object": {"target": {"kind": "Service", "name": "s"}, "metricName": "hits", "targetValue": "10k"}},
        {"type": "External", "external": {"metricName": "q", "metricSelector": {"matchLabels": {"a": "b"}}, "targetAverageValue": "30"}},
    ]}, "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 7}}]}});
    let now = json!({"spec": {"metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
        {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "1k"}}},
        {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "hits"}, "target": {"type": "Value", "value": "10k"}}},
        {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "AverageValue", "averageValue": "30"}}},
    ]}, "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}}]}});
    check("autoscaling/v2beta1", "horizontalpodautoscalers", old, now, None);
    let mut hpa = json!({"metadata": {}, "spec": {"behavior": {"scaleUp": {}}}});
    of("autoscaling/v2beta1", "horizontalpodautoscalers").to_old(&mut hpa);
    assert!(hpa["spec"].get("behavior").is_none());
    of("autoscaling/v2beta1", "horizontalpodautoscalers").to_now(&mut hpa);
    assert_eq!(hpa["spec"]["behavior"], json!({"scaleUp": {}}));
}

#[test]
fn definitions_have_what_is_of_versions_at_the_top() {
    let old = json!({"spec": {"group": "g", "version": "v1", "preserveUnknownFields": false,
        "validation": {"openAPIV3Schema": {"properties": {"spec": {"type": "string"}}}},
        "additionalPrinterColumns": [{"name": "A", "type": "string", "JSONPath": ".spec"}],
        "subresources": {"status": {}}}});
    let now = json!({"spec": {"group": "g", "scope": "Namespaced", "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "string"}}}},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".spec"}]}]}});
    let back = json!({"spec": {"group": "g", "scope": "Namespaced", "version": "v1", "preserveUnknownFields": false,
        "versions": [{"name": "v1", "served": true, "storage": true}],
        "validation": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "string"}}}},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": "A", "type": "string", "JSONPath": ".spec"}]}});
    check("apiextensions.k8s.io/v1beta1", "customresourcedefinitions", old, now, Some(back));
    // without a schema everything is kept
    let mut bare = json!({"spec": {"version": "v1"}});
    of("apiextensions.k8s.io/v1beta1", "customresourcedefinitions").to_now(&mut bare);
    let schema = &bare["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    assert_eq!(*schema, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
}

#[test]
fn smaller_kinds() {
    check(
        "rbac.authorization.k8s.io/v1alpha1",
        "rolebindings",
        json!({"subjects": [{"kind": "ServiceAccount", "name": "a", "apiVersion": "v1"}]}),
        json!({"subjects": [{"kind": "ServiceAccount", "name": "a", "apiGroup": ""}]}),
        None,
    );
    check(
        "discovery.k8s.io/v1beta1",
        "endpointslices",
        json!({"endpoints": [{"nodeName": "n", "topology": {"kubernetes.io/hostname": "n", "topology.kubernetes.io/zone": "z", "x": "y"}}]}),
        json!({"endpoints": [{"nodeName": "n", "zone": "z", "deprecatedTopology": {"x": "y"}}]}),
        None,
    );
    check(
        "node.k8s.io/v1alpha1",
        "runtimeclasses",
        json!({"spec": {"runtimeHandler": "h", "overhead": {}}}),
        json!({"handler": "h", "overhead": {}}),
        None,
    );
    check(
        "flowcontrol.apiserver.k8s.io/v1beta2",
        "prioritylevelconfigurations",
        json!({"spec": {"limited": {"assuredConcurrencyShares": 5}}}),
        json!({"spec": {"limited": {"nominalConcurrencyShares": 5}}}),
        None,
    );
    check(
        "authorization.k8s.io/v1beta1",
        "subjectaccessreviews",
        json!({"spec": {"user": "u", "group": ["g"]}}),
        json!({"spec": {"user": "u", "groups": ["g"]}}),
        None,
    );
    let mut scale = json!({"status": {"replicas": 1, "selector": "a=b,c=d"}});
    workloads::scale_to_old(&mut scale, "extensions/v1beta1");
    assert_eq!(scale["status"]["selector"], json!({"a": "b", "c": "d"}));
    assert_eq!(scale["status"]["targetSelector"], "a=b,c=d");
    workloads::scale_to_now(&mut scale);
    assert_eq!(scale["status"]["selector"], "a=b,c=d");
}
