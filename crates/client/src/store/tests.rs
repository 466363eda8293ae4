use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::*;

fn object(namespace: &str, name: &str, version: u64) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.namespace = Some(namespace.into());
    object.metadata.name = Some(name.into());
    object.metadata.uid = Some(format!("{namespace}-{name}"));
    object.metadata.resource_version = Some(version.to_string());
    object
}

fn team(object: &ConfigMap) -> Vec<String> {
    object.labels().get("team").cloned().into_iter().collect()
}

#[test]
fn indexes_follow_changes() {
    let store = Store::new();
    let mut a = object("x", "a", 1);
    a.labels_mut().insert("team".into(), "red".into());
    store.apply(a.clone());
    store.add_index("team", team);
    assert_eq!(store.by_index("team", "red").len(), 1);
    a.labels_mut().insert("team".into(), "blue".into());
    store.apply(a.clone());
    assert_eq!((store.by_index("team", "red").len(), store.by_index("team", "blue").len()), (0, 1));
    store.remove(&a.key(), 3);
    assert_eq!((store.by_index("team", "blue").len(), store.len(), store.revision()), (0, 0, 3));
    assert!(store.by_index("none", "red").is_empty());
}

#[test]
fn handlers_see_each_step_once_and_stop() {
    let store = Store::new();
    store.apply(object("x", "a", 1));
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = seen.clone();
    let subscription = store.on_change(move |change| {
        let version = |o: Option<&Arc<ConfigMap>>| o.map_or("-".into(), |o| o.version().to_owned());
        log.lock().unwrap().push(format!("{} {}>{}", change.key, version(change.old), version(change.new)));
    });
    store.replace(vec![object("x", "a", 1), object("x", "b", 2)], 5);
    store.replace(vec![object("x", "b", 6)], 7);
    drop(subscription);
    store.apply(object("x", "c", 9));
    assert_eq!(*seen.lock().unwrap(), ["x/a ->1", "x/b ->2", "x/a 1>-", "x/b 2>6"]);
    assert!(store.has_synced());
}

#[test]
fn namespaces_are_apart() {
    let store = Store::new();
    store.replace(vec![object("a", "1", 1), object("a-b", "2", 2), object("a0", "3", 3)], 3);
    assert_eq!(store.list_namespace("a").len(), 1);
    assert_eq!(store.list_namespace("none").len(), 0);
}

#[tokio::test]
async fn waits_end_with_the_change() {
    let store = Store::new();
    let other = store.clone();
    let task = tokio::spawn(async move {
        let bound = Duration::from_secs(10);
        other.synced().await;
        assert!(other.caught_up("8", bound).await);
        assert!(other.wait_for(&Key::new("x", "a"), bound, |o| o.is_none()).await);
    });
    store.replace(vec![], 1);
    store.apply(object("x", "a", 8));
    store.remove(&Key::new("x", "a"), 9);
    task.await.unwrap();
    assert!(!store.caught_up("100", Duration::from_millis(1)).await);
}
