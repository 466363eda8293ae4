//! The behaviour and race tests that every engine runs.
//!
//! A case gets a store that may have a past (any revision, other keys) but no other users, and panics where the store
//! departs from etcd v3. [`battery!`](crate::battery) makes a test of each; [`CASES`] is for engines that are
//! costly to start.

#![allow(clippy::unwrap_used)] // It is test code: a panic is its verdict.

mod compact;
mod kv;
mod lease;
mod race;
mod txn;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{
    Compare, Event, EventKind, KeyRange, KeyValue, Op, OpResponse, Ordering, RangeRequest, RangeResponse,
    Revision, Store, Target, Txn, TxnResponse, Watch, WatchMessage, WatchRequest,
};

/// A case's name and the case.
pub type Case = (&'static str, fn(Arc<dyn Store>) -> BoxFuture<'static, ()>);

macro_rules! cases {
    ($($module:ident::$name:ident,)*) => {
        /// Every case of the battery.
        pub const CASES: &[Case] = &[$((concat!(stringify!($module), "_", stringify!($name)), |store| Box::pin($module::$name(store))),)*];
    };
}

cases! {
    kv::put_and_get, kv::versions_count_up, kv::delete_ends_a_life, kv::delete_of_nothing_is_no_commit,
    kv::ranges_and_limits, kv::prefix_from_and_inverted, kv::reads_the_past, kv::future_is_refused,
    kv::keys_only_and_count_only, kv::binary_and_empty, kv::large_values, kv::prev_kv,
    kv::unchanged_value_is_a_commit, kv::status_tells_revision,
    txn::compare_each_target, txn::missing_key_counts_as_zero, txn::compare_over_a_range, txn::one_revision_for_all,
    txn::reads_its_own_writes, txn::duplicate_keys_are_refused, txn::inner_transactions, txn::failed_txn_changes_nothing,
    txn::read_only_is_no_commit, txn::conditional_writes, txn::unknown_lease_is_refused,
    watch::from_now, watch::from_the_past, watch::from_the_future, watch::only_its_range, watch::deletes,
    watch::prev_kv, watch::one_message_per_revision, watch::past_and_present_join, watch::slow_consumer_loses_nothing,
    watch::progress_follows_events, watch::progress_when_quiet, watch::dropped_watch_ends, watch::idle_watch_survives_compaction,
    compact::history_goes, compact::refuses_nonsense, compact::deleted_keys_go, compact::watch_from_below,
    compact::last_versions_stay, compact::status_tells, compact::tombstone_at_the_compacted_revision,
    lease::grant_and_list, lease::revoke_deletes_keys, lease::expiry_deletes_keys, lease::keep_alive_keeps,
    lease::put_moves_between_leases, lease::unknown_lease, lease::given_id,
    race::counters_do_not_lose, race::creates_have_one_winner, race::watch_sees_every_commit_in_order,
    race::reads_are_consistent, race::transfers_conserve, race::compaction_under_watchers, race::resumed_watches_have_no_gap,
}

/// Declares a test per case; the argument is an expression of a future of an `Arc<dyn Store>` and of
/// something to keep while the test runs, evaluated per case.
#[macro_export]
macro_rules! battery {
    ($open:expr) => {
        $crate::battery!(@cases $open;
            kv_put_and_get kv_versions_count_up kv_delete_ends_a_life kv_delete_of_nothing_is_no_commit
            kv_ranges_and_limits kv_prefix_from_and_inverted kv_reads_the_past kv_future_is_refused
            kv_keys_only_and_count_only kv_binary_and_empty kv_large_values kv_prev_kv
            kv_unchanged_value_is_a_commit kv_status_tells_revision
            txn_compare_each_target txn_missing_key_counts_as_zero txn_compare_over_a_range txn_one_revision_for_all
            txn_reads_its_own_writes txn_duplicate_keys_are_refused txn_inner_transactions txn_failed_txn_changes_nothing
            txn_read_only_is_no_commit txn_conditional_writes txn_unknown_lease_is_refused
            watch_from_now watch_from_the_past watch_from_the_future watch_only_its_range watch_deletes
            watch_prev_kv watch_one_message_per_revision watch_past_and_present_join watch_slow_consumer_loses_nothing
            watch_progress_follows_events watch_progress_when_quiet watch_dropped_watch_ends watch_idle_watch_survives_compaction
            compact_history_goes compact_refuses_nonsense compact_deleted_keys_go compact_watch_from_below
            compact_last_versions_stay compact_status_tells compact_tombstone_at_the_compacted_revision
            lease_grant_and_list lease_revoke_deletes_keys lease_expiry_deletes_keys lease_keep_alive_keeps
            lease_put_moves_between_leases lease_unknown_lease lease_given_id
            race_counters_do_not_lose race_creates_have_one_winner race_watch_sees_every_commit_in_order
            race_reads_are_consistent race_transfers_conserve race_compaction_under_watchers race_resumed_watches_have_no_gap
        );
    };
    (@cases $open:expr; $($name:ident)*) => {
        mod battery {
            #[allow(unused_imports)]
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _kept) = $open.await;
                $crate::battery::run(stringify!($name), store).await;
            })*

            #[test]
            fn every_case_has_a_test() {
                let named = [$(stringify!($name)),*];
                assert!($crate::battery::CASES.iter().map(|(name, _)| *name).eq(named));
            }
        }
    };
}

/// Runs one case; panics if it does not come to an end.
pub async fn run(name: &str, store: Arc<dyn Store>) {
    let (_, case) =
        CASES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no case {name}"));
    within(case(store.clone())).await;
    // A lease that ended during a later case would be a commit that that case does not expect.
    for lease in store.leases().await.unwrap_or_default() {
        let _ = store.lease_revoke(lease).await;
    }
}

/// Waits for what must come; a bound far above any honest delay.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("timed out")
}

fn put_op(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_ref()),
        value: Bytes::copy_from_slice(value.as_ref()),
        lease: 0,
        prev_kv: false,
    }
}

fn delete_op(key: impl AsRef<[u8]>) -> Op {
    Op::Delete { range: KeyRange::key(Bytes::copy_from_slice(key.as_ref())), prev_kv: true }
}

fn get_op(key: impl AsRef<[u8]>) -> Op {
    Op::Range(RangeRequest::new(KeyRange::key(Bytes::copy_from_slice(key.as_ref()))))
}

fn compare(key: impl AsRef<[u8]>, ordering: Ordering, target: Target) -> Compare {
    Compare { range: KeyRange::key(Bytes::copy_from_slice(key.as_ref())), ordering, target }
}

async fn do_txn(store: &dyn Store, success: Vec<Op>) -> TxnResponse {
    store.txn(Txn { success, ..Txn::default() }).await.unwrap()
}

async fn put(store: &dyn Store, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Revision {
    do_txn(store, vec![put_op(key, value)]).await.revision
}

async fn delete(store: &dyn Store, key: impl AsRef<[u8]>) -> (Revision, usize) {
    let response = do_txn(store, vec![delete_op(key)]).await;
    match &response.responses[0] {
        OpResponse::Delete { deleted, .. } => (response.revision, *deleted),
        other => panic!("not a deletion: {other:?}"),
    }
}

async fn range(store: &dyn Store, range: KeyRange, revision: Revision, limit: usize) -> RangeResponse {
    store.range(RangeRequest { revision, limit, ..RangeRequest::new(range) }).await.unwrap()
}

async fn get(store: &dyn Store, key: impl AsRef<[u8]>) -> Option<KeyValue> {
    let key = Bytes::copy_from_slice(key.as_ref());
    range(store, KeyRange::key(key), 0, 0).await.kvs.into_iter().next()
}

async fn get_at(store: &dyn Store, key: impl AsRef<[u8]>, revision: Revision) -> Option<KeyValue> {
    let key = Bytes::copy_from_slice(key.as_ref());
    range(store, KeyRange::key(key), revision, 0).await.kvs.into_iter().next()
}

async fn revision(store: &dyn Store) -> Revision {
    store.status().await.unwrap().revision
}

async fn watch(store: &dyn Store, prefix: &str, start_revision: Revision) -> Box<dyn Watch> {
    let range = KeyRange::prefix(prefix.to_owned());
    store.watch(WatchRequest { range, start_revision, prev_kv: false, progress: None }).await.unwrap()
}

/// The next revision with events; progress in between is passed over.
async fn next_commit(watch: &mut dyn Watch) -> (Revision, Arc<[Event]>) {
    loop {
        match within(watch.next()).await.unwrap() {
            WatchMessage::Events { revision, events } => return (revision, events),
            WatchMessage::Progress { .. } => {}
        }
    }
}

/// A single event as `+key=value@revision` or `-key@revision`.
fn told(event: &Event) -> String {
    let key = String::from_utf8_lossy(&event.kv.key);
    let value = String::from_utf8_lossy(&event.kv.value);
    match event.kind {
        EventKind::Put => format!("+{key}={value}@{}", event.kv.mod_revision),
        EventKind::Delete => format!("-{key}@{}", event.kv.mod_revision),
    }
}
