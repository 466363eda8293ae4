//! Writes.

use serde_json::{Value, json};

use crate::support::{MAPS, config_map, server};

#[tokio::test]
async fn a_life_of_an_object() {
    let s = server().await;
    let (code, made) = s.post(MAPS, config_map("a")).await;
    assert_eq!(code, 201, "{made}");
    assert!(made["metadata"]["uid"].as_str().unwrap().len() == 36);
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "test");
    let path = format!("{MAPS}/a");
    let (code, again) = s.post(MAPS, config_map("a")).await;
    assert_eq!((code, again["reason"].as_str()), (409, Some("AlreadyExists")));

    let mut changed = made.clone();
    changed["data"]["a"] = "2".into();
    let (code, updated) = s.put(&path, changed.clone()).await;
    assert_eq!(code, 200, "{updated}");
    assert_ne!(updated["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let (code, stale) = s.put(&path, changed).await;
    assert_eq!((code, stale["reason"].as_str()), (409, Some("Conflict")));
    let (_, same) = s.put(&path, updated.clone()).await;
    assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);

    let (code, patched) = s.merge(&path, json!({"data": {"b": "3"}})).await;
    assert_eq!((code, &patched["data"]["b"]), (200, &json!("3")));
    let (code, gone) = s.delete(&path).await;
    assert_eq!((code, gone["status"].as_str()), (200, Some("Success")));
    assert_eq!(s.get(&path).await.0, 404);
}

#[tokio::test]
async fn apply_creates_owns_and_conflicts() {
    let s = server().await;
    let path = |manager: &str| format!("{MAPS}/a?fieldManager={manager}");
    let body = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}});
    assert_eq!(s.apply(&path("one"), body("1")).await.0, 201);
    let (code, conflict) = s.apply(&path("two"), body("2")).await;
    assert_eq!((code, conflict["reason"].as_str()), (409, Some("Conflict")), "{conflict}");
    let (code, forced) = s.apply(&format!("{}&force=true", path("two")), body("2")).await;
    assert_eq!((code, &forced["data"]["k"]), (200, &json!("2")));
}

#[tokio::test]
async fn finalizers_hold_and_release() {
    let s = server().await;
    let mut object = config_map("f");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(s.post(MAPS, object).await.0, 201);
    let path = format!("{MAPS}/f");
    let (code, marked) = s.delete(&path).await;
    assert_eq!(code, 200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    assert_eq!(s.get(&path).await.0, 200);
    let (code, _) = s.merge(&path, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(code, 200);
    assert_eq!(s.get(&path).await.0, 404);
}

#[tokio::test]
async fn nothing_is_made_where_there_is_no_namespace() {
    let s = server().await;
    let (code, refused) = s.post("/api/v1/namespaces/nope/configmaps", config_map("a")).await;
    assert_eq!(code, 404);
    assert_eq!(refused["message"], "namespaces \"nope\" not found");
    assert_eq!(
        s.post(
            "/api/v1/namespaces",
            json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "n"}})
        )
        .await
        .0,
        201
    );
    assert_eq!(s.post("/api/v1/namespaces/n/configmaps", config_map("a")).await.0, 201);
    let (code, ending) = s.delete("/api/v1/namespaces/n").await;
    assert_eq!((code, ending["status"]["phase"].as_str()), (200, Some("Terminating")));
    let (code, refused) = s.post("/api/v1/namespaces/n/configmaps", config_map("b")).await;
    assert_eq!(code, 403, "{refused}");
    let mut final_one = ending.clone();
    final_one["spec"] = json!({});
    assert_eq!(s.put("/api/v1/namespaces/n/finalize", final_one).await.0, 200);
    assert_eq!(s.get("/api/v1/namespaces/n").await.0, 404);
}

#[tokio::test]
async fn services_get_addresses_once_and_give_them_back() {
    let s = server().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "NodePort", "clusterIP": ip, "selector": {"a": "b"}, "ports": [{"port": 80}]}})
    };
    let (code, first) = s.post(path, service("one", Value::Null)).await;
    assert_eq!(code, 201, "{first}");
    let ip = first["spec"]["clusterIP"].clone();
    let port = first["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!(ip.as_str().unwrap().starts_with("10.96.") && (30000..=32767).contains(&port));
    let (code, taken) = s.post(path, service("two", ip.clone())).await;
    assert_eq!(code, 422, "{taken}");
    assert_eq!(s.delete(&format!("{path}/one")).await.0, 200);
    assert_eq!(s.post(path, service("two", ip)).await.0, 201);
    let (code, kubernetes) = s.get(&format!("{path}/kubernetes")).await;
    assert_eq!((code, kubernetes["spec"]["clusterIP"].as_str()), (200, Some("10.96.0.1")));
}

#[tokio::test]
async fn many_writers_of_one_object_all_get_through() {
    let s = std::sync::Arc::new(server().await);
    s.post(MAPS, config_map("a")).await;
    let writers = (0..8).map(|n| {
        let s = s.clone();
        tokio::spawn(
            async move { s.merge(&format!("{MAPS}/a"), json!({"data": {format!("k{n}"): "v"}})).await.0 },
        )
    });
    for writer in writers.collect::<Vec<_>>() {
        assert_eq!(writer.await.unwrap(), 200);
    }
    let (_, object) = s.get(&format!("{MAPS}/a")).await;
    assert_eq!(object["data"].as_object().unwrap().len(), 9);
}
