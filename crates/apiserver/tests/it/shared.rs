//! Several servers on one store: what one acknowledges the others read, and nothing is given out twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Config};
use serde_json::{Value, json};
use store::Store;
use store::memory::Memory;

use super::support::Server;

async fn servers(store: &Arc<Memory>) -> [Server; 2] {
    let start = |last: u8| async move {
        let advertise_address = [192, 0, 2, last].into();
        let config = Config { exclusive_store: false, advertise_address, ..Config::default() };
        Server { api: ApiServer::start(config, store.clone()).await.unwrap() }
    };
    [start(1).await, start(2).await]
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}})
}

const SERVICES: &str = "/api/v1/namespaces/default/services";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_and_ports_are_given_once() {
    let store = Arc::new(Memory::new());
    let servers = servers(&store).await;
    let make = |i: usize| {
        let server = &servers[i % 2];
        async move { server.post(SERVICES, service(&format!("s{i}"))).await }
    };
    let made = futures_util::future::join_all((0..40).map(make)).await;
    let (mut ips, mut ports) = (HashSet::new(), HashSet::new());
    for (code, service) in &made {
        assert_eq!(*code, 201, "{service}");
        assert!(ips.insert(service["spec"]["clusterIP"].as_str().unwrap().to_owned()), "{service}");
        assert!(ports.insert(service["spec"]["ports"][0]["nodePort"].as_i64().unwrap()), "{service}");
    }
    // What one gave, another refuses to give again, and gives when it is free.
    let mut taken = service("again");
    taken["spec"]["clusterIP"] = made[0].1["spec"]["clusterIP"].clone();
    let (code, refused) = servers[1].post(SERVICES, taken.clone()).await;
    assert_eq!(code, 422, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("provided IP is already allocated"), "{refused}");
    let mut taken_port = service("again");
    taken_port["spec"]["ports"][0]["nodePort"] = made[0].1["spec"]["ports"][0]["nodePort"].clone();
    let (code, refused) = servers[1].post(SERVICES, taken_port.clone()).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(servers[0].delete(&format!("{SERVICES}/s0")).await.0, 200);
    taken["spec"]["ports"] = taken_port["spec"]["ports"].clone();
    let (code, given) = servers[1].post(SERVICES, taken).await;
    assert_eq!(code, 201, "{given}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_service_leaves_nothing_taken() {
    let store = Arc::new(Memory::new());
    let servers = servers(&store).await;
    let mut bad = service("Not-A-Name");
    bad["spec"]["clusterIP"] = "10.96.7.7".into();
    assert_eq!(servers[0].post(SERVICES, bad).await.0, 422);
    let mut good = service("good");
    good["spec"]["clusterIP"] = "10.96.7.7".into();
    // It is given back behind the answer.
    let start = Instant::now();
    loop {
        let (code, answer) = servers[1].post(SERVICES, good.clone()).await;
        if code == 201 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{answer}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reads_what_the_other_wrote() {
    let store = Arc::new(Memory::new());
    let servers = servers(&store).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for i in 0..20 {
        let (name, writer) = (format!("m{i}"), i % 2);
        let made = servers[writer].post(maps, json!({"metadata": {"name": name}})).await;
        assert_eq!(made.0, 201);
        let (code, read) = servers[1 - writer].get(&format!("{maps}/{name}")).await;
        assert_eq!((code, &read["metadata"]), (200, &made.1["metadata"]));
        let (_, list) = servers[1 - writer].get(maps).await;
        let names: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|o| &o["metadata"]["name"]).collect();
        assert!(names.contains(&&Value::from(name)), "{names:?}");
    }
    // Somebody else's key moves the revision, and no event of ours tells of it.
    store::write::create(&*store, "elsewhere".into(), "x".into(), 0).await.unwrap();
    let start = Instant::now();
    assert_eq!(servers[0].get(&format!("{maps}/m1")).await.0, 200);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kubernetes_service_leads_to_all_of_them() {
    let store = Arc::new(Memory::new());
    let servers = servers(&store).await;
    let (_, endpoints) = servers[0].get("/api/v1/namespaces/default/endpoints/kubernetes").await;
    let ips: Vec<_> =
        endpoints["subsets"][0]["addresses"].as_array().unwrap().iter().map(|a| a["ip"].clone()).collect();
    assert_eq!(ips, ["192.0.2.1", "192.0.2.2"]);
    let found =
        store.range(store::RangeRequest::new(store::KeyRange::prefix("/registry/masterleases/"))).await;
    let found = found.unwrap();
    assert_eq!(found.kvs.len(), 2);
    assert!(found.kvs.iter().all(|kv| kv.lease != 0 && kv.value.starts_with(b"k8s\0")));
}
