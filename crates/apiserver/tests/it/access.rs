//! Who may what.

use apiserver::{Config, User};
use serde_json::{Value, json};

use crate::support::{MAPS, config_map, server, server_with};

#[tokio::test]
async fn roles_open_doors() {
    let s = server().await;
    let jane = || User::new("jane", &[]);
    let (code, refused) = s.send(jane(), "GET", MAPS, "application/json", Value::Null).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    assert_eq!(s.post(&format!("{rbac}/roles"), role).await.0, 201);
    assert_eq!(s.post(&format!("{rbac}/rolebindings"), binding).await.0, 201);
    assert_eq!(s.send(jane(), "GET", MAPS, "application/json", Value::Null).await.0, 200);
    assert_eq!(s.send(jane(), "POST", MAPS, "application/json", config_map("a")).await.0, 403);
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "configmaps"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, answer) = s.send(jane(), "POST", path, "application/json", review).await;
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(true)), "{answer}");
}

#[tokio::test]
async fn tokens_are_bound_to_what_lives() {
    let key = pki::PrivateKey::generate_rsa_pem().unwrap();
    let s = server_with(Config { signing_key_pem: Some(key), ..Config::default() }).await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    assert_eq!(s.post(accounts, account).await.0, 201);
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let (code, made) = s.post(&format!("{accounts}/robot/token"), request).await;
    assert_eq!(code, 201, "{made}");
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": made["status"]["token"]}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (_, answer) = s.post(path, review.clone()).await;
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:robot", "{answer}");
    s.delete(&format!("{accounts}/robot")).await;
    let (_, answer) = s.post(path, review).await;
    assert_ne!(answer["status"]["authenticated"], true);
}

#[tokio::test]
async fn kubelets_keep_to_their_node() {
    let s = server().await;
    let node = |name: &str| User::new(format!("system:node:{name}"), &["system:nodes"]);
    let body = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let nodes = "/api/v1/nodes";
    assert_eq!(s.send(node("n1"), "POST", nodes, "application/json", body("n1")).await.0, 201);
    assert_eq!(s.send(node("n1"), "POST", nodes, "application/json", body("n2")).await.0, 403);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    s.post("/api/v1/namespaces/default/secrets", secret).await;
    let path = "/api/v1/namespaces/default/secrets/s";
    assert_eq!(s.send(node("n1"), "GET", path, "application/json", Value::Null).await.0, 403);
    s.post(
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}}),
    )
    .await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n1",
        "containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}});
    let (code, made) = s.post("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(s.send(node("n1"), "GET", path, "application/json", Value::Null).await.0, 200);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let s = server().await;
    let jane = || User::new("jane", &[]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = |name: &str, resource: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io", ""], "resources": [resource], "verbs": ["create"]}]})
    };
    let binding = |role: &str, user: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]})
    };
    let maker = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "maker"},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create"]}]});
    assert_eq!(s.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", maker).await.0, 201);
    assert_eq!(s.post(&format!("{rbac}/rolebindings"), binding("maker", "jane")).await.0, 201);
    let kind = "application/json";
    let (code, refused) = s.send(jane(), "POST", &format!("{rbac}/roles"), kind, role("r", "secrets")).await;
    assert_eq!(code, 403);
    assert!(refused["message"].as_str().unwrap().contains("not currently held"), "{refused}");
    let (code, _) =
        s.send(jane(), "POST", &format!("{rbac}/rolebindings"), kind, binding("cluster-admin", "joe")).await;
    assert_eq!(code, 403);
    let (code, _) =
        s.send(jane(), "POST", &format!("{rbac}/rolebindings"), kind, binding("maker", "joe")).await;
    assert_eq!(code, 201);
}

#[tokio::test]
async fn refusals_say_what_upstreams_say() {
    let key = pki::PrivateKey::generate_rsa_pem().unwrap();
    let s = server_with(Config { signing_key_pem: Some(key), ..Config::default() }).await;
    let core = "/api/v1/namespaces/default";
    for name in ["default", "robot"] {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        assert_eq!(s.post(&format!("{core}/serviceaccounts"), account).await.0, 201);
    }
    for (name, node, volumes) in [
        ("here", "n1", json!([{"name": "v", "csi": {"driver": "d"}}])),
        ("there", "n2", json!([])),
        ("loose", "gone", json!([])),
    ] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": node,
            "serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}], "volumes": volumes}});
        let (code, made) = s.post(&format!("{core}/pods"), pod).await;
        assert_eq!(code, 201, "{made}");
    }
    let (_, here) = s.get(&format!("{core}/pods/here")).await;
    let node = || User::new("system:node:n1", &["system:nodes"]);
    let jane = || User::new("jane", &[]);
    let token = |reference: Value, audience: &str| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"boundObjectRef": reference, "audiences": [audience]}})
    };
    let tokens = format!("{core}/serviceaccounts/robot/token");
    let uid = here["metadata"]["uid"].as_str().unwrap();
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let grant = |role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]})
    };
    let maker = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "maker"},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create"]}]});
    assert_eq!(s.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", maker).await.0, 201);
    assert_eq!(s.post(&format!("{rbac}/rolebindings"), grant("maker")).await.0, 201);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {}});
    let pod = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name});
    let mut own = pod("here");
    own["uid"] = uid.into();
    let mut lost = pod("nope");
    lost["uid"] = "x".into();
    let mirror = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i",
            "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}});
    for (user, path, body, code, says) in [
        (
            super::support::admin(),
            format!("{core}/pods"),
            mirror,
            403,
            "pods \"m\" is forbidden: a mirror pod may not reference secrets",
        ),
        (super::support::admin(), tokens.clone(), token(pod(""), "a"), 400, "Name parameter required."),
        (node(), tokens.clone(), token(lost, "a"), 404, "pod \"nope\" not found"),
        (
            node(),
            tokens.clone(),
            token(own, "a"),
            403,
            "serviceaccounts \"robot\" is forbidden: error validating audience \"a\": csidriver.storage.k8s.io \"d\" not found",
        ),
        (
            node(),
            format!("{core}/pods/there/eviction"),
            eviction.clone(),
            403,
            "pods \"there\" is forbidden: node n1 can only evict pods with spec.nodeName set to itself",
        ),
        (
            node(),
            format!("{core}/pods/here/eviction"),
            eviction,
            400,
            "name in URL does not match name in Eviction object",
        ),
        (
            jane(),
            format!("{rbac}/rolebindings"),
            grant("nope"),
            404,
            "rolebindings.rbac.authorization.k8s.io \"nope\" not found",
        ),
    ] {
        let (status, answer) = s.send(user, "POST", &path, "application/json", body).await;
        assert_eq!((status, answer["message"].as_str()), (code, Some(says)), "{path}");
    }
    // a pod of any version, on a node that is not there
    let mut loose = pod("loose");
    loose["apiVersion"] = "v2".into();
    let (code, made) = s.post(&tokens, token(loose, "a")).await;
    assert_eq!(code, 201, "{made}");
    let claims = made["status"]["token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["kubernetes.io"]["node"], json!({"name": "gone"}));
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"}});
    let (_, answer) = s.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review).await;
    let rules = answer["status"]["resourceRules"].as_array().unwrap();
    assert_eq!(rules.iter().filter(|r| r["resources"] == json!(["*"])).count(), 1, "{answer}");
}
