use std::time::Duration;

use http::Method;
use machinery::{Value, json};

use super::*;

fn level(name: &str, shares: i64, response: Value) -> Value {
    json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": {"type": "Limited",
        "limited": {"nominalConcurrencyShares": shares, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": response}}})
}

fn schema(name: &str, precedence: i64, level: &str, user: &str) -> Value {
    json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": {
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                "clusterScope": true}]}]}})
}

async fn enter(flow: &Flow, user: &str, patience: Duration) -> Result<Entered, Rejected> {
    let query = Query::default();
    let info = RequestInfo::new(&Method::GET, "/api/v1/pods", &query);
    let user = User::new(user, &[]);
    let digest = Digest { info: &info, user: &user, query: &query };
    flow.enter(digest, patience, || None, || 0).await
}

fn make(fair: bool, each: usize) -> Flow {
    Flow::new(fair, each, each, Arc::default())
}

fn uids(matched: &Option<(HeaderValue, HeaderValue)>) -> (&str, &str) {
    let (schema, level) = matched.as_ref().unwrap();
    (schema.to_str().unwrap(), level.to_str().unwrap())
}

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn rejects_queues_and_lets_in() {
    let flow = make(true, 10);
    let queue = json!({"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}});
    let levels = [level("strict", 0, json!({"type": "Reject"})), level("queued", 1, queue)];
    let schemas = [
        schema("a", 10, "strict", "ann"),
        schema("b", 20, "queued", "bob"),
        schema("c", 5, "nowhere", "ann"),
    ];
    let references = flow.configure(&levels, &schemas);
    assert_eq!(references.iter().map(|r| r.found).collect::<Vec<_>>(), [true, true, false]);
    // without seats there is room for one at a time
    let first = enter(&flow, "ann", SHORT).await.ok().unwrap();
    assert_eq!(uids(&first.matched), ("a-uid", "strict-uid"));
    let refused = enter(&flow, "ann", SHORT).await.err().unwrap();
    assert_eq!((uids(&refused.matched), refused.retry_after), (("a-uid", "strict-uid"), 1));
    drop(first);
    assert!(enter(&flow, "ann", SHORT).await.is_ok());
    // shares 1 of 6 (catch-all has 5) of 20 seats: 4, one waits, one is too many
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(enter(&flow, "bob", SHORT).await.ok().unwrap());
    }
    assert_eq!(flow.running().reading, 4);
    let mut waiting = std::pin::pin!(enter(&flow, "bob", LONG));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    assert_eq!(flow.running().reading_waiting, 1);
    assert!(enter(&flow, "bob", LONG).await.is_err(), "the queue is full");
    held.pop();
    held.push(waiting.await.ok().unwrap());
    // patience ends
    assert!(enter(&flow, "bob", SHORT).await.is_err());
    assert_eq!(flow.running().reading_waiting, 0);
    // who gives up leaves nothing behind
    {
        let mut waiting = std::pin::pin!(enter(&flow, "bob", LONG));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    }
    held.clear();
    assert!(enter(&flow, "bob", SHORT).await.is_ok());
    assert_eq!(flow.running(), Running::default());
    let page = dump(&flow, "dump_priority_levels", &Query::default()).is_some();
    assert!(page && dump(&flow, "dump_nothing", &Query::default()).is_none());
}

#[tokio::test]
async fn everybody_is_caught_and_masters_are_exempt() {
    let flow = make(true, 1);
    let caught = enter(&flow, "x", SHORT).await.ok().unwrap();
    assert_eq!(uids(&caught.matched), ("", ""), "the mandatory objects hold before there are any");
    let state = flow.state().unwrap();
    let info = RequestInfo::new(&Method::GET, "/version", &Query::default());
    let name = |user: &User| state.bound(state.classify(&info, user)).schema.name.to_string();
    assert_eq!(name(&User::new("root", &[MASTERS])), "exempt");
    assert_eq!(name(&User::anonymous()), "catch-all");
    // switched off: plain limits
    let flow = make(false, 1);
    let one = enter(&flow, "x", SHORT).await.ok().unwrap();
    assert!(one.matched.is_none());
    assert!(enter(&flow, "x", SHORT).await.is_err());
    drop(one);
    assert!(enter(&flow, "x", SHORT).await.is_ok());
}

/// A level whose object is gone serves out its requests.
#[tokio::test]
async fn levels_come_and_go() {
    let flow = make(true, 10);
    flow.configure(&[level("l", 5, json!({"type": "Reject"}))], &[schema("s", 10, "l", "ann")]);
    let one = enter(&flow, "ann", SHORT).await.ok().unwrap();
    flow.configure(&[], &[schema("s", 10, "l", "ann")]);
    assert!(flow.state().unwrap().levels.contains_key("l"));
    assert_eq!(uids(&enter(&flow, "ann", SHORT).await.ok().unwrap().matched), ("", ""));
    drop(one);
    flow.configure(&[], &[]);
    assert!(!flow.state().unwrap().levels.contains_key("l"));
}
