//! Transactions over the index: choose branches, check, apply; all or nothing.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::read::{fetch, find};
use super::{Index, Version, Write};
use crate::{
    Compare, Error, Event, EventKind, KeyRange, LeaseId, Op, OpResponse, Ordering, RangeRequest, Result,
    Target, Txn, TxnResponse,
};

/// A transaction that is in the index. `events` is empty if it changed nothing.
pub(crate) struct Applied {
    pub response: TxnResponse,
    pub events: Vec<Event>,
}

/// The branch a transaction takes, with those of the transactions inside it, in order of appearance.
struct Path {
    succeeded: bool,
    inner: Vec<Path>,
}

impl Path {
    fn ops<'t>(&self, txn: &'t Txn) -> &'t [Op] {
        if self.succeeded { &txn.success } else { &txn.failure }
    }
}

/// Applies the transaction at the tip of the index as one new revision. On `Err` the index is unchanged.
pub(crate) fn execute<S, W>(
    index: &mut Index<S>,
    writer: &mut W,
    lease_exists: &dyn Fn(LeaseId) -> bool,
    txn: &Txn,
) -> Result<Applied>
where
    S: Clone + Default,
    W: Write<S>,
{
    check_duplicates(&txn.success)?;
    check_duplicates(&txn.failure)?;
    let path = choose(index, writer, txn)?;
    check(index, lease_exists, txn, &path)?;
    let mut run = Run { index, writer, events: Vec::new() };
    match run.apply(txn, &path) {
        Ok(mut response) => {
            if !run.events.is_empty() {
                let keys = run.events.iter().map(|e| e.kv.key.clone()).collect();
                run.index.commit(keys);
            }
            response.revision = run.index.revision;
            Ok(Applied { response, events: run.events })
        }
        Err(error) => {
            for event in run.events.iter().rev() {
                run.index.take_back(&event.kv.key);
            }
            Err(error)
        }
    }
}

/// Deletes a lease's keys as one revision.
pub(crate) fn revoke<S, W>(index: &mut Index<S>, writer: &mut W, keys: Vec<Bytes>) -> Result<Applied>
where
    S: Clone + Default,
    W: Write<S>,
{
    let delete = |key: Bytes| Op::Delete { range: KeyRange::key(key), prev_kv: false };
    let txn = Txn { success: keys.into_iter().map(delete).collect(), ..Txn::default() };
    execute(index, writer, &|_| true, &txn)
}

/// A key may be written once in a transaction, and not both written and deleted.
fn check_duplicates(ops: &[Op]) -> Result<()> {
    // One operation, the usual case, cannot collide with itself.
    if let [op] = ops
        && !matches!(op, Op::Txn(_))
    {
        return Ok(());
    }
    writes(ops).map(drop)
}

type Writes<'t> = (BTreeSet<&'t [u8]>, Vec<&'t KeyRange>);

fn writes(ops: &[Op]) -> Result<Writes<'_>> {
    let mut puts: BTreeSet<&[u8]> = BTreeSet::new();
    let mut deletes: Vec<&KeyRange> = Vec::new();
    for op in ops {
        let (more_puts, more_deletes) = match op {
            Op::Put { key, .. } => (BTreeSet::from([&key[..]]), Vec::new()),
            Op::Delete { range, .. } => (BTreeSet::new(), vec![range]),
            Op::Range(_) => continue,
            Op::Txn(txn) => {
                // The two branches exclude each other, so they may write the same keys.
                let (mut puts, mut deletes) = writes(&txn.success)?;
                let (other_puts, other_deletes) = writes(&txn.failure)?;
                puts.extend(other_puts);
                deletes.extend(other_deletes);
                (puts, deletes)
            }
        };
        let collides =
            more_puts.iter().any(|key| puts.contains(key) || deletes.iter().any(|d| d.contains(key)))
                || more_deletes.iter().any(|range| puts.iter().any(|key| range.contains(key)));
        if collides {
            return Err(Error::DuplicateKey);
        }
        puts.extend(more_puts);
        deletes.extend(more_deletes);
    }
    Ok((puts, deletes))
}

/// Compares are evaluated before anything is applied, those of inner transactions too.
fn choose<S, W>(index: &Index<S>, reader: &W, txn: &Txn) -> Result<Path>
where
    S: Clone + Default,
    W: Write<S>,
{
    let mut succeeded = true;
    for compare in &txn.compare {
        if !holds(index, reader, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut path = Path { succeeded, inner: Vec::new() };
    for op in path.ops(txn) {
        if let Op::Txn(inner) = op {
            path.inner.push(choose(index, reader, inner)?);
        }
    }
    Ok(path)
}

fn holds<S, W>(index: &Index<S>, reader: &W, compare: &Compare) -> Result<bool>
where
    S: Clone + Default,
    W: Write<S>,
{
    let satisfies = |order: std::cmp::Ordering| match compare.ordering {
        Ordering::Equal => order.is_eq(),
        Ordering::NotEqual => order.is_ne(),
        Ordering::Less => order.is_lt(),
        Ordering::Greater => order.is_gt(),
    };
    let one = |key: &[u8], version: &Version<S>| {
        Ok(satisfies(match &compare.target {
            Target::CreateRevision(wanted) => version.created.cmp(wanted),
            Target::ModRevision(wanted) => version.modified.cmp(wanted),
            Target::Version(wanted) => version.version.cmp(wanted),
            Target::Lease(wanted) => version.lease.cmp(wanted),
            Target::Value(wanted) => reader.read(key, version)?[..].cmp(&wanted[..]),
        }))
    };
    let mut any = false;
    for (key, versions) in index.iter(&compare.range) {
        let Some(newest) = versions.as_slice().last().filter(|v| !v.is_tombstone()) else { continue };
        any = true;
        if !one(key, newest)? {
            return Ok(false);
        }
    }
    // A missing key counts as zero; its value compares with nothing.
    Ok(any || (!matches!(compare.target, Target::Value(_)) && one(&[], &Version::default())?))
}

fn check<S: Clone + Default>(
    index: &Index<S>,
    lease_exists: &dyn Fn(LeaseId) -> bool,
    txn: &Txn,
    path: &Path,
) -> Result<()> {
    let mut inner = path.inner.iter();
    for op in path.ops(txn) {
        match op {
            Op::Put { lease, .. } if *lease != 0 && !lease_exists(*lease) => {
                return Err(Error::LeaseNotFound);
            }
            Op::Range(RangeRequest { revision, .. }) if *revision > index.revision => {
                return Err(Error::FutureRevision { requested: *revision, current: index.revision });
            }
            Op::Range(RangeRequest { revision, .. }) if *revision != 0 && *revision < index.compacted => {
                return Err(Error::Compacted { requested: *revision, compacted: index.compacted });
            }
            Op::Txn(txn) => {
                if let Some(path) = inner.next() {
                    check(index, lease_exists, txn, path)?;
                }
            }
            Op::Put { .. } | Op::Delete { .. } | Op::Range(_) => {}
        }
    }
    Ok(())
}

struct Run<'r, S, W> {
    index: &'r mut Index<S>,
    writer: &'r mut W,
    events: Vec<Event>,
}

impl<S: Clone + Default, W: Write<S>> Run<'_, S, W> {
    fn apply(&mut self, txn: &Txn, path: &Path) -> Result<TxnResponse> {
        let mut inner = path.inner.iter();
        let mut responses = Vec::with_capacity(path.ops(txn).len());
        for op in path.ops(txn) {
            responses.push(match op {
                Op::Put { key, value, lease, prev_kv } => self.put(key, value, *lease, *prev_kv)?,
                Op::Delete { range, prev_kv } => self.delete(range, *prev_kv)?,
                Op::Range(request) => self.range(request)?,
                Op::Txn(txn) => match inner.next() {
                    Some(path) => OpResponse::Txn(self.apply(txn, path)?),
                    None => continue,
                },
            });
        }
        // Etcd's answer to a transaction inside another, too, carries the revision being made.
        Ok(TxnResponse { revision: self.tip(), succeeded: path.succeeded, responses })
    }

    /// The revision that reads inside the transaction see.
    fn tip(&self) -> i64 {
        self.index.revision + i64::from(!self.events.is_empty())
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: LeaseId, prev_kv: bool) -> Result<OpResponse> {
        let modified = self.index.revision + 1;
        // An own allocation: the caller's bytes may be a slice of a large buffer that would be kept alive.
        let (key, prev) = match self.index.keys.get_key_value(key) {
            Some((known, versions)) => {
                (known.clone(), versions.as_slice().last().filter(|v| !v.is_tombstone()).cloned())
            }
            None => (Bytes::copy_from_slice(key), None),
        };
        let (created, count) = prev.as_ref().map_or((modified, 0), |p| (p.created, p.version));
        let response = match prev {
            Some(prev) if prev_kv => {
                let before = self.writer.read(&key, &prev)?;
                Some(prev.key_value(key.clone(), before))
            }
            _ => None,
        };
        let mut version = Version { modified, created, version: count + 1, lease, slot: S::default() };
        version.slot = self.writer.write(&key, value, &version);
        self.events.push(Event {
            kind: EventKind::Put,
            kv: version.key_value(key.clone(), value.clone()),
            prev_kv: None,
        });
        self.index.push(&key, version);
        Ok(OpResponse::Put { prev_kv: response })
    }

    fn delete(&mut self, range: &KeyRange, prev_kv: bool) -> Result<OpResponse> {
        let mut found = Vec::new();
        for (key, versions) in self.index.iter(range) {
            if let Some(newest) = versions.as_slice().last().filter(|v| !v.is_tombstone()) {
                found.push((key.clone(), newest.clone()));
            }
        }
        let mut prev_kvs = Vec::new();
        if prev_kv {
            for (key, version) in &found {
                prev_kvs.push(version.clone().key_value(key.clone(), self.writer.read(key, version)?));
            }
        }
        let deleted = found.len();
        for (key, _) in found {
            let modified = self.index.revision + 1;
            let mut version = Version { modified, ..Version::default() };
            version.slot = self.writer.write(&key, &Bytes::new(), &version);
            self.events.push(Event {
                kind: EventKind::Delete,
                kv: version.key_value(key.clone(), Bytes::new()),
                prev_kv: None,
            });
            self.index.push(&key, version);
        }
        Ok(OpResponse::Delete { deleted, prev_kvs })
    }

    fn range(&mut self, request: &RangeRequest) -> Result<OpResponse> {
        let tip = self.tip();
        let found = find(self.index, request, tip)?;
        Ok(OpResponse::Range(fetch(&*self.writer, found, request.keys_only, tip)?))
    }
}
