//! Transactions.

use super::*;
use crate::{Error, write};

async fn succeeds(store: &dyn Store, compares: Vec<Compare>) -> bool {
    store.txn(Txn { compare: compares, ..Txn::default() }).await.unwrap().succeeded
}

pub async fn compare_each_target(store: Arc<dyn Store>) {
    use Ordering::{Equal, Greater, Less, NotEqual};
    put(&*store, "ct", "b").await;
    put(&*store, "ct", "m").await;
    let kv = get(&*store, "ct").await.unwrap();
    let table = [
        (Target::CreateRevision(kv.create_revision), Equal, true),
        (Target::CreateRevision(kv.create_revision), NotEqual, false),
        (Target::CreateRevision(kv.mod_revision), Less, true),
        (Target::ModRevision(kv.mod_revision), Equal, true),
        (Target::ModRevision(kv.create_revision), Greater, true),
        (Target::ModRevision(kv.create_revision), Less, false),
        (Target::Version(2), Equal, true),
        (Target::Version(1), Greater, true),
        (Target::Version(3), Less, true),
        (Target::Value("m".into()), Equal, true),
        (Target::Value("a".into()), Greater, true),
        (Target::Value("z".into()), Greater, false),
        (Target::Lease(0), Equal, true),
        (Target::Lease(7), NotEqual, true),
    ];
    for (target, ordering, wanted) in table {
        let label = format!("{target:?} {ordering:?}");
        assert_eq!(succeeds(&*store, vec![compare("ct", ordering, target)]).await, wanted, "{label}");
    }
    let both = |second| {
        vec![compare("ct", Equal, Target::Version(2)), compare("ct", Equal, Target::Version(second))]
    };
    assert!(succeeds(&*store, both(2)).await);
    assert!(!succeeds(&*store, both(3)).await, "all must hold");
    assert!(succeeds(&*store, vec![]).await, "nothing to hold");
}

pub async fn missing_key_counts_as_zero(store: Arc<dyn Store>) {
    use Ordering::{Equal, Greater, NotEqual};
    assert!(succeeds(&*store, vec![compare("mk", Equal, Target::ModRevision(0))]).await);
    assert!(succeeds(&*store, vec![compare("mk", Equal, Target::CreateRevision(0))]).await);
    assert!(succeeds(&*store, vec![compare("mk", Equal, Target::Version(0))]).await);
    assert!(!succeeds(&*store, vec![compare("mk", Greater, Target::Version(0))]).await);
    assert!(!succeeds(&*store, vec![compare("mk", Equal, Target::Value("".into()))]).await);
    assert!(
        !succeeds(&*store, vec![compare("mk", NotEqual, Target::Value("x".into()))]).await,
        "no value at all"
    );
    put(&*store, "mk", "").await;
    delete(&*store, "mk").await;
    assert!(
        succeeds(&*store, vec![compare("mk", Equal, Target::ModRevision(0))]).await,
        "deleted is missing"
    );
}

pub async fn compare_over_a_range(store: Arc<dyn Store>) {
    let first = put(&*store, "cr/a", "").await;
    put(&*store, "cr/b", "").await;
    let over = |ordering, target| vec![Compare { range: KeyRange::prefix("cr/"), ordering, target }];
    assert!(succeeds(&*store, over(Ordering::Equal, Target::Version(1))).await);
    assert!(!succeeds(&*store, over(Ordering::Equal, Target::ModRevision(first))).await, "every key must");
    put(&*store, "cr/b", "").await;
    assert!(!succeeds(&*store, over(Ordering::Equal, Target::Version(1))).await);
}

pub async fn one_revision_for_all(store: Arc<dyn Store>) {
    put(&*store, "or/gone", "").await;
    let before = revision(&*store).await;
    let ops = vec![put_op("or/a", "1"), put_op("or/b", "2"), delete_op("or/gone")];
    let done = do_txn(&*store, ops).await;
    assert!(done.succeeded);
    assert_eq!(done.revision, before + 1);
    for key in ["or/a", "or/b"] {
        assert_eq!(get(&*store, key).await.unwrap().mod_revision, before + 1);
    }
    assert_eq!(range(&*store, KeyRange::prefix("or/"), before, 0).await.count, 1, "before: only what was");
}

pub async fn reads_its_own_writes(store: Arc<dyn Store>) {
    let before = put(&*store, "ow/a", "old").await;
    let done = do_txn(&*store, vec![get_op("ow/a"), put_op("ow/a", "new"), get_op("ow/a")]).await;
    let value = |response: &OpResponse| match response {
        OpResponse::Range(found) => (found.kvs[0].value.clone(), found.kvs[0].mod_revision),
        other => panic!("{other:?}"),
    };
    assert_eq!(value(&done.responses[0]), ("old".into(), before));
    assert_eq!(value(&done.responses[2]), ("new".into(), before + 1));
}

pub async fn duplicate_keys_are_refused(store: Arc<dyn Store>) {
    let before = put(&*store, "dk", "").await;
    let inner = |success, failure| Op::Txn(Txn { compare: vec![], success, failure });
    let refused: Vec<Vec<Op>> = vec![
        vec![put_op("dk/a", "1"), put_op("dk/a", "2")],
        vec![put_op("dk/a", "1"), delete_op("dk/a")],
        vec![delete_op("dk/a"), put_op("dk/a", "1")],
        vec![put_op("dk/a", "1"), inner(vec![put_op("dk/a", "2")], vec![])],
        vec![put_op("dk/a", "1"), inner(vec![], vec![put_op("dk/a", "2")])],
    ];
    for ops in refused {
        let label = format!("{ops:?}");
        let answer = store.txn(Txn { success: ops, ..Txn::default() }).await;
        assert!(matches!(answer, Err(Error::DuplicateKey)), "{label}: {answer:?}");
    }
    assert_eq!(revision(&*store).await, before);
    let exclusive = inner(vec![put_op("dk/a", "1")], vec![put_op("dk/a", "2")]);
    do_txn(&*store, vec![exclusive]).await;
    assert_eq!(get(&*store, "dk/a").await.unwrap().value, "1");
}

pub async fn inner_transactions(store: Arc<dyn Store>) {
    let before = put(&*store, "in/a", "1").await;
    let inner = Txn {
        compare: vec![compare("in/a", Ordering::Equal, Target::Value("1".into()))],
        success: vec![put_op("in/yes", "")],
        failure: vec![put_op("in/no", "")],
    };
    // The inner compare is decided before the outer put.
    let done = do_txn(&*store, vec![put_op("in/a", "2"), Op::Txn(inner)]).await;
    let OpResponse::Txn(answer) = &done.responses[1] else { panic!("{done:?}") };
    assert!(answer.succeeded);
    assert_eq!(get(&*store, "in/yes").await.unwrap().mod_revision, before + 1);
    assert_eq!(get(&*store, "in/no").await, None);
}

pub async fn failed_txn_changes_nothing(store: Arc<dyn Store>) {
    let before = put(&*store, "ft/a", "1").await;
    let ops = vec![
        put_op("ft/a", "2"),
        put_op("ft/b", "2"),
        Op::Range(RangeRequest { revision: before + 100, ..RangeRequest::new(KeyRange::key("ft/a")) }),
    ];
    let refused = store.txn(Txn { success: ops, ..Txn::default() }).await;
    assert!(matches!(refused, Err(Error::FutureRevision { .. })), "{refused:?}");
    assert_eq!(get(&*store, "ft/a").await.unwrap().value, "1");
    assert_eq!(get(&*store, "ft/b").await, None);
    assert_eq!(put(&*store, "ft/c", "").await, before + 1);
}

pub async fn read_only_is_no_commit(store: Arc<dyn Store>) {
    let before = put(&*store, "ro", "1").await;
    let done = do_txn(&*store, vec![get_op("ro")]).await;
    assert_eq!(done.revision, before);
    let compare = vec![compare("ro", Ordering::Equal, Target::Version(9))];
    let done = store.txn(Txn { compare, success: vec![], failure: vec![get_op("ro")] }).await.unwrap();
    assert!(!done.succeeded);
    assert_eq!(done.responses.len(), 1);
    assert_eq!(revision(&*store).await, before);
}

pub async fn conditional_writes(store: Arc<dyn Store>) {
    use write::Outcome::{Conflict, Done};
    let key = Bytes::from("cw/a");
    let Done { revision: created, .. } = write::create(&*store, key.clone(), "1".into(), 0).await.unwrap()
    else {
        panic!("creation of a fresh key")
    };
    match write::create(&*store, key.clone(), "2".into(), 0).await.unwrap() {
        Conflict { current: Some(kv), .. } => {
            assert_eq!((&kv.value[..], kv.mod_revision), (&b"1"[..], created))
        }
        other => panic!("{other:?}"),
    }
    let Done { revision: updated, .. } =
        write::update(&*store, key.clone(), "2".into(), 0, created).await.unwrap()
    else {
        panic!("update at the right revision")
    };
    assert_eq!(updated, created + 1);
    assert!(matches!(
        write::update(&*store, key.clone(), "3".into(), 0, created).await.unwrap(),
        Conflict { .. }
    ));
    assert!(matches!(write::delete(&*store, key.clone(), created).await.unwrap(), Conflict { .. }));
    match write::delete(&*store, key.clone(), updated).await.unwrap() {
        Done { prev: Some(prev), .. } => assert_eq!(prev.value, "2"),
        other => panic!("{other:?}"),
    }
    match write::update(&*store, key, "3".into(), 0, updated).await.unwrap() {
        Conflict { current: None, .. } => {}
        other => panic!("{other:?}"),
    }
}

pub async fn unknown_lease_is_refused(store: Arc<dyn Store>) {
    let put = Op::Put { key: "ul".into(), value: "".into(), lease: 987_654_321, prev_kv: false };
    let refused = store.txn(Txn { success: vec![put], ..Txn::default() }).await;
    assert!(matches!(refused, Err(Error::LeaseNotFound)), "{refused:?}");
    assert_eq!(get(&*store, "ul").await, None);
}
