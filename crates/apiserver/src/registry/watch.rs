//! WATCH: events of the cache as a stream of prepared bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use machinery::{Get, Status, Value, json};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::late::Late;
use super::reads::{ListOptions, list_options};
use super::{Call, encode, parse_revision, table};
use crate::cache::{Change, Delivery, Entry, Interest, Snapshot, Subscription};
use crate::front::body::{Body, Socket};
use crate::front::negotiate::{Accepted, Encoding, Offer, Shape};
use crate::front::respond::{self, Answer};
use crate::front::websocket::{self, Framing};
use crate::kinds::Resource;
use crate::metrics::Watched;
use crate::server::Core;

/// Bookmarks come about this often while there is something new to tell.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// Events are gathered into blocks up to this size while more are waiting, where each block is sent by itself.
const BLOCK: usize = 64 * 1024;

pub async fn answer(call: &mut Call) -> Result<Answer, Status> {
    let began = Instant::now();
    let socket = websocket::wanted(&call.headers);
    let accepted = call.accept(Offer::WATCH)?;
    let options = list_options(call, true)?;
    // upstream returns this error bare
    let revision = parse_revision(&options.revision).map_err(|why| Status::new(500, "", why))?;
    let start = start(call, &options, revision).await;
    let timeout = match options.timeout {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds as u64),
        _ => {
            let least = call.core.config.min_request_timeout;
            // spread over twice the least time, so that clients do not all come back at once
            least + least.mul_f64(crate::registry::fields::random_fraction())
        }
    };
    let include = table::Include::parse(&call.query)?;
    let mut stream = Stream {
        began,
        scope: crate::metrics::scope(&call.info),
        core: call.core.clone(),
        resource: call.resource.clone(),
        encoder: Encoder {
            resource: call.resource.clone(),
            accepted: accepted.clone(),
            include,
            sent_columns: false,
            watched: Watched::new(
                &call.core.metrics,
                &call.resource.group,
                &call.resource.version,
                &call.resource.name,
            ),
        },
        block: if socket { 1 } else { BLOCK },
        initial: VecDeque::new(),
        late: options.late.clone(),
        subscription: None,
        gathers: !socket && call.extensions.get::<Socket>().is_some_and(|socket| socket.http2),
        bookmark_after_initial: None,
        bookmarks: options.bookmarks,
        told: 0,
        deadline: Instant::now() + timeout,
        alarm: Box::pin(tokio::time::sleep(timeout)),
        shutdown: Box::pin(call.core.shutdown.clone().cancelled_owned()),
        ended: false,
    };
    stream.set_alarm();
    match start {
        Ok(Start { subscription, initial, bookmark, at }) => {
            stream.subscription = Some(subscription);
            stream.initial = initial.into();
            stream.bookmark_after_initial = bookmark;
            stream.told = at;
        }
        // the headers are sent before it is known: the error is an event
        Err(status) => {
            let body = stream.encoder.error(&status);
            return Ok(respond::bytes(200, accepted.encoding.stream_type(), body));
        }
    }
    let body = Body::stream(futures_util::stream::unfold(stream, |mut stream| async move {
        let block = stream.next().await?;
        Some((Ok(block), stream))
    }));
    let answer = respond::bytes(200, accepted.encoding.stream_type(), body);
    if socket {
        return over_websocket(call, accepted.encoding, answer);
    }
    Ok(answer)
}

/// An event a message.
fn over_websocket(call: &mut Call, encoding: Encoding, answer: Answer) -> Result<Answer, Status> {
    let framing = match encoding {
        Encoding::Proto => Framing::Unprefixed,
        Encoding::Cbor => Framing::Binary,
        Encoding::Json | Encoding::Yaml => Framing::Text,
    };
    let protocol = websocket::watch_protocol(&call.headers)?;
    websocket::answer(&call.headers, &mut call.extensions, protocol.as_deref(), framing, false, answer)
}

struct Start {
    subscription: Subscription,
    initial: Vec<Arc<Entry>>,
    /// The revision of the bookmark that ends the initial events.
    bookmark: Option<i64>,
    at: i64,
}

async fn start(call: &Call, options: &ListOptions, revision: i64) -> Result<Start, Status> {
    let cache = &call.home()?.cache;
    let mut interest = Interest::new(&call.namespace, options.selector.clone());
    interest.patient = call.extensions.get::<Socket>().is_some();
    let wants_initial = options.initial_events.unwrap_or(revision == 0);
    if !wants_initial && revision > 0 {
        let subscription = cache.watch_from(revision, interest).map_err(|old| {
            Status::expired(format!("too old resource version: {revision} ({})", old.oldest))
        })?;
        return Ok(Start { subscription, initial: Vec::new(), bookmark: None, at: revision });
    }
    if options.initial_events == Some(true) {
        match revision {
            0 if options.revision == "0" => {}
            0 => drop(call.core.fresh().await?),
            at => drop(call.core.caught_up(at).await?),
        }
    } else if options.revision.is_empty() {
        call.core.fresh().await?;
    }
    let applied = call.core.progress.applied();
    let (subscription, objects, changed) = cache.watch_now(interest.clone());
    let at = applied.max(changed);
    let mut initial = Vec::new();
    if wants_initial {
        initial = matching(&objects, &interest, &call.namespace);
        if let Some(late) = &options.late {
            late.keep(&call.core, &mut initial).await?;
        }
    }
    let bookmark = (options.initial_events == Some(true) && options.bookmarks).then_some(at);
    Ok(Start { subscription, initial, bookmark, at })
}

fn matching(objects: &Snapshot, interest: &Interest, namespace: &str) -> Vec<Arc<Entry>> {
    use crate::cache::Scope;
    if let Scope::Key(key) = &interest.scope {
        return objects.get(&**key).filter(|e| interest.wants(e)).cloned().into_iter().collect();
    }
    let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    objects
        .range::<_, str>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(&prefix))
        .map(|(_, entry)| entry)
        .filter(|e| interest.wants(e))
        .cloned()
        .collect()
}

struct Stream {
    core: Arc<Core>,
    began: Instant,
    scope: &'static str,
    resource: Arc<Resource>,
    encoder: Encoder,
    /// A block is sent when it is this long.
    block: usize,
    initial: VecDeque<Arc<Entry>>,
    late: Option<Late>,
    subscription: Option<Subscription>,
    /// HTTP/1.1 takes many blocks and sends them at once, HTTP/2 sends one after the other.
    gathers: bool,
    bookmark_after_initial: Option<i64>,
    bookmarks: bool,
    /// The client knows everything up to this revision.
    told: i64,
    deadline: Instant,
    /// The deadline, or the next bookmark if that comes first; set once and not for each event.
    alarm: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Stream {
    fn set_alarm(&mut self) {
        let bookmark = Instant::now() + BOOKMARKS;
        let at = if self.bookmarks { self.deadline.min(bookmark) } else { self.deadline };
        self.alarm.as_mut().reset(at);
    }

    /// The next block of events; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = BytesMut::new();
        if let Err(status) = crate::crd::prepare_versions(&self.core, &self.resource, &self.initial).await {
            self.ended = true;
            return Some(self.encoder.error(&status));
        }
        while let Some(entry) = self.initial.pop_front() {
            self.encoder.entry(&mut out, Change::Added, &entry, entry.revision);
            if out.len() >= self.block {
                return Some(out.freeze());
            }
        }
        if let Some(revision) = self.bookmark_after_initial.take() {
            self.encoder.bookmark(&mut out, revision, true);
            self.core.metrics.requests.watch_listed(&self.resource, self.scope, self.began.elapsed());
        }
        if !out.is_empty() {
            return Some(out.freeze());
        }
        loop {
            let subscription = self.subscription.as_mut()?;
            let event = tokio::select! {
                biased;
                event = subscription.next() => event,
                () = &mut self.shutdown => None,
                () = &mut self.alarm => {
                    if Instant::now() >= self.deadline {
                        self.ended = true;
                        return None;
                    }
                    self.set_alarm();
                    let at = self.core.progress.applied();
                    if at > self.told {
                        self.told = at;
                        self.encoder.bookmark(&mut out, at, false);
                        return Some(out.freeze());
                    }
                    continue;
                }
            };
            let Some((change, event)) = event else {
                self.ended = true;
                return None;
            };
            let first = self.event(change, &event).await;
            if !self.gathers {
                match first.is_empty() {
                    true => continue,
                    false => return Some(first),
                }
            }
            while first.len() + out.len() < self.block
                && !self.ended
                && let Some((change, event)) = self.subscription.as_mut().and_then(Subscription::try_next)
            {
                if out.is_empty() {
                    out.extend_from_slice(&first);
                }
                out.extend_from_slice(&self.event(change, &event).await);
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
            if !first.is_empty() {
                return Some(first);
            }
        }
    }

    /// What is sent of an event; nothing if it is not shown.
    async fn event(&mut self, change: Change, event: &Delivery) -> Bytes {
        let change = match &self.late {
            None => change,
            Some(late) => match late.change(&self.core, change, event).await {
                Ok(Some(change)) => change,
                Ok(None) => return Bytes::new(),
                Err(status) => {
                    self.ended = true;
                    return self.encoder.error(&status);
                }
            },
        };
        let entry = match change {
            // an object that leaves the selection is shown as it last was within it
            Change::Deleted => event.old.as_ref(),
            _ => event.new.as_ref(),
        };
        let Some(entry) = entry else { return Bytes::new() };
        if let Err(status) = crate::crd::prepare_versions(&self.core, &self.resource, [entry]).await {
            self.ended = true;
            return self.encoder.error(&status);
        }
        self.told = self.told.max(event.revision);
        self.encoder.event(change, event, entry)
    }
}

fn name_of(change: Change) -> &'static str {
    match change {
        Change::Added => "ADDED",
        Change::Modified => "MODIFIED",
        Change::Deleted => "DELETED",
    }
}

/// Writes events in the accepted encoding and shape.
struct Encoder {
    resource: Arc<Resource>,
    accepted: Accepted,
    include: table::Include,
    sent_columns: bool,
    watched: Watched,
}

impl Encoder {
    fn event(&mut self, change: Change, event: &Delivery, entry: &Entry) -> Bytes {
        let Accepted { shape, encoding, .. } = &self.accepted;
        let frame = match shape {
            Shape::Object => {
                event.frame(&self.resource, *encoding, change, || self.object(change, entry, event.revision))
            }
            _ => {
                let mut out = BytesMut::new();
                self.shown(&mut out, change, entry, event.revision);
                out.freeze()
            }
        };
        self.watched.event(frame.len());
        frame
    }

    fn object(&self, change: Change, entry: &Entry, revision: i64) -> Bytes {
        let mut out = BytesMut::new();
        self.whole(&mut out, change, entry, revision);
        out.freeze()
    }

    fn entry(&mut self, out: &mut BytesMut, change: Change, entry: &Entry, revision: i64) {
        let before = out.len();
        match self.accepted.shape {
            Shape::Object => self.whole(out, change, entry, revision),
            _ => self.shown(out, change, entry, revision),
        }
        self.watched.event(out.len() - before);
    }

    /// The event with all of the object.
    fn whole(&self, out: &mut BytesMut, change: Change, entry: &Entry, revision: i64) {
        let kind = name_of(change);
        let bare = encode::bare(&self.resource, entry, revision);
        if self.accepted.encoding == Encoding::Json {
            out.reserve(bare.len() + self.resource.prefix.len() + 40);
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            out.extend_from_slice(&self.resource.prefix);
            out.extend_from_slice(&bare[1..]);
            out.extend_from_slice(b"}\n");
            return;
        }
        if self.accepted.encoding == Encoding::Proto
            && revision == entry.revision
            && !self.resource.converts()
        {
            let gvk = self.resource.gvk();
            if let Some(message) = crate::codec::proto_message(entry, &gvk) {
                let object = crate::codec::proto_envelope(&gvk, &message);
                out.extend_from_slice(&crate::codec::proto_frame(kind, &object));
                return;
            }
        }
        self.write(out, kind, self.read(&bare));
    }

    /// The event with what the client wants to see of the object.
    fn shown(&mut self, out: &mut BytesMut, change: Change, entry: &Entry, revision: i64) {
        let object = self.read(&encode::bare(&self.resource, entry, revision));
        let object = self.shaped(object);
        self.write(out, name_of(change), object);
    }

    fn read(&self, bare: &[u8]) -> Value {
        let mut object: Value = machinery::codec::json::decode_any(bare).expect("the cache holds JSON");
        object.set("kind", self.resource.kind.as_str());
        object.set("apiVersion", self.resource.api_version());
        object
    }

    fn shaped(&mut self, object: Value) -> Value {
        match &self.accepted.shape {
            Shape::Object => object,
            Shape::Metadata { version, .. } => encode::partial(object, version),
            Shape::Table(version) => {
                let meta = json!({"resourceVersion": machinery::meta::resource_version(&object)});
                let columns = !std::mem::replace(&mut self.sent_columns, true);
                table::of(
                    &self.resource,
                    version,
                    &[object],
                    meta,
                    self.include,
                    columns,
                    jiff::Timestamp::now(),
                )
            }
        }
    }

    fn bookmark(&mut self, out: &mut BytesMut, revision: i64, end_of_initial: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if end_of_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(),
            "metadata": metadata});
        if self.resource.custom.is_some() || end_of_initial {
            object["metadata"].unset("creationTimestamp");
        }
        if self.resource.custom.is_none() && self.accepted.shape == Shape::Object {
            (self.resource.strategy.blank)(&mut object);
            crate::codec::normalize(&self.resource.gvk(), &mut object);
        }
        // in a Table, its row carries the annotation
        let object = self.shaped(object);
        self.write(out, "BOOKMARK", object);
    }

    fn error(&self, status: &Status) -> Bytes {
        let mut out = BytesMut::new();
        self.write(&mut out, "ERROR", status.to_value());
        out.freeze()
    }

    fn write(&self, out: &mut BytesMut, kind: &str, object: Value) {
        match self.accepted.encoding {
            Encoding::Proto | Encoding::Cbor => {
                match crate::codec::encode_event(kind, &object, self.accepted.encoding) {
                    Ok(frame) => out.extend_from_slice(&frame),
                    Err(error) => tracing::error!(%error, "can't encode a watch event"),
                }
            }
            _ => {
                let event = json!({"type": kind, "object": object});
                out.extend_from_slice(&respond::json(&event, false));
                out.extend_from_slice(b"\n");
            }
        }
    }
}
