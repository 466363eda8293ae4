//! Range, Put, DeleteRange, Txn, Compact.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::{Face, refusal};
use crate::wire::convert::key_range;
use crate::wire::proto::{self, request_op, response_op};
use crate::{
    Compare, KeyRange, KeyValue, Op, OpResponse, Ordering, RangeRequest, RangeResponse, Revision, Target,
    Txn, TxnResponse,
};

/// What of a range the store does not do itself: order and filters.
#[derive(Clone, Copy, Default)]
struct Shape {
    order: i32,
    target: i32,
    modified: (i64, i64),
    created: (i64, i64),
    limit: usize,
    keys_only: bool,
    count_only: bool,
}

impl Shape {
    fn of(request: &proto::RangeRequest) -> Self {
        Self {
            order: request.sort_order,
            target: request.sort_target,
            modified: (request.min_mod_revision, request.max_mod_revision),
            created: (request.min_create_revision, request.max_create_revision),
            limit: request.limit.max(0) as usize,
            keys_only: request.keys_only,
            count_only: request.count_only,
        }
    }

    /// The store's own order and all of the range.
    fn plain(&self) -> bool {
        let sorted = self.order != 0 && (self.order == 2 || self.target != 0) || self.target != 0;
        !sorted && self.modified == (0, 0) && self.created == (0, 0)
    }

    fn apply(&self, response: &mut RangeResponse) {
        if self.plain() || self.count_only {
            return;
        }
        let within = |(min, max): (i64, i64), at: i64| (min == 0 || at >= min) && (max == 0 || at <= max);
        response
            .kvs
            .retain(|kv| within(self.modified, kv.mod_revision) && within(self.created, kv.create_revision));
        let descending = self.order == 2;
        // What is equal stays in the order of the keys, whichever way the rest goes.
        let mut sort = |by: fn(&KeyValue, &KeyValue) -> std::cmp::Ordering| {
            response.kvs.sort_by(|a, b| if descending { by(b, a) } else { by(a, b) });
        };
        match self.target {
            1 => sort(|a, b| a.version.cmp(&b.version)),
            2 => sort(|a, b| a.create_revision.cmp(&b.create_revision)),
            3 => sort(|a, b| a.mod_revision.cmp(&b.mod_revision)),
            4 => sort(|a, b| a.value.cmp(&b.value)),
            _ if descending => response.kvs.reverse(),
            _ => {}
        }
        response.more = self.limit > 0 && response.kvs.len() > self.limit;
        if response.more {
            response.kvs.truncate(self.limit);
        }
        if self.keys_only {
            response.kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
    }
}

fn range_request(request: proto::RangeRequest) -> Result<(RangeRequest, Shape), Status> {
    check_key(&request.key)?;
    if !(0..=2).contains(&request.sort_order) || !(0..=4).contains(&request.sort_target) {
        return Err(Status::invalid_argument("etcdserver: invalid sort option"));
    }
    let shape = Shape::of(&request);
    let plain = shape.plain();
    let keys_only = request.keys_only && (plain || shape.target != 4);
    let asked = RangeRequest {
        range: key_range(request.key, request.range_end),
        revision: request.revision,
        limit: if plain { shape.limit } else { 0 },
        keys_only,
        count_only: request.count_only,
    };
    Ok((asked, shape))
}

fn check_key(key: &[u8]) -> Result<(), Status> {
    if key.is_empty() {
        return Err(Status::invalid_argument("etcdserver: key is not provided"));
    }
    Ok(())
}

fn check_put(put: &proto::PutRequest) -> Result<(), Status> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Status::invalid_argument("etcdserver: value is provided"));
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Status::invalid_argument("etcdserver: lease is provided"));
    }
    Ok(())
}

/// Every put of a transaction, those of the transactions inside it too.
fn puts(
    request: &proto::TxnRequest,
    see: &mut impl FnMut(&proto::PutRequest) -> Result<(), Status>,
) -> Result<(), Status> {
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(request_op::Request::Put(put)) => see(put)?,
            Some(request_op::Request::Txn(inner)) => puts(inner, see)?,
            _ => {}
        }
    }
    Ok(())
}

fn fill_in(request: &mut proto::TxnRequest, fill: &impl Fn(&mut proto::PutRequest)) {
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(request_op::Request::Put(put)) => fill(put),
            Some(request_op::Request::Txn(inner)) => fill_in(inner, fill),
            _ => {}
        }
    }
}

/// What to do with the answers of a transaction, operation by operation.
enum Shapes {
    Range(Shape),
    Txn(Vec<Shapes>, Vec<Shapes>),
    Other,
}

fn op(request: proto::RequestOp, max_ops: usize) -> Result<(Op, Shapes), Status> {
    use request_op::Request;
    Ok(match request.request {
        Some(Request::Range(request)) => {
            let (request, shape) = range_request(request)?;
            (Op::Range(request), Shapes::Range(shape))
        }
        Some(Request::Put(put)) => {
            let proto::PutRequest { key, value, lease, prev_kv, .. } = put;
            (Op::Put { key, value, lease, prev_kv }, Shapes::Other)
        }
        Some(Request::DeleteRange(request)) => {
            check_key(&request.key)?;
            let range = key_range(request.key, request.range_end);
            (Op::Delete { range, prev_kv: request.prev_kv }, Shapes::Other)
        }
        Some(Request::Txn(request)) => {
            let (txn, success, failure) = txn(request, max_ops)?;
            (Op::Txn(txn), Shapes::Txn(success, failure))
        }
        None => return Err(Status::invalid_argument("etcdserver: an operation without a request")),
    })
}

fn txn(request: proto::TxnRequest, max_ops: usize) -> Result<(Txn, Vec<Shapes>, Vec<Shapes>), Status> {
    if [request.compare.len(), request.success.len(), request.failure.len()].into_iter().any(|n| n > max_ops)
    {
        return Err(Status::invalid_argument("etcdserver: too many operations in txn request"));
    }
    let compare = request.compare.into_iter().map(|compare| {
        check_key(&compare.key)?;
        Compare::try_from(compare).map_err(|text| Status::invalid_argument(format!("etcdserver: {text}")))
    });
    let compare = compare.collect::<Result<_, _>>()?;
    let ops = |ops: Vec<proto::RequestOp>| -> Result<(Vec<Op>, Vec<Shapes>), Status> {
        let ops = ops.into_iter().map(|request| op(request, max_ops)).collect::<Result<Vec<_>, _>>()?;
        Ok(ops.into_iter().unzip())
    };
    let (success, success_shapes) = ops(request.success)?;
    let (failure, failure_shapes) = ops(request.failure)?;
    Ok((Txn { compare, success, failure }, success_shapes, failure_shapes))
}

impl Face {
    fn range_response(&self, response: RangeResponse) -> proto::RangeResponse {
        proto::RangeResponse {
            header: self.header(response.revision),
            kvs: response.kvs.into_iter().map(Into::into).collect(),
            more: response.more,
            count: response.count as i64,
        }
    }

    fn op_response(&self, response: OpResponse, shapes: &Shapes, revision: Revision) -> proto::ResponseOp {
        use response_op::Response;
        let header = self.header(revision);
        let response = match (response, shapes) {
            (OpResponse::Put { prev_kv }, _) => {
                Response::Put(proto::PutResponse { header, prev_kv: prev_kv.map(Into::into) })
            }
            (OpResponse::Delete { deleted, prev_kvs }, _) => {
                Response::DeleteRange(proto::DeleteRangeResponse {
                    header,
                    deleted: deleted as i64,
                    prev_kvs: prev_kvs.into_iter().map(Into::into).collect(),
                })
            }
            (OpResponse::Range(mut found), shapes) => {
                if let Shapes::Range(shape) = shapes {
                    shape.apply(&mut found);
                }
                Response::Range(self.range_response(found))
            }
            (OpResponse::Txn(response), Shapes::Txn(success, failure)) => {
                Response::Txn(self.txn_response(response, success, failure))
            }
            (OpResponse::Txn(response), _) => Response::Txn(self.txn_response(response, &[], &[])),
        };
        proto::ResponseOp { response: Some(response) }
    }

    fn txn_response(
        &self,
        response: TxnResponse,
        success: &[Shapes],
        failure: &[Shapes],
    ) -> proto::TxnResponse {
        let TxnResponse { revision, succeeded, responses } = response;
        let shapes = if succeeded { success } else { failure };
        let shape = |i: usize| shapes.get(i).unwrap_or(&Shapes::Other);
        let responses = responses.into_iter().enumerate();
        proto::TxnResponse {
            header: self.header(revision),
            succeeded,
            responses: responses
                .map(|(i, response)| self.op_response(response, shape(i), revision))
                .collect(),
        }
    }

    pub(super) async fn range(&self, request: proto::RangeRequest) -> Result<proto::RangeResponse, Status> {
        let (request, shape) = range_request(request)?;
        let mut found = self.store.range(request).await.map_err(refusal)?;
        shape.apply(&mut found);
        Ok(self.range_response(found))
    }

    pub(super) async fn txn(&self, request: proto::TxnRequest) -> Result<proto::TxnResponse, Status> {
        self.check_size(&request)?;
        let mut keeping = Vec::new();
        puts(&request, &mut |put| {
            check_put(put)?;
            keeping.extend((put.ignore_value || put.ignore_lease).then(|| put.key.clone()));
            Ok(())
        })?;
        if keeping.is_empty() {
            let (txn, success, failure) = txn(request, self.options.max_txn_ops)?;
            let response = self.store.txn(txn).await.map_err(refusal)?;
            return Ok(self.txn_response(response, &success, &failure));
        }
        loop {
            let (guards, request) = self.kept(&keeping, request.clone()).await?;
            let (txn, success, failure) = txn(request, self.options.max_txn_ops)?;
            let guarded = Txn { compare: guards, success: vec![Op::Txn(txn)], failure: Vec::new() };
            let response = self.store.txn(guarded).await.map_err(refusal)?;
            let revision = response.revision;
            // Otherwise somebody wrote one of the keys between the two: again.
            if let Some(OpResponse::Txn(response)) = response.responses.into_iter().next() {
                return Ok(self.txn_response(TxnResponse { revision, ..response }, &success, &failure));
            }
        }
    }

    /// The request with what its puts keep of these keys filled in, and what must hold for that to be right. All of them
    /// must exist, those in a branch that is not taken too: which one it is nobody knows yet.
    async fn kept(
        &self,
        keys: &[Bytes],
        mut request: proto::TxnRequest,
    ) -> Result<(Vec<Compare>, proto::TxnRequest), Status> {
        let (mut guards, mut found) = (Vec::new(), HashMap::new());
        for key in keys {
            let range = KeyRange::key(key.clone());
            let read = self.store.range(RangeRequest::new(range.clone())).await.map_err(refusal)?;
            let missing = || Status::invalid_argument("etcdserver: key not found");
            let kv = read.kvs.into_iter().next().ok_or_else(missing)?;
            let target = Target::ModRevision(kv.mod_revision);
            guards.push(Compare { range, ordering: Ordering::Equal, target });
            found.insert(key, kv);
        }
        fill_in(&mut request, &|put| {
            let Some(kv) = found.get(&put.key) else { return };
            if std::mem::take(&mut put.ignore_value) {
                put.value = kv.value.clone();
            }
            if std::mem::take(&mut put.ignore_lease) {
                put.lease = kv.lease;
            }
        });
        Ok((guards, request))
    }

    fn check_size(&self, request: &impl Message) -> Result<(), Status> {
        if request.encoded_len() > self.options.max_request_bytes {
            return Err(Status::invalid_argument("etcdserver: request is too large"));
        }
        Ok(())
    }

    pub(super) async fn put(&self, request: proto::PutRequest) -> Result<proto::PutResponse, Status> {
        check_put(&request)?;
        self.check_size(&request)?;
        if request.ignore_value || request.ignore_lease {
            let op = proto::RequestOp { request: Some(request_op::Request::Put(request)) };
            let txn = proto::TxnRequest { success: vec![op], ..Default::default() };
            // Rare and large, so not a part of every put's own state.
            let response = Box::pin(self.txn(txn)).await?;
            let answer = response.responses.into_iter().next().and_then(|op| op.response);
            return match answer {
                Some(response_op::Response::Put(put)) => Ok(put),
                _ => Err(Status::internal("etcdserver: a put was not answered")),
            };
        }
        let proto::PutRequest { key, value, lease, prev_kv, .. } = request;
        let success = vec![Op::Put { key, value, lease, prev_kv }];
        let response = self.store.txn(Txn { success, ..Txn::default() }).await.map_err(refusal)?;
        let prev_kv = match response.responses.into_iter().next() {
            Some(OpResponse::Put { prev_kv }) => prev_kv.map(Into::into),
            _ => None,
        };
        Ok(proto::PutResponse { header: self.header(response.revision), prev_kv })
    }

    pub(super) async fn delete_range(
        &self,
        request: proto::DeleteRangeRequest,
    ) -> Result<proto::DeleteRangeResponse, Status> {
        check_key(&request.key)?;
        self.check_size(&request)?;
        let op = Op::Delete { range: key_range(request.key, request.range_end), prev_kv: request.prev_kv };
        let response = self.store.txn(Txn { success: vec![op], ..Txn::default() }).await.map_err(refusal)?;
        let (deleted, prev_kvs) = match response.responses.into_iter().next() {
            Some(OpResponse::Delete { deleted, prev_kvs }) => (deleted, prev_kvs),
            _ => (0, Vec::new()),
        };
        Ok(proto::DeleteRangeResponse {
            header: self.header(response.revision),
            deleted: deleted as i64,
            prev_kvs: prev_kvs.into_iter().map(Into::into).collect(),
        })
    }

    pub(super) async fn compact(
        &self,
        request: proto::CompactionRequest,
    ) -> Result<proto::HeaderResponse, Status> {
        self.store.compact(request.revision).await.map_err(refusal)?;
        Ok(proto::HeaderResponse { header: self.current().await? })
    }
}
