//! Watches: ordered, no gap, no duplicate.

use super::*;

pub async fn from_now(store: Arc<dyn Store>) {
    put(&*store, "wn/a", "before").await;
    let mut watch = watch(&*store, "wn/", 0).await;
    let at = put(&*store, "wn/a", "after").await;
    let (revision, events) = next_commit(&mut *watch).await;
    assert_eq!((revision, events.len()), (at, 1));
    assert_eq!(told(&events[0]), format!("+wn/a=after@{at}"));
    assert_eq!(events[0].kv.version, 2);
}

pub async fn from_the_past(store: Arc<dyn Store>) {
    let first = put(&*store, "wp/a", "1").await;
    put(&*store, "wp/b", "2").await;
    delete(&*store, "wp/a").await;
    let mut watch = watch(&*store, "wp/", first).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(next_commit(&mut *watch).await.1.iter().map(told));
    }
    assert_eq!(
        seen,
        [format!("+wp/a=1@{first}"), format!("+wp/b=2@{}", first + 1), format!("-wp/a@{}", first + 2)]
    );
}

pub async fn from_the_future(store: Arc<dyn Store>) {
    let now = put(&*store, "wf/a", "0").await;
    let mut watch = watch(&*store, "wf/", now + 3).await;
    for i in 1..=3 {
        put(&*store, "wf/a", i.to_string()).await;
    }
    assert_eq!(told(&next_commit(&mut *watch).await.1[0]), format!("+wf/a=3@{}", now + 3));
}

pub async fn only_its_range(store: Arc<dyn Store>) {
    let mut prefix = watch(&*store, "wr/x/", 0).await;
    let request =
        WatchRequest { range: KeyRange::key("wr/x/b"), start_revision: 0, prev_kv: false, progress: None };
    let mut single = store.watch(request).await.unwrap();
    put(&*store, "wr/w", "").await;
    put(&*store, "wr/x/a", "").await;
    put(&*store, "wr/x0", "").await;
    let ops = vec![put_op("wr/x/b", ""), put_op("wr/y", "")];
    let at = do_txn(&*store, ops).await.revision;
    assert_eq!(next_commit(&mut *prefix).await.1[0].kv.key, "wr/x/a");
    let (revision, events) = next_commit(&mut *prefix).await;
    assert_eq!((revision, events.len()), (at, 1));
    let (revision, events) = next_commit(&mut *single).await;
    assert_eq!((revision, events.len(), &events[0].kv.key[..]), (at, 1, &b"wr/x/b"[..]));
}

pub async fn deletes(store: Arc<dyn Store>) {
    put(&*store, "wd/a", "1").await;
    put(&*store, "wd/b", "2").await;
    let mut watch = watch(&*store, "wd/", 0).await;
    let op = Op::Delete { range: KeyRange::prefix("wd/"), prev_kv: false };
    let at = do_txn(&*store, vec![op]).await.revision;
    let (revision, events) = next_commit(&mut *watch).await;
    assert_eq!(revision, at);
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), [format!("-wd/a@{at}"), format!("-wd/b@{at}")]);
    assert!(events.iter().all(|e| e.kv.value.is_empty() && e.kv.create_revision == 0 && e.kv.version == 0));
}

pub async fn prev_kv(store: Arc<dyn Store>) {
    let first = put(&*store, "wk/a", "1").await;
    let range = KeyRange::prefix("wk/");
    let request = WatchRequest { range, start_revision: 0, prev_kv: true, progress: None };
    let mut live = store.watch(request.clone()).await.unwrap();
    put(&*store, "wk/a", "2").await;
    delete(&*store, "wk/a").await;
    put(&*store, "wk/a", "3").await;
    let mut late = store.watch(WatchRequest { start_revision: first, ..request }).await.unwrap();
    let prev = |event: &Event| event.prev_kv.as_ref().map(|kv| kv.value.clone());
    assert_eq!(prev(&next_commit(&mut *late).await.1[0]), None, "a creation has nothing before it");
    for watch in [&mut live, &mut late] {
        for wanted in [Some("1".into()), Some("2".into()), None] {
            assert_eq!(prev(&next_commit(&mut **watch).await.1[0]), wanted);
        }
    }
}

pub async fn one_message_per_revision(store: Arc<dyn Store>) {
    let mut live = watch(&*store, "wm/", 0).await;
    let ops: Vec<Op> = (0..100).map(|i| put_op(format!("wm/{i:03}"), "")).collect();
    let at = do_txn(&*store, ops).await.revision;
    let mut late = watch(&*store, "wm/", at).await;
    for watch in [&mut live, &mut late] {
        let (revision, events) = next_commit(&mut **watch).await;
        assert_eq!((revision, events.len()), (at, 100));
    }
}

pub async fn past_and_present_join(store: Arc<dyn Store>) {
    let first = put(&*store, "wj/0", "").await;
    for i in 1..200 {
        put(&*store, format!("wj/{i}"), "").await;
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for i in 200..400 {
                put(&*store, format!("wj/{i}"), "").await;
            }
        }
    });
    let mut watch = watch(&*store, "wj/", first).await;
    for i in 0..400 {
        let (revision, _) = next_commit(&mut *watch).await;
        assert_eq!(revision, first + i);
    }
    writer.await.unwrap();
}

pub async fn slow_consumer_loses_nothing(store: Arc<dyn Store>) {
    let mut watch = watch(&*store, "ws/", 0).await;
    let first = put(&*store, "ws/0", "").await;
    // Many more than any queue holds.
    const WRITES: i64 = 6000;
    let writers = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..WRITES / 20 {
                put(&*store, "ws/x", "").await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for i in 0..=WRITES {
        assert_eq!(next_commit(&mut *watch).await.0, first + i);
    }
    let last = put(&*store, "ws/x", "").await;
    assert_eq!(next_commit(&mut *watch).await.0, last);
}

pub async fn progress_follows_events(store: Arc<dyn Store>) {
    let mut watch = watch(&*store, "wg/", 0).await;
    let at = put(&*store, "wg/a", "").await;
    let beyond = put(&*store, "elsewhere", "").await;
    watch.request_progress();
    let mut seen = 0;
    loop {
        match within(watch.next()).await.unwrap() {
            WatchMessage::Events { revision, .. } => {
                assert_eq!(revision, at);
                seen += 1;
            }
            WatchMessage::Progress { revision } if revision >= beyond => break,
            // An engine may tell of progress up to an earlier point first.
            WatchMessage::Progress { .. } => watch.request_progress(),
        }
    }
    assert_eq!(seen, 1, "events come before the progress that covers them");
}

pub async fn progress_when_quiet(store: Arc<dyn Store>) {
    let request = WatchRequest {
        range: KeyRange::prefix("wq/"),
        start_revision: 0,
        prev_kv: false,
        progress: Some(Duration::from_millis(100)),
    };
    let mut watch = store.watch(request).await.unwrap();
    let beyond = put(&*store, "not wq", "").await;
    loop {
        match within(watch.next()).await.unwrap() {
            WatchMessage::Progress { revision } if revision >= beyond => return,
            WatchMessage::Progress { .. } => {}
            WatchMessage::Events { events, .. } => panic!("not its range: {events:?}"),
        }
    }
}

pub async fn dropped_watch_ends(store: Arc<dyn Store>) {
    for _ in 0..50 {
        drop(watch(&*store, "wx/", 0).await);
    }
    let mut kept = watch(&*store, "wx/", 0).await;
    let at = put(&*store, "wx/a", "").await;
    assert_eq!(next_commit(&mut *kept).await.0, at);
}

pub async fn idle_watch_survives_compaction(store: Arc<dyn Store>) {
    let mut watch = watch(&*store, "wi/", 0).await;
    for i in 0..20 {
        put(&*store, "not wi", i.to_string()).await;
    }
    let now = revision(&*store).await;
    store.compact(now).await.unwrap();
    let at = put(&*store, "wi/a", "").await;
    assert_eq!(next_commit(&mut *watch).await.0, at);
}
