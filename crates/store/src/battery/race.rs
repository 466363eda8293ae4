//! What must hold when many clients work at once.

use super::*;
use crate::{Error, write};

pub async fn counters_do_not_lose(store: Arc<dyn Store>) {
    put(&*store, "rc", "0").await;
    let add = || {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                loop {
                    let kv = get(&*store, "rc").await.unwrap();
                    let next = std::str::from_utf8(&kv.value).unwrap().parse::<u32>().unwrap() + 1;
                    let value = next.to_string().into();
                    let outcome =
                        write::update(&*store, "rc".into(), value, 0, kv.mod_revision).await.unwrap();
                    if matches!(outcome, write::Outcome::Done { .. }) {
                        break;
                    }
                }
            }
        })
    };
    for task in (0..8).map(|_| add()).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let kv = get(&*store, "rc").await.unwrap();
    assert_eq!((&kv.value[..], kv.version), (&b"200"[..], 201));
}

pub async fn creates_have_one_winner(store: Arc<dyn Store>) {
    for round in 0..20 {
        let tasks = (0..8).map(|who| {
            let store = store.clone();
            let key: Bytes = format!("rw/{round}").into();
            tokio::spawn(async move {
                let outcome = write::create(&*store, key, who.to_string().into(), 0).await.unwrap();
                matches!(outcome, write::Outcome::Done { .. }).then_some(who)
            })
        });
        let mut winners = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            winners.extend(task.await.unwrap());
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(get(&*store, format!("rw/{round}")).await.unwrap().value, winners[0].to_string());
    }
}

pub async fn watch_sees_every_commit_in_order(store: Arc<dyn Store>) {
    let mut watches = Vec::new();
    for _ in 0..4 {
        watches.push(watch(&*store, "rv/", 0).await);
    }
    let before = revision(&*store).await;
    let writers = (0..8).map(|who| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for i in 0..50 {
                mine.push((
                    put(&*store, format!("rv/{}", i % 7), format!("{who}-{i}")).await,
                    format!("{who}-{i}"),
                ));
            }
            mine
        })
    });
    let mut written = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        written.extend(writer.await.unwrap());
    }
    written.sort();
    assert!(written.iter().map(|(revision, _)| *revision).eq(before + 1..=before + 400), "one revision each");
    for mut watch in watches {
        for (at, value) in &written {
            let (revision, events) = next_commit(&mut *watch).await;
            assert_eq!((revision, &events[0].kv.value[..]), (*at, value.as_bytes()));
        }
    }
}

pub async fn reads_are_consistent(store: Arc<dyn Store>) {
    let pair = |i: u32| vec![put_op("rr/a", i.to_string()), put_op("rr/b", i.to_string())];
    do_txn(&*store, pair(0)).await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for i in 1..=200 {
                do_txn(&*store, pair(i)).await;
            }
        }
    });
    let mut newest = 0;
    while !writer.is_finished() {
        let found = range(&*store, KeyRange::prefix("rr/"), 0, 0).await;
        let [a, b] = &found.kvs[..] else { panic!("{found:?}") };
        assert_eq!((&a.value, a.mod_revision), (&b.value, b.mod_revision), "both halves of one commit");
        assert!(a.mod_revision >= newest && found.revision >= a.mod_revision, "time does not go back");
        newest = a.mod_revision;
        let again = range(&*store, KeyRange::prefix("rr/"), newest, 0).await;
        assert_eq!(again.kvs, found.kvs, "the same revision reads the same");
    }
    writer.await.unwrap();
    assert_eq!(get(&*store, "rr/a").await.unwrap().value, "200", "a write is seen once it is answered");
}

pub async fn transfers_conserve(store: Arc<dyn Store>) {
    for account in 0..4 {
        put(&*store, format!("rt/{account}"), "100").await;
    }
    let number = |kv: &KeyValue| std::str::from_utf8(&kv.value).unwrap().parse::<i64>().unwrap();
    let tasks = (0..6).map(|who: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..20 {
                let (from, to) = (format!("rt/{}", (who + i) % 4), format!("rt/{}", (who + i * 3 + 1) % 4));
                if from == to {
                    continue;
                }
                loop {
                    let a = get(&*store, &from).await.unwrap();
                    let b = get(&*store, &to).await.unwrap();
                    let at = |key, kv: &KeyValue| {
                        compare(key, Ordering::Equal, Target::ModRevision(kv.mod_revision))
                    };
                    let txn = Txn {
                        compare: vec![at(&from, &a), at(&to, &b)],
                        success: vec![
                            put_op(&from, (number(&a) - 1).to_string()),
                            put_op(&to, (number(&b) + 1).to_string()),
                        ],
                        failure: vec![],
                    };
                    if store.txn(txn).await.unwrap().succeeded {
                        break;
                    }
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sum: i64 = range(&*store, KeyRange::prefix("rt/"), 0, 0).await.kvs.iter().map(number).sum();
    assert_eq!(sum, 400);
}

pub async fn compaction_under_watchers(store: Arc<dyn Store>) {
    let mut watch = watch(&*store, "rk/", 0).await;
    let first = put(&*store, "rk/0", "").await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let mut written = vec![first];
            for i in 1..300 {
                let at = put(&*store, format!("rk/{}", i % 10), "").await;
                written.push(at);
                if i % 50 == 0 {
                    store.compact(at).await.unwrap();
                }
            }
            written
        }
    });
    // One that keeps up is not disturbed. (Revisions need not be consecutive: a lease of another case may end.)
    let mut seen = Vec::new();
    for _ in 0..300 {
        seen.push(next_commit(&mut *watch).await.0);
    }
    assert_eq!(seen, writer.await.unwrap());
    let request = WatchRequest {
        range: KeyRange::prefix("rk/"),
        start_revision: first,
        prev_kv: false,
        progress: None,
    };
    let refused = match store.watch(request).await {
        Ok(mut late) => within(late.next()).await.err(),
        Err(error) => Some(error),
    };
    assert!(matches!(refused, Some(Error::Compacted { .. })), "{refused:?}");
}

pub async fn resumed_watches_have_no_gap(store: Arc<dyn Store>) {
    let first = put(&*store, "rs/0", "").await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for i in 1..300 {
                put(&*store, format!("rs/{}", i % 10), "").await;
            }
        }
    });
    let mut wanted = first;
    let mut lap = 0;
    while wanted < first + 300 {
        let mut watch = watch(&*store, "rs/", wanted).await;
        lap += 1;
        for _ in 0..(lap * 7) % 23 + 1 {
            if wanted < first + 300 {
                assert_eq!(next_commit(&mut *watch).await.0, wanted);
                wanted += 1;
            }
        }
    }
    writer.await.unwrap();
}
