//! Real etcd: the battery, members that die, stop and refuse.

use std::sync::Arc;
use std::time::Duration;

use store::etcd::Config;
use store::{Error, KeyRange, Op, RangeRequest, Store, Txn, WatchMessage, WatchRequest};

use super::cluster::{Cluster, available};

pub async fn put(store: &dyn Store, key: &str, value: &str) -> store::Result<i64> {
    let op = Op::Put { key: key.to_owned().into(), value: value.to_owned().into(), lease: 0, prev_kv: false };
    store.txn(Txn { success: vec![op], ..Txn::default() }).await.map(|r| r.revision)
}

/// Tries until it is certain that the value has been written.
pub async fn put_surely(store: &dyn Store, key: &str, value: &str) {
    for _ in 0..100 {
        if put(store, key, value).await.is_ok() {
            return;
        }
    }
    put(store, key, value).await.unwrap();
}

async fn get(store: &dyn Store, key: &str) -> Option<String> {
    let found = store.range(RangeRequest::new(KeyRange::key(key.to_owned()))).await.unwrap();
    found.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_battery() {
    if !available("etcd") {
        return;
    }
    let cluster = Cluster::start(1);
    let store = cluster.connect().await;
    for (name, _) in store::battery::CASES {
        eprintln!("{name}");
        store::battery::run(name, store.clone()).await;
    }
}

/// How many writes have been acknowledged, and the revision up to which the watch has told of them.
pub struct Written {
    count: tokio::sync::watch::Receiver<usize>,
    seen: tokio::sync::watch::Receiver<i64>,
}

/// Until this many more writes have been acknowledged.
pub async fn more(written: &mut Written, count: usize) {
    let wanted = *written.count.borrow() + count;
    written.count.wait_for(|now| *now >= wanted).await.unwrap();
}

async fn survives(disturb: impl AsyncFnOnce(&mut Cluster, &mut Written)) {
    let mut cluster = Cluster::start(3);
    let store = cluster.connect().await;
    traffic_survives(store, async |written| disturb(&mut cluster, written).await).await;
}

/// Writes counted values and watches them while `disturb` does its worst; every acknowledged one must be there, and the
/// watch must have no gap.
pub async fn traffic_survives(store: Arc<dyn Store>, disturb: impl AsyncFnOnce(&mut Written)) {
    put_surely(&*store, "s/start", "").await;
    let request =
        WatchRequest { range: KeyRange::prefix("s/"), start_revision: 0, prev_kv: false, progress: None };
    let mut watch = store.watch(request).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let written = tokio::sync::watch::Sender::new(0);
    let told = tokio::sync::watch::Sender::new(0);
    let mut enough = Written { count: written.subscribe(), seen: told.subscribe() };
    let watcher = tokio::spawn(async move {
        let mut seen: Vec<(String, i64)> = Vec::new();
        loop {
            let WatchMessage::Events { revision, events } = watch.next().await.unwrap() else { continue };
            assert!(seen.last().is_none_or(|(_, last)| *last < revision), "in order, once");
            let key = String::from_utf8(events[0].kv.key.to_vec()).unwrap();
            if key == "s/zz" {
                return seen;
            }
            seen.push((key, revision));
            told.send_replace(revision);
        }
    });
    let writer = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            let (mut acknowledged, mut unknown) = (Vec::new(), 0);
            let mut i = 0;
            while !stop.is_cancelled() {
                let key = format!("s/{i:06}");
                match put(&*store, &key, "x").await {
                    Ok(revision) => {
                        acknowledged.push((key, revision));
                        written.send_replace(acknowledged.len());
                    }
                    Err(Error::Unknown(_)) => unknown += 1,
                    Err(Error::Unavailable(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
                i += 1;
            }
            (acknowledged, unknown)
        }
    });
    more(&mut enough, 1).await;
    tokio::time::timeout(Duration::from_secs(150), disturb(&mut enough))
        .await
        .expect("the cluster does not come back");
    stop.cancel();
    let (acknowledged, unknown) = writer.await.unwrap();
    // It must be possible to write afterwards.
    put_surely(&*store, "s/zz", "end").await;
    eprintln!("{} acknowledged, {unknown} unknown", acknowledged.len());
    let seen =
        tokio::time::timeout(Duration::from_secs(60), watcher).await.expect("the watch hangs").unwrap();
    let found = store.range(RangeRequest::new(KeyRange::prefix("s/0"))).await.unwrap();
    let there: std::collections::HashMap<_, _> =
        found.kvs.iter().map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision)).collect();
    for (key, revision) in &acknowledged {
        assert_eq!(there.get(key), Some(revision), "{key} was acknowledged");
    }
    // One whose outcome was unknown may have come after the end.
    let end = store.range(RangeRequest::new(KeyRange::key("s/zz"))).await.unwrap().kvs[0].create_revision;
    let before = there.values().filter(|revision| **revision < end).count();
    assert_eq!(seen.len(), before, "the watch saw each one");
}

async fn wait_for_leader(cluster: &Cluster) -> usize {
    loop {
        if let Some(leader) = cluster.leader() {
            return leader;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed() {
    if !available("etcd") || !available("etcdctl") {
        return;
    }
    survives(async |cluster, written| {
        for _ in 0..2 {
            let leader = wait_for_leader(cluster).await;
            cluster.kill(leader);
            more(written, 20).await;
            cluster.restart(leader);
            more(written, 20).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_stops_for_a_while() {
    if !available("etcd") {
        return;
    }
    survives(async |cluster, written| {
        for i in 0..3 {
            cluster.pause(i);
            more(written, 20).await;
            cluster.resume(i);
            more(written, 20).await;
        }
    })
    .await;
}

/// A watch that lives through compactions right behind it, with the leader killed in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_under_a_watcher() {
    if !available("etcd") || !available("etcdctl") {
        return;
    }
    survives(async |cluster, written| {
        let store = cluster.connect().await;
        for round in 0..6 {
            more(written, 20).await;
            // Right behind the watch: it must be able to resume wherever it is.
            let revision = *written.seen.borrow();
            let done = store.compact(revision.max(1)).await;
            assert!(!matches!(done, Err(Error::Other(_))), "{done:?}");
            if round == 3 {
                let leader = wait_for_leader(cluster).await;
                cluster.kill(leader);
                more(written, 20).await;
                cluster.restart(leader);
            }
        }
    })
    .await;
}

/// The member that leads may write to its disk only a few times a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_disk_is_slow() {
    if !available("etcd") || !available("etcdctl") {
        return;
    }
    survives(async |cluster, written| {
        let leader = wait_for_leader(cluster).await;
        let Some(slow) = cluster.slow_disk(leader) else {
            return eprintln!("skipped: no disk can be slowed down here");
        };
        let start = std::time::Instant::now();
        more(written, 60).await;
        eprintln!("60 writes in {:?}", start.elapsed());
        drop(slow);
        more(written, 60).await;
    })
    .await;
}

/// Progress without events, also where the member's own word is not to be believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_when_others_move_the_revision() {
    if !available("etcd") {
        return;
    }
    let cluster = Cluster::start(1);
    let store = cluster.connect().await;
    put_surely(&*store, "p/1", "x").await;
    let request =
        WatchRequest { range: KeyRange::prefix("p/"), start_revision: 0, prev_kv: false, progress: None };
    let mut watch = store.watch(request).await.unwrap();
    for i in 0..5 {
        let revision = put(&*store, "other", "x").await.unwrap();
        let key = format!("p/{i}");
        watch.request_progress();
        let told =
            tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("progress").unwrap();
        assert!(matches!(told, WatchMessage::Progress { revision: at } if at >= revision), "{told:?}");
        let revision = put(&*store, &key, "y").await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("event").unwrap();
        let WatchMessage::Events { revision: at, .. } = told else { panic!("{told:?}") };
        assert_eq!(at, revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_writes_fail_and_come_back() {
    if !available("etcd") {
        return;
    }
    let mut cluster = Cluster::start(3);
    let config = Config {
        request_timeout: Duration::from_secs(1),
        retry_for: Duration::from_secs(2),
        ..Config::new(cluster.endpoints())
    };
    let store = cluster.connect_with(config).await;
    put_surely(&*store, "a", "1").await;
    cluster.kill(0);
    cluster.kill(1);
    let refused = put(&*store, "a", "2").await.unwrap_err();
    assert!(matches!(refused, Error::Unknown(_) | Error::Unavailable(_)), "{refused:?}");
    let refused = store.range(RangeRequest::new(KeyRange::key("a"))).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    cluster.restart(0);
    cluster.restart(1);
    put_surely(&*store, "a", "3").await;
    assert_eq!(get(&*store, "a").await, Some("3".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_of_one_cluster_agree() {
    if !available("etcd") {
        return;
    }
    let cluster = Cluster::start(3);
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for i in 0..3 {
        // Each has a member of its own first.
        let mut endpoints = cluster.endpoints();
        endpoints.rotate_left(i);
        stores.push(cluster.connect_with(Config::new(endpoints)).await);
    }
    put_surely(&*stores[0], "n", "0").await;
    let tasks = stores.iter().cloned().map(|store| {
        tokio::spawn(async move {
            for _ in 0..20 {
                loop {
                    let found = store.range(RangeRequest::new(KeyRange::key("n"))).await.unwrap();
                    let kv = &found.kvs[0];
                    let next = std::str::from_utf8(&kv.value).unwrap().parse::<u32>().unwrap() + 1;
                    let value = next.to_string().into();
                    let done =
                        store::write::update(&*store, "n".into(), value, 0, kv.mod_revision).await.unwrap();
                    if matches!(done, store::write::Outcome::Done { .. }) {
                        break;
                    }
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for store in &stores {
        assert_eq!(get(&**store, "n").await, Some("60".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_asked_for() {
    if !available("etcd") {
        return;
    }
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let signed = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (server, server_key) = signed();
    let (client, client_key) = signed();
    let cluster = Cluster::start_with(1, "https", |dir| {
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (ca, cert) = (file("ca.pem", &ca_pem), file("server.pem", &server));
        let key = file("server.key", &server_key);
        vec![
            "--client-cert-auth".into(),
            format!("--trusted-ca-file={ca}"),
            format!("--cert-file={cert}"),
            format!("--key-file={key}"),
        ]
    });
    let with = |identity| Config {
        ca: Some(ca_pem.clone().into_bytes()),
        identity,
        request_timeout: Duration::from_secs(2),
        retry_for: Duration::from_secs(2),
        ..Config::new(cluster.endpoints())
    };
    let store = cluster.connect_with(with(Some((client.into_bytes(), client_key.into_bytes())))).await;
    put_surely(&*store, "a", "1").await;
    assert_eq!(get(&*store, "a").await, Some("1".into()));
    let error =
        store::etcd::connect(with(None)).await.err().expect("a client without a certificate").to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    assert!(cluster.dir().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_passwords() {
    if !available("etcd") || !available("etcdctl") {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.connect().await;
    let etcdctl = |args: &[&str]| {
        let mut command = std::process::Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &cluster.endpoints()[0]]).args(args);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{args:?}: {out:?}");
    };
    etcdctl(&["user", "add", "root:secret"]);
    etcdctl(&["user", "add", "nobody:secret"]);
    etcdctl(&["auth", "enable"]);
    let with = |user: Option<(&str, &str)>| Config {
        user: user.map(|(name, password)| (name.to_owned(), password.to_owned())),
        ..Config::new(cluster.endpoints())
    };
    let refused = async |user| store::etcd::connect(with(user)).await.err().expect("refused").to_string();
    assert!(refused(None).await.contains("user name is empty (the cluster asks who is there"));
    assert!(refused(Some(("root", "wrong"))).await.contains("authentication failed"));
    assert!(refused(Some(("nobody", "secret"))).await.contains("permission denied"));

    let store = store::etcd::connect(with(Some(("root", "secret")))).await.unwrap();
    put(&*store, "a", "1").await.unwrap();
    assert_eq!(get(&*store, "a").await, Some("1".into()));
    let lease = store.lease_grant(0, 300).await.unwrap().id;
    // The member forgets its tokens.
    cluster.kill(0);
    cluster.restart(0);
    put_surely(&*store, "a", "2").await;
    assert_eq!(store.lease_keep_alive(lease).await.unwrap().id, lease);
    cluster.kill(0);
    cluster.restart(0);
    let request =
        WatchRequest { range: KeyRange::prefix("a"), start_revision: 2, prev_kv: false, progress: None };
    let mut watch = store.watch(request).await.unwrap();
    assert!(matches!(watch.next().await.unwrap(), WatchMessage::Events { revision: 2, .. }));
}
