//! ValidatingAdmissionPolicies: their expressions are checked against the schemas of what they match.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy as Policy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::world::World;

fn policy(group: &str, resource: &str, expression: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": resource},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [group], "apiVersions": ["v1"], "operations": ["*"], "resources": [resource],
            }]},
            "validations": [{"expression": expression}],
        },
    })
}

#[tokio::test]
async fn expressions_are_checked_by_schema() {
    let world = World::start(0).await;
    let schema = json!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": {"size": {"type": "integer"}},
    }}});
    let definition = json!({
        "metadata": {"name": "widgets.x.y"},
        "spec": {
            "group": "x.y", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let definitions: Api<CustomResourceDefinition> = Api::all(world.admin.clone());
    definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    let ask = || async { definitions.get("widgets.x.y").await.unwrap() };
    let served = |definition: &CustomResourceDefinition| {
        let conditions = definition.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True")
    };
    world.until("served", ask, served).await;

    let policies: Api<Policy> = Api::all(world.admin.clone());
    let create = async |policy: Value| {
        policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap()
    };
    create(policy("x.y", "widgets", "object.spec.size == 'large'")).await;
    create(policy("apps", "deployments", "object.spec.sizes > 1")).await;
    let checked = async |name: &str, generation: i64| {
        let ask = || async { policies.get(name).await.unwrap() };
        let seen = |policy: &Policy| {
            policy.status.as_ref().and_then(|status| status.observed_generation) == Some(generation)
        };
        let status = world.until("checked", ask, seen).await.status.unwrap();
        serde_json::to_value(status.type_checking).unwrap()
    };
    let warned = |warning: &str| json!({"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": warning}]});
    let wrong = "x.y/v1, Kind=Widget: ERROR: <input>:1:18: found no matching overload for '_==_' applied to \
                 '(int, string)'\n | object.spec.size == 'large'\n | .................^\n";
    assert_eq!(checked("widgets", 1).await, warned(wrong));
    let undefined = "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'sizes'\n \
                     | object.spec.sizes > 1\n | ...........^\n";
    assert_eq!(checked("deployments", 1).await, warned(undefined));

    let right = json!({"spec": {"validations": [{"expression": "object.spec.replicas > 1"}]}});
    policies.patch("deployments", &PatchParams::default(), &Patch::Merge(right)).await.unwrap();
    assert_eq!(checked("deployments", 2).await, json!({}));
}
