//! Lives of a store on a disk that crashes, one after the other, judged by the model.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::embedded::sim::{Faults, SimDisk};
use crate::robustness::{Dice, Watched, World, live};

/// Soundness of the worlds of some seeds.
async fn sound(seeds: std::ops::Range<u64>, power_loss: bool, faults: bool) {
    for seed in seeds {
        let world = World { seed, lives: 8, power_loss, faults };
        let acknowledged = live(world).await.unwrap_or_else(|unsound| panic!("{world:?}: {unsound}"));
        assert!(acknowledged > 50, "{world:?}: only {acknowledged} writes were acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_process_dies() {
    sound(1..4, false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_power_fails() {
    sound(100..106, true, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_disk_fails_now_and_then() {
    sound(200..206, true, true).await;
}

/// The events of all of the sample's history, as far as they can be read.
async fn history(store: &dyn Store) -> (Vec<Revision>, Result<()>) {
    let watched = Watched::new("", 401);
    let result = watched.follow(store, Some(701), &CancellationToken::new()).await;
    (watched.seen().commits.iter().map(|(revision, _)| *revision).collect(), result)
}

/// A store with some history, closed; and what is in it.
async fn sample(seed: u64) -> (SimDisk, RangeResponse) {
    let disk = SimDisk::new(seed);
    let store = open_on(Arc::new(disk.clone()), small()).unwrap();
    let mut dice = Dice::new(seed);
    for i in 0..700 {
        let value = vec![b'a' + (i % 26) as u8; 50 + dice.roll(300) as usize];
        put(&*store, &format!("k/{}", dice.roll(80)), value).await;
        if i == 500 {
            store.compact(400).await.unwrap();
        }
    }
    let last = all(&*store).await;
    drop(store);
    (disk.kill(), last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_never_served() {
    let mut named = 0;
    let mut dice = Dice::new(7);
    for seed in 0..60 {
        let (disk, before) = sample(seed % 5).await;
        let (file, offset) = disk.flip(&mut dice, |name| name != "lock").unwrap();
        let store = match open_on(Arc::new(disk), small()) {
            Err(error) => {
                let text = error.to_string();
                assert!(matches!(error, Error::Corrupt(_)), "{text}");
                assert!(text.contains(&file) && text.contains("offset"), "{file} {offset}: {text}");
                named += 1;
                continue;
            }
            Ok(store) => store,
        };
        assert_eq!(store.status().await.unwrap().revision, before.revision, "{file} {offset}");
        let is_named = |error: &Error| {
            let text = error.to_string();
            assert!(matches!(error, Error::Corrupt(_)), "{text}");
            assert!(text.contains(&file) && text.contains("offset"), "{file} {offset}: {text}");
            true
        };
        let mut bad = false;
        for kv in &before.kvs {
            match store.range(RangeRequest::new(KeyRange::key(kv.key.clone()))).await {
                Ok(found) => assert_eq!(found.kvs, [kv.clone()], "{file} {offset}"),
                Err(error) => bad = is_named(&error),
            }
        }
        let (seen, result) = history(&*store).await;
        assert!(seen.iter().copied().eq(401..401 + seen.len() as i64), "no gap");
        match result {
            Ok(()) => assert_eq!(seen.len(), 301),
            Err(error) => bad = is_named(&error),
        }
        named += usize::from(bad);
    }
    assert!(named > 10, "only {named} of 60 flips met something that is still needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_cut_is_named() {
    let mut named = 0;
    let mut dice = Dice::new(11);
    for seed in 0..40 {
        let (disk, before) = sample(seed % 5).await;
        let (file, left) = disk.cut(&mut dice, |name| name.ends_with(".log")).unwrap();
        match open_on(Arc::new(disk), small()) {
            Err(error) => {
                let text = error.to_string();
                assert!(matches!(error, Error::Corrupt(_)), "{text}");
                assert!(text.contains(&file) && text.contains("offset"), "{file} {left}: {text}");
                named += 1;
            }
            // What a clean-up was about to remove is not needed.
            Ok(store) => assert_eq!(all(&*store).await.kvs, before.kvs, "{file} {left}"),
        }
    }
    assert!(named > 30, "only {named} of 40");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_named() {
    for seed in 0..3 {
        let (disk, _) = sample(seed).await;
        let logs: Vec<_> = disk.list().unwrap().into_iter().filter(|n| n.ends_with(".log")).collect();
        assert!(logs.len() > 1);
        for log in &logs[..logs.len() - 1] {
            let (disk, _) = sample(seed).await;
            disk.remove(log).unwrap();
            let error = open_on(Arc::new(disk), small()).err().unwrap().to_string();
            assert!(error.contains(log.as_str()), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_checkpoint_the_log_is_enough() {
    for seed in 0..5 {
        let (disk, before) = sample(seed).await;
        let checkpoints = disk.list().unwrap().into_iter().filter(|n| n.starts_with("checkpoint"));
        checkpoints.for_each(|name| disk.remove(&name).unwrap());
        let store = open_on(Arc::new(disk), small()).unwrap();
        let after = all(&*store).await;
        assert_eq!((after.revision, after.kvs), (before.revision, before.kvs));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_recovers() {
    for errno in [28, 30, 5] {
        let disk = SimDisk::new(1);
        let store = open_on(Arc::new(disk.clone()), small()).unwrap();
        put(&*store, "a", "1").await;
        disk.set_faults(Faults { write: Some(errno), ..Faults::default() });
        let op = Op::Put { key: "a".into(), value: "2".into(), lease: 0, prev_kv: false };
        let txn = Txn { success: vec![op], ..Txn::default() };
        let refused = store.txn(txn.clone()).await.unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, Error::Unavailable(_) | Error::Unknown(_)), "{text}");
        assert!(text.contains("os error"), "{text}");
        assert!(store.status().await.unwrap().alarm.is_some());
        assert_eq!(all(&*store).await.kvs[0].value, "1", "reads go on");
        disk.set_faults(Faults::default());
        let again = store.txn(txn).await.unwrap();
        assert_eq!(again.revision, 3, "the refused write took no revision");
        assert_eq!(store.status().await.unwrap().alarm, None);
        drop(store);
        let store = open_on(Arc::new(disk.kill()), small()).unwrap();
        assert_eq!(all(&*store).await.kvs[0].value, "2");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_file_system_is_read_from_and_written_to_later() {
    let disk = SimDisk::new(1);
    let store = open_on(Arc::new(disk.clone()), small()).unwrap();
    put(&*store, "a", "1").await;
    drop(store);
    let disk = disk.kill();
    disk.set_faults(Faults { write: Some(30), ..Faults::default() });
    let store = open_on(Arc::new(disk.clone()), small()).unwrap();
    assert_eq!(store.status().await.unwrap().alarm.unwrap(), "the file system is read-only");
    assert_eq!(all(&*store).await.kvs[0].value, "1");
    let op = Op::Put { key: "a".into(), value: "2".into(), lease: 0, prev_kv: false };
    let txn = Txn { success: vec![op], ..Txn::default() };
    for _ in 0..2 {
        let refused = store.txn(txn.clone()).await.unwrap_err();
        // Certainly not written, and why.
        assert!(matches!(&refused, Error::Unavailable(why) if why.contains("os error 30")), "{refused}");
    }
    disk.set_faults(Faults::default());
    assert_eq!(store.txn(txn).await.unwrap().revision, 3);
    assert_eq!(store.status().await.unwrap().alarm, None);
    drop(store);
    let store = open_on(Arc::new(disk.kill()), small()).unwrap();
    assert_eq!(all(&*store).await.kvs[0].value, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_goes() {
    let disk = SimDisk::new(1);
    let store = open_on(Arc::new(disk.clone()), small()).unwrap();
    let mut last = 0;
    for i in 0..6000 {
        last = put(&*store, &format!("k/{}", i % 50), vec![b'x'; 400]).await;
        if i % 500 == 499 {
            store.compact(last).await.unwrap();
        }
        // Events come and go under names of their own.
        put(&*store, &format!("e/{i}"), "event").await;
        write::delete(&*store, format!("e/{i}").into(), 0).await.unwrap();
        let op = Op::Delete { range: KeyRange::key(format!("e/{i}")), prev_kv: false };
        store.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap();
    }
    last = put(&*store, "k/0", vec![b'x'; 400]).await.max(last);
    store.compact(last).await.unwrap();
    store.defragment().await.unwrap();
    let bounded = async {
        loop {
            let status = store.status().await.unwrap();
            if status.size < 1 << 20 {
                return status;
            }
            // Background work follows writes.
            put(&*store, "k/0", vec![b'x'; 400]).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(20), bounded).await.expect("the garbage stays");
    assert_eq!(status.keys, 50);
    let before = all(&*store).await;
    drop(store);
    let disk = disk.kill();
    let checkpoints = disk.list().unwrap().into_iter().filter(|n| n.starts_with("checkpoint"));
    checkpoints.for_each(|name| disk.remove(&name).unwrap());
    let store = open_on(Arc::new(disk), small()).unwrap();
    assert_eq!(all(&*store).await.kvs, before.kvs, "the log alone does not bring back what was deleted");
}
