//! The same requests to etcd and to the face: answers, codes and words are the same.

use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use store::embedded::{self, Options};
use store::wire::proto::{
    CompactionRequest, Compare, DeleteRangeRequest, HeaderResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseIdRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
    compare, request_op::Request, response_op::Response, watch_request,
};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::cluster::{Cluster, available};
use super::face::served;

/// An etcd and a face, both new.
struct Both([Channel; 2]);

/// What is no part of the answer: who gives it.
trait Answer: Message + Default + std::fmt::Debug + 'static {
    fn strip(&mut self) {}
}

macro_rules! answers {
    ($($kind:ty),*) => {$(impl Answer for $kind {
        fn strip(&mut self) {
            if let Some(header) = &mut self.header {
                (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
            }
        }
    })*};
}

answers!(
    HeaderResponse,
    LeaseGrantResponse,
    LeaseTimeToLiveResponse,
    PutResponse,
    RangeResponse,
    WatchResponse
);

impl Answer for TxnResponse {
    fn strip(&mut self) {
        if let Some(header) = &mut self.header {
            (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
        }
        // Etcd gives what is inside a header with nothing but a revision, or none.
        for op in &mut self.responses {
            match &mut op.response {
                Some(Response::Range(inner)) => inner.header = None,
                Some(Response::Put(inner)) => inner.header = None,
                Some(Response::DeleteRange(inner)) => inner.header = None,
                Some(Response::Txn(inner)) => {
                    inner.strip();
                    inner.header = None;
                }
                None => {}
            }
        }
    }
}

impl Both {
    /// Asks both, and gives what they agree on: the answer, or the code and the message.
    async fn same<A: Answer>(
        &self,
        path: &'static str,
        request: impl Message + Clone + std::fmt::Debug + 'static,
    ) -> Result<A, String> {
        let mut told = Vec::new();
        for channel in &self.0 {
            let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX);
            grpc.ready().await.unwrap();
            let codec = ProstCodec::<_, A>::default();
            let asked = tonic::Request::new(request.clone());
            let answer = grpc.unary(asked, PathAndQuery::from_static(path), codec).await;
            told.push(match answer {
                Ok(answer) => {
                    let mut answer = answer.into_inner();
                    answer.strip();
                    Ok(answer)
                }
                Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
            });
        }
        let [etcd, ours] = &told[..] else { unreachable!() };
        let asked = format!("{request:?}");
        assert_eq!(format!("{ours:?}"), format!("{etcd:?}"), "{path} {}", &asked[..asked.len().min(500)]);
        told.swap_remove(0)
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, String> {
        self.same("/etcdserverpb.KV/Put", request).await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, String> {
        self.same("/etcdserverpb.KV/Range", request).await
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, String> {
        self.same("/etcdserverpb.KV/Txn", request).await
    }

    async fn compact(&self, revision: i64) -> Result<HeaderResponse, String> {
        self.same("/etcdserverpb.KV/Compact", CompactionRequest { revision, physical: true }).await
    }

    async fn grant(&self, id: i64, ttl: i64) -> Result<LeaseGrantResponse, String> {
        self.same("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { id, ttl }).await
    }

    async fn revoke(&self, id: i64) -> Result<HeaderResponse, String> {
        self.same("/etcdserverpb.Lease/LeaseRevoke", LeaseIdRequest { id }).await
    }

    async fn watch(&self, create: WatchCreateRequest, answers: usize) -> Vec<WatchResponse> {
        let mut told = Vec::new();
        for channel in &self.0 {
            let mut grpc = Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let request = WatchRequest { request: Some(watch_request::Request::Create(create.clone())) };
            let requests = futures_util::StreamExt::chain(
                futures_util::stream::iter([request]),
                futures_util::stream::pending(),
            );
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
            let mut stream =
                grpc.streaming(tonic::Request::new(requests), path, codec).await.unwrap().into_inner();
            let mut all = Vec::new();
            for _ in 0..answers {
                let next = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
                let mut answer = next.expect("an answer").unwrap().unwrap();
                answer.strip();
                if answer.canceled {
                    // What clients go by is the revision that was compacted.
                    (answer.header, answer.cancel_reason) = (None, String::new());
                }
                all.push(answer);
            }
            told.push(all);
        }
        let ours = told.pop().unwrap();
        assert_eq!(ours, told[0], "{create:?}");
        ours
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    op(Request::Put(put(key, value)))
}

fn get(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() }
}

async fn both() -> Option<(Both, impl Sized)> {
    if !available("etcd") {
        return None;
    }
    let cluster = Cluster::start(1);
    cluster.connect().await;
    let dir = tempfile::tempdir().unwrap();
    let (address, guard) = served(embedded::open(dir.path(), Options::default()).unwrap()).await;
    let channel = |address: String| Endpoint::from_shared(address).unwrap().connect_lazy();
    let etcd = channel(cluster.endpoints().remove(0));
    Some((Both([etcd, channel(address)]), (cluster, dir, guard)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ranges() {
    let Some((both, _kept)) = both().await else { return };
    for (key, value) in [("k/b", "3"), ("k/a", "9"), ("k/c", "1"), ("k/a", "2"), ("l", "0"), ("k/d", "5")] {
        both.put(put(key, value)).await.unwrap();
    }
    for sort_order in 0..=2 {
        for sort_target in 0..=4 {
            for (min, max) in [(0, 0), (3, 0), (0, 5), (4, 5)] {
                // With a limit and an order by something that is not said, etcd sorts what the limit left.
                for limit in if sort_order == 0 { vec![0] } else { vec![0, 1, 3, 4, 9] } {
                    let request = RangeRequest {
                        limit,
                        sort_order,
                        sort_target,
                        min_mod_revision: min,
                        max_mod_revision: max,
                        ..get("k/", "k0")
                    };
                    both.range(request.clone()).await.unwrap();
                    both.range(RangeRequest { keys_only: true, ..request.clone() }).await.unwrap();
                    both.range(RangeRequest { count_only: true, ..request.clone() }).await.unwrap();
                    let created = RangeRequest {
                        min_mod_revision: 0,
                        max_mod_revision: 0,
                        min_create_revision: min,
                        max_create_revision: max,
                        ..request
                    };
                    both.range(created).await.unwrap();
                }
            }
        }
    }
    for limit in [0, 1, 4, 5] {
        both.range(RangeRequest { limit, ..get("k/", "k0") }).await.unwrap();
        both.range(RangeRequest { limit, revision: 3, ..get("k", "\0") }).await.unwrap();
        both.range(RangeRequest { limit, count_only: true, ..get("\0", "\0") }).await.unwrap();
    }
    both.range(get("k0", "k/")).await.unwrap();
    for bad in [get("", ""), RangeRequest { revision: 99, ..get("k/", "k0") }] {
        both.range(bad).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_puts_and_transactions() {
    let Some((both, _kept)) = both().await else { return };
    both.grant(7, 300).await.unwrap();
    both.put(PutRequest { lease: 7, ..put("a", "1") }).await.unwrap();
    both.put(PutRequest { prev_kv: true, ..put("a", "2") }).await.unwrap();
    both.put(PutRequest { lease: 7, ..put("a", "3") }).await.unwrap();
    both.put(PutRequest { ignore_lease: true, ..put("a", "4") }).await.unwrap();
    both.put(PutRequest { ignore_value: true, prev_kv: true, ..put("a", "") }).await.unwrap();
    both.range(get("a", "")).await.unwrap();
    for bad in [
        put("", "x"),
        PutRequest { lease: 99, ..put("a", "x") },
        PutRequest { ignore_value: true, ..put("a", "x") },
        PutRequest { ignore_lease: true, lease: 7, ..put("a", "x") },
        PutRequest { ignore_value: true, ..put("missing", "") },
        PutRequest { ignore_lease: true, ..put("missing", "x") },
        put("a", &"x".repeat(1_600_000)),
        put("a", &"x".repeat(3_000_000)),
    ] {
        both.put(bad).await.unwrap_err();
    }
    both.put(put("large", &"x".repeat(1_500_000))).await.unwrap();
    both.range(get("large", "")).await.unwrap();

    let equal = |key: &str, version: i64| Compare {
        key: key.to_owned().into(),
        union: Some(compare::Union::Version(version)),
        ..Default::default()
    };
    let keeps = |key: &str| op(Request::Put(PutRequest { ignore_value: true, ..put(key, "") }));
    let delete = |key: &str, end: &str| {
        op(Request::DeleteRange(DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            prev_kv: true,
        }))
    };
    let many = |n: usize| (0..n).map(|i| put_op(&format!("m/{i}"), "x")).collect::<Vec<_>>();
    let inner = |success: Vec<RequestOp>| op(Request::Txn(TxnRequest { success, ..Default::default() }));
    for (compare, success) in [
        (vec![], vec![]),
        (vec![equal("a", 5)], vec![put_op("b", "1"), op(Request::Range(get("b", "")))]),
        (vec![equal("missing", 0)], many(128)),
        (vec![], vec![keeps("a"), put_op("c", "1"), op(Request::Range(get("a", "")))]),
        (vec![], vec![inner(vec![keeps("a")]), put_op("c", "2")]),
        (vec![equal("a", 1)], vec![put_op("never", "1")]),
        (vec![], vec![delete("m/", "m0"), put_op("d", "1")]),
        (vec![], vec![delete("x", ""), delete("x", "z")]),
    ] {
        let failure = vec![op(Request::Range(get("a", "c")))];
        both.txn(TxnRequest { compare, success, failure }).await.unwrap();
    }
    for (compare, success) in [
        (vec![], many(129)),
        ((0..129).map(|_| equal("a", 1)).collect(), vec![]),
        (vec![], vec![inner(many(129))]),
        (vec![], vec![put_op("a", "1"), put_op("a", "2")]),
        (vec![], vec![put_op("a", "1"), delete("a", "b")]),
        (vec![], vec![put_op("a", "1"), inner(vec![put_op("a", "2")])]),
        (vec![], vec![put_op("", "1")]),
        (vec![equal("", 1)], vec![]),
        (vec![], vec![keeps("missing")]),
        (vec![], vec![op(Request::Put(PutRequest { lease: 99, ..put("a", "1") }))]),
        (vec![], vec![put_op("z", "1"), op(Request::Range(RangeRequest { revision: 9999, ..get("a", "") }))]),
        (vec![], vec![put_op("z", &"x".repeat(800_000)), put_op("y", &"x".repeat(800_000))]),
    ] {
        both.txn(TxnRequest { compare, success, failure: Vec::new() }).await.unwrap_err();
    }
    // Nothing of these has been written.
    both.range(RangeRequest { keys_only: true, ..get("\0", "\0") }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_compaction_leases_and_watches() {
    let Some((both, _kept)) = both().await else { return };
    for i in 0..6 {
        both.put(put("a", &i.to_string())).await.unwrap();
    }
    both.compact(99).await.unwrap_err();
    both.compact(4).await.unwrap();
    both.compact(4).await.unwrap_err();
    both.compact(3).await.unwrap_err();
    both.range(RangeRequest { revision: 3, ..get("a", "") }).await.unwrap_err();
    both.range(RangeRequest { revision: 4, ..get("a", "") }).await.unwrap();

    both.grant(5, 100).await.unwrap();
    both.grant(5, 100).await.unwrap_err();
    both.grant(6, 9_000_000_001).await.unwrap_err();
    both.put(PutRequest { lease: 5, ..put("leased", "x") }).await.unwrap();
    both.revoke(6).await.unwrap_err();
    both.revoke(5).await.unwrap();
    both.range(get("leased", "")).await.unwrap();
    let ask = LeaseTimeToLiveRequest { id: 5, keys: true };
    let gone: LeaseTimeToLiveResponse = both.same("/etcdserverpb.Lease/LeaseTimeToLive", ask).await.unwrap();
    assert_eq!(gone.ttl, -1);

    let watch = |start_revision: i64| WatchCreateRequest {
        key: "a".into(),
        range_end: "z".into(),
        start_revision,
        ..Default::default()
    };
    let below = both.watch(watch(2), 2).await;
    assert!(below[0].created && below[1].canceled && below[1].compact_revision == 4);
    let none = WatchCreateRequest { watch_id: 12, ..watch(0) };
    assert!(both.watch(none, 1).await[0].created);
    let deleted = WatchCreateRequest { filters: vec![0], prev_kv: true, ..watch(6) };
    assert_eq!(both.watch(deleted, 2).await[1].events.len(), 1);

    // One revision that is too large for one message.
    for i in 0..4 {
        both.put(put(&format!("big/{i}"), &"x".repeat(1_200_000))).await.unwrap();
    }
    let deletion = DeleteRangeRequest { key: "big/".into(), range_end: "big0".into(), prev_kv: false };
    let success = vec![op(Request::DeleteRange(deletion))];
    let revision =
        both.txn(TxnRequest { success, ..Default::default() }).await.unwrap().header.unwrap().revision;
    let create = WatchCreateRequest { fragment: true, prev_kv: true, start_revision: revision, ..watch(0) };
    let parts = both.watch(WatchCreateRequest { start_revision: revision, ..create }, 5).await;
    assert!(parts[1].fragment && !parts[4].fragment && parts[1..].iter().all(|part| part.events.len() == 1));
}
