//! Lists and watches.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::support::{MAPS, config_map, server, server_with};

#[tokio::test]
async fn pages_are_of_one_moment() {
    let s = server().await;
    for name in ["a", "b", "c", "d"] {
        s.post(MAPS, config_map(name)).await;
    }
    let (_, first) = s.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    s.delete(&format!("{MAPS}/c")).await;
    s.post(MAPS, config_map("bb")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (code, second) = s.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    let names: Vec<&str> =
        second["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!((code, names), (200, vec!["c", "d"]));
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_page_that_comes_too_late_goes_on_with_what_there_is() {
    let s = server_with(apiserver::Config { list_history: Duration::from_millis(20), ..Default::default() })
        .await;
    for name in ["a", "b", "c"] {
        s.post(MAPS, config_map(name)).await;
    }
    let (_, first) = s.get(&format!("{MAPS}?limit=1")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    s.post(MAPS, config_map("bb")).await;
    let expired = async {
        loop {
            let (code, answer) = s.get(&format!("{MAPS}?limit=2&continue={token}")).await;
            if code == 410 {
                return answer;
            }
            // answers come without waiting: the clock must have its turn
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), expired).await.unwrap();
    assert_eq!(answer["reason"], "Expired");
    let token = answer["metadata"]["continue"].as_str().unwrap();
    let (code, second) = s.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    let names: Vec<&str> =
        second["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!((code, names), (200, vec!["b", "bb"]));
    assert_ne!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn reads_see_acknowledged_writes() {
    let s = server().await;
    for n in 0..50 {
        let (_, made) = s.post(MAPS, config_map(&format!("m{n}"))).await;
        let (_, list) = s.get(MAPS).await;
        assert_eq!(list["items"].as_array().unwrap().len(), n + 1);
        let at = |v: &serde_json::Value| {
            v["metadata"]["resourceVersion"].as_str().unwrap().parse::<i64>().unwrap()
        };
        assert!(at(&list) >= at(&made));
    }
}

#[tokio::test]
async fn kube_clients_list_and_watch() {
    let s = server().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(s.client());
    let make = |name: &str, label: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"l": label}}})).unwrap()
    };
    maps.create(&PostParams::default(), &make("a", "x")).await.unwrap();
    let list = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let from = list.metadata.resource_version.unwrap();
    let watch = maps.watch(&WatchParams::default().labels("l=x").timeout(10), &from).await.unwrap();
    let mut watch = watch.boxed();
    maps.create(&PostParams::default(), &make("b", "y")).await.unwrap();
    let mut b = maps.get("b").await.unwrap();
    b.metadata.labels = Some([("l".to_owned(), "x".to_owned())].into());
    let mut b = maps.replace("b", &PostParams::default(), &b).await.unwrap();
    b.metadata.labels = None;
    maps.replace("b", &PostParams::default(), &b).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event =
            tokio::time::timeout(Duration::from_secs(5), watch.try_next()).await.unwrap().unwrap().unwrap();
        seen.push(match event {
            WatchEvent::Added(o) => format!("added {}", o.metadata.name.unwrap()),
            WatchEvent::Deleted(o) => format!("deleted {}", o.metadata.name.unwrap()),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(seen, ["added b", "deleted b"]);
}

#[tokio::test]
async fn tables_and_unknown_things() {
    let s = server().await;
    assert_eq!(s.get("/api/v1/nopes").await.0, 404);
    assert_eq!(s.get("/apis/nope").await.1, json!("404 page not found\n"));
    let (code, bad) = s.get(&format!("{MAPS}?fieldSelector=spec.x%3D1")).await;
    assert_eq!(code, 400, "{bad}");
    let (code, old) = s.get(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    assert_eq!((code, &old["object"]["code"]), (200, &json!(410)));
}
