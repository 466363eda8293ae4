//! Between the port's types and the messages, both ways.

use bytes::Bytes;

use super::proto::{self, CompareResult, CompareTarget, request_op, response_op};
use crate::{
    Compare, Error, Event, EventKind, KeyRange, KeyValue, Op, OpResponse, Ordering, RangeRequest,
    RangeResponse, Result, Revision, Target, Txn, TxnResponse,
};

/// etcd writes "no upper bound" as a zero byte, and "this key alone" as nothing.
pub fn range_end(range: &KeyRange) -> Bytes {
    match &range.end {
        None => Bytes::new(),
        Some(end) if end.is_empty() => Bytes::from_static(&[0]),
        Some(end) => end.clone(),
    }
}

pub fn key_range(key: Bytes, end: Bytes) -> KeyRange {
    // "From the key on" with the key zero is everything.
    let start = if key[..] == [0] && !end.is_empty() { Bytes::new() } else { key };
    let end = match &end[..] {
        [] => None,
        [0] => Some(Bytes::new()),
        _ => Some(end),
    };
    KeyRange { start, end }
}

/// The first key of a range as etcd takes it: an empty one is written as a zero byte.
fn start_key(range: &KeyRange) -> Bytes {
    if range.start.is_empty() && range.end.is_some() { Bytes::from_static(&[0]) } else { range.start.clone() }
}

pub fn start_and_end(range: &KeyRange) -> (Bytes, Bytes) {
    (start_key(range), range_end(range))
}

impl From<KeyValue> for proto::KeyValue {
    fn from(kv: KeyValue) -> Self {
        let KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
        Self { key, create_revision, mod_revision, version, value, lease }
    }
}

impl From<proto::KeyValue> for KeyValue {
    fn from(kv: proto::KeyValue) -> Self {
        let proto::KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
        Self { key, value, create_revision, mod_revision, version, lease }
    }
}

impl From<proto::Event> for Event {
    fn from(event: proto::Event) -> Self {
        Self {
            kind: if event.kind == 0 { EventKind::Put } else { EventKind::Delete },
            kv: event.kv.unwrap_or_default().into(),
            prev_kv: event.prev_kv.map(Into::into),
        }
    }
}

impl From<Event> for proto::Event {
    fn from(event: Event) -> Self {
        let kind = match event.kind {
            EventKind::Put => 0,
            EventKind::Delete => 1,
        };
        Self { kind, kv: Some(event.kv.into()), prev_kv: event.prev_kv.map(Into::into) }
    }
}

impl From<RangeRequest> for proto::RangeRequest {
    fn from(request: RangeRequest) -> Self {
        let RangeRequest { range, revision, limit, keys_only, count_only } = request;
        let (key, range_end) = start_and_end(&range);
        Self { key, range_end, limit: limit as i64, revision, keys_only, count_only, ..Self::default() }
    }
}

impl From<proto::RangeResponse> for RangeResponse {
    fn from(response: proto::RangeResponse) -> Self {
        Self {
            revision: revision(&response.header),
            kvs: response.kvs.into_iter().map(Into::into).collect(),
            more: response.more,
            count: response.count as usize,
        }
    }
}

pub fn revision(header: &Option<proto::ResponseHeader>) -> Revision {
    header.as_ref().map_or(0, |h| h.revision)
}

impl From<Compare> for proto::Compare {
    fn from(compare: Compare) -> Self {
        use proto::compare::Union;
        let (target, union) = match compare.target {
            Target::Version(version) => (CompareTarget::Version, Union::Version(version)),
            Target::CreateRevision(revision) => (CompareTarget::Create, Union::CreateRevision(revision)),
            Target::ModRevision(revision) => (CompareTarget::Mod, Union::ModRevision(revision)),
            Target::Value(value) => (CompareTarget::Value, Union::Value(value)),
            Target::Lease(lease) => (CompareTarget::Lease, Union::Lease(lease)),
        };
        let result = match compare.ordering {
            Ordering::Equal => CompareResult::Equal,
            Ordering::NotEqual => CompareResult::NotEqual,
            Ordering::Less => CompareResult::Less,
            Ordering::Greater => CompareResult::Greater,
        };
        let (key, range_end) = start_and_end(&compare.range);
        Self { result: result as i32, target: target as i32, key, union: Some(union), range_end }
    }
}

impl TryFrom<proto::Compare> for Compare {
    type Error = &'static str;

    fn try_from(compare: proto::Compare) -> Result<Self, &'static str> {
        use proto::compare::Union;
        // What is not said is zero, as everywhere in these messages.
        let target = match (compare.target(), compare.union.clone()) {
            (CompareTarget::Version, None) => Target::Version(0),
            (CompareTarget::Version, Some(Union::Version(version))) => Target::Version(version),
            (CompareTarget::Create, None) => Target::CreateRevision(0),
            (CompareTarget::Create, Some(Union::CreateRevision(revision))) => {
                Target::CreateRevision(revision)
            }
            (CompareTarget::Mod, None) => Target::ModRevision(0),
            (CompareTarget::Mod, Some(Union::ModRevision(revision))) => Target::ModRevision(revision),
            (CompareTarget::Value, None) => Target::Value(Bytes::new()),
            (CompareTarget::Value, Some(Union::Value(value))) => Target::Value(value),
            (CompareTarget::Lease, None) => Target::Lease(0),
            (CompareTarget::Lease, Some(Union::Lease(lease))) => Target::Lease(lease),
            _ => return Err("the compare's target and value do not match"),
        };
        let ordering = match compare.result() {
            CompareResult::Equal => Ordering::Equal,
            CompareResult::NotEqual => Ordering::NotEqual,
            CompareResult::Less => Ordering::Less,
            CompareResult::Greater => Ordering::Greater,
        };
        Ok(Self { range: key_range(compare.key, compare.range_end), ordering, target })
    }
}

impl From<Op> for proto::RequestOp {
    fn from(op: Op) -> Self {
        use request_op::Request;
        let request = match op {
            Op::Put { key, value, lease, prev_kv } => {
                Request::Put(proto::PutRequest { key, value, lease, prev_kv, ..Default::default() })
            }
            Op::Delete { range, prev_kv } => {
                let (key, range_end) = start_and_end(&range);
                Request::DeleteRange(proto::DeleteRangeRequest { key, range_end, prev_kv })
            }
            Op::Range(request) => Request::Range(request.into()),
            Op::Txn(txn) => Request::Txn(txn.into()),
        };
        Self { request: Some(request) }
    }
}

impl From<Txn> for proto::TxnRequest {
    fn from(txn: Txn) -> Self {
        Self {
            compare: txn.compare.into_iter().map(Into::into).collect(),
            success: txn.success.into_iter().map(Into::into).collect(),
            failure: txn.failure.into_iter().map(Into::into).collect(),
        }
    }
}

/// An answer that does not fit its request.
fn strange() -> Error {
    Error::Other("the store's answer does not fit the request".into())
}

impl TryFrom<proto::ResponseOp> for OpResponse {
    type Error = Error;

    fn try_from(op: proto::ResponseOp) -> Result<Self> {
        use response_op::Response;
        Ok(match op.response.ok_or_else(strange)? {
            Response::Range(response) => Self::Range(response.into()),
            Response::Put(response) => Self::Put { prev_kv: response.prev_kv.map(Into::into) },
            Response::DeleteRange(response) => Self::Delete {
                deleted: response.deleted as usize,
                prev_kvs: response.prev_kvs.into_iter().map(Into::into).collect(),
            },
            Response::Txn(response) => Self::Txn(response.try_into()?),
        })
    }
}

impl TryFrom<proto::TxnResponse> for TxnResponse {
    type Error = Error;

    fn try_from(response: proto::TxnResponse) -> Result<Self> {
        Ok(Self {
            revision: revision(&response.header),
            succeeded: response.succeeded,
            responses: response.responses.into_iter().map(TryInto::try_into).collect::<Result<_>>()?,
        })
    }
}
