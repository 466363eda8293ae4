//! LIST: a snapshot of the cache, filtered, paged, as bytes.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use machinery::{Status, Value, json};

use super::reads::{ListOptions, Match, list_options};
use super::token::{self, Token};
use super::{Call, encode, parse_revision, storage, table};
use crate::cache::{Entry, Snapshot};
use crate::front::body::Body;
use crate::front::negotiate::{Accepted, Encoding, Offer, Shape};
use crate::front::respond::{self, Answer};
use crate::kinds::Resource;
use crate::select::Selector;

/// Lists of prepared bytes are written in blocks of about this size.
const BLOCK: usize = 128 * 1024;

pub async fn answer(call: &mut Call) -> Result<Answer, Status> {
    let accepted = call.accept(Offer::LIST)?;
    let options = list_options(call, false)?;
    let page = page(call, &options).await?;
    crate::crd::prepare_versions(&call.core, &call.resource, &page.entries).await?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = next.as_str().into();
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let resource = call.resource.clone();
    let api_version = resource.api_version();
    if is_plain(&resource, &accepted) {
        return Ok(plain(&resource, &metadata, page.entries));
    }
    if accepted.shape == Shape::Object && accepted.encoding == Encoding::Proto && !resource.converts() {
        let gvk = resource.gvk();
        let list = machinery::GroupVersionKind { kind: resource.list_kind.clone(), ..gvk.clone() };
        let mut items = Vec::with_capacity(page.entries.len());
        for (at, entry) in page.entries.iter().enumerate() {
            items.extend(crate::codec::proto_message(entry, &gvk));
            // others must not wait until thousands are encoded
            if at % 64 == 63 {
                tokio::task::yield_now().await;
            }
        }
        let head = crate::codec::proto_list_head(&list, &metadata, &items);
        let write = |item: &Bytes, _: bool, out: &mut Vec<u8>| crate::codec::push_item(item, out);
        let body = blocks(head, items, write, crate::codec::ENVELOPE_END);
        return Ok(respond::bytes(200, Encoding::Proto.media_type(), body));
    }
    let objects: Vec<Value> = page.entries.iter().map(|e| storage::from_entry(&resource, e)).collect();
    let value = match &accepted.shape {
        Shape::Object => {
            let items: Vec<Value> = objects
                .into_iter()
                .map(|mut o| {
                    // items of typed lists do not repeat their kind; those of custom resources do
                    if resource.custom.is_none()
                        && accepted.encoding != Encoding::Proto
                        && let Some(map) = o.as_object_mut()
                    {
                        map.remove("kind");
                        map.remove("apiVersion");
                    }
                    o
                })
                .collect();
            json!({"kind": resource.list_kind, "apiVersion": api_version, "metadata": metadata, "items": items})
        }
        Shape::Table(version) => {
            let include = table::Include::parse(&call.query)?;
            table::make(call, version, &objects, metadata, include, true)
        }
        Shape::Metadata { list: false, .. } => return Err(encode::wrong_shape(call, false)),
        Shape::Metadata { version, .. } => {
            let items: Vec<Value> = objects.into_iter().map(|o| encode::partial(o, version)).collect();
            let items = if items.is_empty() { Value::Null } else { items.into() };
            json!({"kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata, "items": items})
        }
    };
    Ok(respond::value(200, &value, &accepted))
}

/// Can the answer be copied from prepared bytes?
pub fn is_plain(resource: &Resource, accepted: &Accepted) -> bool {
    accepted.shape == Shape::Object
        && accepted.encoding == Encoding::Json
        && !accepted.pretty
        && !resource.converts()
        && resource.custom.is_none()
}

/// A list of prepared bytes.
pub fn plain(resource: &Resource, metadata: &Value, entries: Vec<Arc<Entry>>) -> Answer {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        resource.list_kind,
        resource.api_version()
    );
    let write = |entry: &Arc<Entry>, first: bool, out: &mut Vec<u8>| {
        if !first {
            out.push(b',');
        }
        out.extend_from_slice(&entry.bare);
    };
    respond::bytes(200, "application/json", blocks(head.into(), entries, write, b"]}\n"))
}

/// One page of a list.
pub struct Page {
    pub revision: i64,
    pub entries: Vec<Arc<Entry>>,
    pub next: Option<String>,
    pub remaining: Option<usize>,
}

/// Takes the snapshot that the options ask for, and the page of it.
pub async fn page(call: &Call, options: &ListOptions) -> Result<Page, Status> {
    let core = &call.core;
    let cache = &call.home()?.cache;
    let prefix = if call.namespace.is_empty() { String::new() } else { format!("{}/", call.namespace) };
    if let Some(why) = call.home()?.why_unreadable("", &prefix) {
        return Err(Status::internal(why));
    }
    let mut start = String::new();
    let given = parse_revision(&options.revision)
        .map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
    let (snapshot, revision) = if !options.token.is_empty() {
        if !options.revision.is_empty() && options.revision != "0" {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let token = Token::decode(&options.token)?;
        start = token.start;
        if token.revision < 0 {
            latest(call).await?
        } else {
            core.caught_up(token.revision).await?;
            let kept =
                core.progress.remembers(token.revision).then(|| cache.snapshot_at(token.revision).ok());
            let snapshot = kept.flatten().ok_or_else(|| token::expired(&start))?;
            (snapshot, token.revision)
        }
    } else if options.matching == Match::Exact
        || (options.limit > 0 && given > 0 && options.matching == Match::Unset)
    {
        core.reached(call.home()?, given).await?;
        let kept = core.progress.remembers(given).then(|| cache.snapshot_at(given).ok());
        let snapshot = kept
            .flatten()
            .ok_or_else(|| Status::expired("The resourceVersion for the provided list is too old."))?;
        (snapshot, given)
    } else if options.revision.is_empty() {
        latest(call).await?
    } else {
        core.reached(call.home()?, given).await?;
        now(call)?
    };
    // whatever is there may be answered for version 0, so upstream's cache does not page it
    let cached = !call.home()?.unwatched();
    let limit = if cached && options.revision == "0" && options.token.is_empty() { 0 } else { options.limit };
    let Some(late) = &options.late else {
        return Ok(cut(&snapshot, revision, &call.namespace, &options.selector, limit, &start));
    };
    let mut page = cut(&snapshot, revision, &call.namespace, &options.selector, 0, &start);
    late.keep(core, &mut page.entries).await?;
    if limit > 0 && page.entries.len() > limit {
        page.entries.truncate(limit);
        page.next = page.entries.last().map(|last| next_token(last, &prefix, revision));
    }
    Ok(page)
}

fn next_token(last: &Entry, prefix: &str, revision: i64) -> String {
    let start = format!("{}\0", &last.key[prefix.len()..]);
    Token { revision, start }.encode()
}

async fn latest(call: &Call) -> Result<(Snapshot, i64), Status> {
    call.core.fresh().await?;
    now(call)
}

fn now(call: &Call) -> Result<(Snapshot, i64), Status> {
    let applied = call.core.progress.applied();
    let (snapshot, changed) = call.home()?.cache.snapshot();
    Ok((snapshot, applied.max(changed)))
}

/// The entries of a namespace ("" for all) that a selector wants, from `start` on, at most `limit`.
fn cut(
    snapshot: &Snapshot,
    revision: i64,
    namespace: &str,
    selector: &Selector,
    limit: usize,
    start: &str,
) -> Page {
    let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let from = format!("{prefix}{start}");
    // a key with a trailing zero byte starts right after that key
    let lower = match from.strip_suffix('\0') {
        Some(key) => Bound::Excluded(key),
        None => Bound::Included(from.as_str()),
    };
    let in_namespace = |key: &str| key.starts_with(&prefix);
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    let mut more = false;
    let mut remaining = 0;
    if let (Some(name), false) = (selector.name(), namespace.is_empty()) {
        let key = format!("{namespace}/{name}");
        let entry = snapshot.get(key.as_str()).filter(|e| selector.matches(e));
        return Page { revision, entries: entry.cloned().into_iter().collect(), next: None, remaining: None };
    }
    for (_, entry) in
        snapshot.range::<_, str>((lower, Bound::Unbounded)).take_while(|(key, _)| in_namespace(key))
    {
        if limit > 0 && entries.len() == limit {
            if !selector.is_everything() {
                more = true;
                break;
            }
            more = true;
            remaining += 1;
            continue;
        }
        if selector.is_everything() || selector.matches(entry) {
            entries.push(entry.clone());
        }
    }
    let next = entries.last().filter(|_| more).map(|last| next_token(last, &prefix, revision));
    Page { revision, entries, next, remaining: (selector.is_everything() && more).then_some(remaining) }
}

/// `head`, the items as they are written, and `end`, in blocks that are made when they are sent.
fn blocks<T: Send + 'static>(
    head: Bytes,
    items: Vec<T>,
    write: impl Fn(&T, bool, &mut Vec<u8>) + Send + 'static,
    end: &'static [u8],
) -> Body {
    let mut rest = items.into_iter();
    let mut first = Some(head);
    let mut block = move || {
        // a few items are less than a block
        let room = if rest.len() < 16 { 0 } else { BLOCK + BLOCK / 4 };
        let mut out = Vec::with_capacity(room);
        let head = first.take();
        let mut is_first = head.is_some();
        out.extend_from_slice(&head.unwrap_or_default());
        while out.len() < BLOCK {
            let Some(item) = rest.next() else {
                out.extend_from_slice(end);
                return (Bytes::from(out), true);
            };
            write(&item, std::mem::take(&mut is_first), &mut out);
        }
        (Bytes::from(out), false)
    };
    let (whole, done) = block();
    if done {
        return whole.into();
    }
    let mut ready = Some(whole);
    let mut done = false;
    Body::stream(futures_util::stream::iter(std::iter::from_fn(move || {
        if let Some(first) = ready.take() {
            return Some(Ok(first));
        }
        if done {
            return None;
        }
        let (bytes, last) = block();
        done = last;
        Some(Ok(bytes))
    })))
}
