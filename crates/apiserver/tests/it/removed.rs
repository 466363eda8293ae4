//! `--serve-removed-apis`.

use apiserver::Config;
use serde_json::{Value, json};

use crate::support::{Server, admin, server, server_with};

async fn old() -> Server {
    server_with(Config { serve_removed_apis: true, ..Config::default() }).await
}

fn deployment() -> Value {
    json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

const OLD: &str = "/apis/extensions/v1beta1/namespaces/default/deployments";
const NEW: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test]
async fn is_off_by_default() {
    let s = server().await;
    assert_eq!(s.get("/apis/extensions/v1beta1").await.0, 404);
    assert_eq!(s.post(OLD, deployment()).await.0, 404);
}

#[tokio::test]
async fn one_object_has_two_shapes() {
    let s = old().await;
    let (code, made) = s.post(OLD, deployment()).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["apiVersion"], "extensions/v1beta1");
    let (code, now) = s.get(&format!("{NEW}/d")).await;
    assert_eq!((code, &now["apiVersion"]), (200, &json!("apps/v1")));
    assert_eq!(now["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(now["spec"]["selector"], json!({"matchLabels": {"a": "b"}}));
    assert_eq!(now["spec"]["strategy"]["rollingUpdate"]["maxSurge"], 1);
    let (_, list) = s.get(OLD).await;
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("DeploymentList"), &json!("extensions/v1beta1"))
    );
    assert_eq!(list["items"][0]["metadata"]["name"], "d");
    let (code, patched) = s.merge(&format!("{OLD}/d"), json!({"spec": {"replicas": 3}})).await;
    assert_eq!(
        (code, &patched["spec"]["replicas"], &patched["apiVersion"]),
        (200, &json!(3), &json!("extensions/v1beta1"))
    );
    let kind = "application/strategic-merge-patch+json";
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}});
    let (code, patched) = s.send(admin(), "PATCH", &format!("{OLD}/d"), kind, patch).await;
    assert_eq!((code, &patched["spec"]["template"]["spec"]["containers"][0]["image"]), (200, &json!("j")));
    let (code, scale) = s.get(&format!("{OLD}/d/scale")).await;
    assert_eq!((code, &scale["status"]["selector"]), (200, &json!({"a": "b"})), "{scale}");
    assert_eq!(s.delete(&format!("{OLD}/d")).await.0, 200);
    assert_eq!(s.get(&format!("{NEW}/d")).await.0, 404);
}

#[tokio::test]
async fn ingresses_and_definitions_of_old() {
    let s = old().await;
    let ingress = json!({"apiVersion": "networking.k8s.io/v1beta1", "kind": "Ingress", "metadata": {"name": "i"},
        "spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {"serviceName": "s", "servicePort": 80}}]}}]}});
    let (code, made) = s.post("/apis/networking.k8s.io/v1beta1/namespaces/default/ingresses", ingress).await;
    assert_eq!(code, 201, "{made}");
    let path = &made["spec"]["rules"][0]["http"]["paths"][0];
    assert_eq!(
        (&path["backend"]["serviceName"], &path["pathType"]),
        (&json!("s"), &json!("ImplementationSpecific"))
    );
    let (_, now) = s.get("/apis/networking.k8s.io/v1/namespaces/default/ingresses/i").await;
    assert_eq!(now["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"]["number"], 80);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "version": "v1",
            "names": {"plural": "things", "kind": "Thing"}, "additionalPrinterColumns": [{"name": "A", "type": "string", "JSONPath": ".spec.a"}]}});
    let (code, made) =
        s.post("/apis/apiextensions.k8s.io/v1beta1/customresourcedefinitions", definition).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        (&made["spec"]["version"], &made["spec"]["additionalPrinterColumns"][0]["JSONPath"]),
        (&json!("v1"), &json!(".spec.a"))
    );
}

#[tokio::test]
async fn discovery_lists_them_behind_what_is_served_today() {
    let s = old().await;
    let (code, group) = s.get("/apis/extensions").await;
    assert_eq!((code, &group["preferredVersion"]["groupVersion"]), (200, &json!("extensions/v1beta1")));
    let (_, list) = s.get("/apis/extensions/v1beta1").await;
    let names: Vec<&str> =
        list["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert!(
        names.contains(&"deployments")
            && names.contains(&"deployments/scale")
            && names.contains(&"ingresses"),
        "{names:?}"
    );
    let (_, apps) = s.get("/apis/apps").await;
    assert_eq!(apps["preferredVersion"]["version"], "v1");
    assert_eq!(apps["versions"].as_array().unwrap().len(), 3);
    let list = s.aggregated().await;
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().filter_map(|i| i["metadata"]["name"].as_str()).collect();
    assert!(names.contains(&"extensions"));
}

#[tokio::test]
async fn answers_warn_and_watches_show_the_old_shape() {
    let s = old().await;
    s.post(OLD, deployment()).await;
    let (warnings, text) = s.raw(&format!("{OLD}?watch=true&timeoutSeconds=1")).await;
    assert_eq!(
        warnings,
        [
            "299 - \"extensions/v1beta1 Deployment is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 Deployment\""
        ]
    );
    let event: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["apiVersion"]),
        (&json!("ADDED"), &json!("extensions/v1beta1"))
    );
}
