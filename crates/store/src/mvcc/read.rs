//! Reads: a range at a revision, and a stretch of history for a watcher that catches up.

use bytes::Bytes;

use super::{Engine, Index, Read, Version, shared};
use crate::{Error, Event, EventKind, KeyRange, RangeRequest, RangeResponse, Result, Revision};

/// What a range came to, before values are fetched.
pub(crate) struct Found<S> {
    pub kvs: Vec<(Bytes, Version<S>)>,
    pub more: bool,
    pub count: usize,
}

/// `current` is the newest revision the reader may see.
pub(crate) fn find<S: Clone + Default>(
    index: &Index<S>,
    request: &RangeRequest,
    current: Revision,
) -> Result<Found<S>> {
    let revision = match request.revision {
        0 => current,
        wanted if wanted > current => return Err(Error::FutureRevision { requested: wanted, current }),
        wanted if wanted < index.compacted => {
            return Err(Error::Compacted { requested: wanted, compacted: index.compacted });
        }
        wanted => wanted,
    };
    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
    let mut found = Found { kvs: Vec::new(), more: false, count: 0 };
    for (key, versions) in index.iter(&request.range) {
        let Some(version) = versions.at(revision).filter(|v| !v.is_tombstone()) else { continue };
        found.count += 1;
        if !request.count_only && found.kvs.len() < limit {
            found.kvs.push((key.clone(), version.clone()));
        }
    }
    found.more = !request.count_only && found.count > found.kvs.len();
    Ok(found)
}

pub(crate) fn fetch<S>(
    reader: &impl Read<S>,
    found: Found<S>,
    keys_only: bool,
    revision: Revision,
) -> Result<RangeResponse> {
    let Found { kvs, more, count } = found;
    let kvs = kvs
        .into_iter()
        .map(|(key, version)| {
            let value = if keys_only { Bytes::new() } else { reader.read(&key, &version)? };
            Ok(version.key_value(key, value))
        })
        .collect::<Result<_>>()?;
    Ok(RangeResponse { revision, kvs, more, count })
}

/// A range as an engine's readers see it. More than a handful of values on disk are read off the async threads.
pub(crate) async fn range<E: Engine>(engine: &E, request: RangeRequest) -> Result<RangeResponse> {
    let (found, reader, current) = {
        let index = shared(engine.index());
        // Read under the lock: nothing can be compacted between the two.
        let current = engine.hub().published();
        (find(&index, &request, current)?, engine.reader(), current)
    };
    let keys_only = request.keys_only;
    if !E::BLOCKS || keys_only || found.kvs.len() <= 16 {
        return fetch(&reader, found, keys_only, current);
    }
    tokio::task::spawn_blocking(move || fetch(&reader, found, keys_only, current))
        .await
        .map_err(|error| Error::Other(error.to_string()))?
}

/// A stretch of history.
pub(crate) struct Stretch {
    pub commits: Vec<(Revision, Vec<Event>)>,
    /// The first revision not looked at.
    pub next: Revision,
}

struct Pending<S> {
    revision: Revision,
    key: Bytes,
    version: Version<S>,
    prev: Option<Version<S>>,
}

/// How many revisions, and how many events, one stretch looks at while it holds the index.
const STRETCH: Revision = 4096;
const STRETCH_EVENTS: usize = 256;

/// Matching events from `from` on, oldest first, whole revisions only.
pub(crate) fn history<E: Engine>(
    engine: &E,
    range: &KeyRange,
    from: Revision,
    prev_kv: bool,
) -> Result<Stretch> {
    let mut pending: Vec<Pending<E::Slot>> = Vec::new();
    let mut next = from;
    let reader;
    {
        let index = shared(engine.index());
        if from < index.compacted {
            return Err(Error::Compacted { requested: from, compacted: index.compacted });
        }
        let last = engine.hub().published().min(from + STRETCH);
        while next <= last && pending.len() < STRETCH_EVENTS {
            // Revision 1, and anything before the first write, changed nothing.
            for key in index.changed(next).map_or(&[][..], |c| c.keys()) {
                if !range.contains(key) {
                    continue;
                }
                let Some(versions) = index.keys.get(key) else { continue };
                let Some(version) = versions.at(next).filter(|v| v.modified == next) else { continue };
                let prev =
                    if prev_kv { versions.at(next - 1).filter(|v| !v.is_tombstone()).cloned() } else { None };
                pending.push(Pending { revision: next, key: key.clone(), version: version.clone(), prev });
            }
            next += 1;
        }
        reader = engine.reader();
    }
    let mut commits: Vec<(Revision, Vec<Event>)> = Vec::new();
    for Pending { revision, key, version, prev } in pending {
        let kind = if version.is_tombstone() { EventKind::Delete } else { EventKind::Put };
        let value = if version.is_tombstone() { Bytes::new() } else { reader.read(&key, &version)? };
        let prev_kv = match prev {
            Some(prev) => Some(prev.key_value(key.clone(), reader.read(&key, &prev)?)),
            None => None,
        };
        let event = Event { kind, kv: version.key_value(key, value), prev_kv };
        match commits.last_mut() {
            Some((last, events)) if *last == revision => events.push(event),
            _ => commits.push((revision, vec![event])),
        }
    }
    Ok(Stretch { commits, next })
}

/// The same events with the versions before them.
pub(crate) fn with_prev<E: Engine>(engine: &E, revision: Revision, events: &[Event]) -> Result<Vec<Event>> {
    let (found, reader): (Vec<_>, _) = {
        let index = shared(engine.index());
        (events.iter().map(|e| index.at(&e.kv.key, revision - 1).cloned()).collect(), engine.reader())
    };
    let with = |(event, prev): (&Event, Option<Version<E::Slot>>)| {
        let key = event.kv.key.clone();
        let prev_kv = match prev {
            Some(prev) => Some(prev.key_value(key.clone(), reader.read(&key, &prev)?)),
            None => None,
        };
        Ok(Event { prev_kv, ..event.clone() })
    };
    events.iter().zip(found).map(with).collect()
}
