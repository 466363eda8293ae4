//! Keeps a store true: a streaming list where the server has it, else list and watch; resumes, re-lists, backs off.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use http::Request;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::response::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, chance};
use crate::{Cached, Key, Source, Store};

/// Objects a page of a paged list holds, as client-go asks for.
const PAGE: usize = 500;

const JSON: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("request failed")]
    Client(#[source] kube::Error),
    #[error("server answered {}: {}", .0.code, .0.message)]
    Status(Box<Status>),
    #[error("the answer cannot be understood")]
    Decode(#[from] serde_json::Error),
    #[error("the watch broke off: {0}")]
    Broken(String),
    #[error("the watch has been silent for too long")]
    Silent,
}

impl Error {
    fn code(&self) -> u16 {
        match self {
            Self::Status(status) => status.code,
            _ => 0,
        }
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What is read of an object that cannot be read whole.
#[derive(Deserialize)]
struct Named {
    metadata: NamedMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NamedMeta {
    namespace: String,
    name: String,
    resource_version: String,
}

impl NamedMeta {
    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Reads an object. Go writes a time that is not set as null even where the field is required, which the types refuse:
/// then such a time is Go's zero, and what else is null counts as absent.
pub(crate) fn read<K: serde::de::DeserializeOwned>(text: &str) -> Result<K, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| {
        let mut value: serde_json::Value = serde_json::from_str(text)?;
        if settle_nulls(&mut value) { serde_json::from_value(value) } else { Err(error) }
    })
}

/// Was there any?
fn settle_nulls(value: &mut serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(map) => {
            let before = map.len();
            // the required ones are those of conditions
            let required = |key: &str| key.starts_with("last") && key.ends_with("Time");
            let mut any = false;
            for (_, value) in map.iter_mut().filter(|(key, value)| value.is_null() && required(key)) {
                *value = "0001-01-01T00:00:00Z".into();
                any = true;
            }
            map.retain(|_, value| !value.is_null());
            any |= map.len() < before;
            map.values_mut().fold(any, |any, value| settle_nulls(value) | any)
        }
        serde_json::Value::Array(items) => items.iter_mut().fold(false, |any, item| settle_nulls(item) | any),
        _ => false,
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    metadata: PageMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// What there is of an object when only metadata was asked for.
#[derive(Deserialize)]
struct MetadataOnly<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

/// Runs until `shutdown`.
pub(crate) async fn run<K: Cached>(
    client: kube::Client,
    source: Source,
    store: Store<K>,
    shutdown: CancellationToken,
) {
    let mut reflector = Reflector { client, source, store, position: None, streaming: true };
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30), 1.0);
    loop {
        let end = tokio::select! {
            () = shutdown.cancelled() => return,
            end = reflector.turn() => end,
        };
        let wait = match end {
            // The server ends every watch after some minutes.
            Ok(()) => {
                backoff.reset();
                continue;
            }
            Err(error) if error.code() == 410 => {
                tracing::debug!(path = reflector.source.path, "the watch's revision is gone; listing anew");
                reflector.position = None;
                Duration::ZERO
            }
            Err(error)
                if reflector.streaming
                    && reflector.position.is_none()
                    && matches!(error.code(), 400 | 422) =>
            {
                tracing::debug!(path = reflector.source.path, "no streaming list here; paging instead");
                reflector.streaming = false;
                Duration::ZERO
            }
            Err(error) => {
                let failures = backoff.failures();
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                if failures >= 3 {
                    tracing::warn!(path = reflector.source.path, %error, cause, failures, "watch failing");
                } else {
                    tracing::debug!(path = reflector.source.path, %error, cause, "watch failed");
                }
                backoff.wait()
            }
        };
        if !wait.is_zero() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

struct Reflector<K> {
    client: kube::Client,
    source: Source,
    store: Store<K>,
    /// Where the next watch goes on; none before a complete list.
    position: Option<String>,
    streaming: bool,
}

impl<K: Cached> Reflector<K> {
    /// One watch from start to end, with a list before it if there is no position yet.
    async fn turn(&mut self) -> Result<(), Error> {
        if self.position.is_none() && !self.streaming {
            self.list().await?;
        }
        self.watch().await
    }

    async fn list(&mut self) -> Result<(), Error> {
        let mut objects: Vec<K> = Vec::new();
        let mut next = String::new();
        loop {
            let mut query = self.source.query();
            query.push(("limit", PAGE.to_string()));
            if !next.is_empty() {
                query.push(("continue", next));
            }
            let accept = if self.source.metadata_only { METADATA_LIST } else { JSON };
            let body = self.send(&query, accept).await?;
            let bytes = body.collect().await.map_err(Error::Client)?.to_bytes();
            let page: Page<'_> = serde_json::from_slice(&bytes)?;
            for item in page.items.into_iter().flatten() {
                objects.extend(self.decode(item.get()));
            }
            next = page.metadata.next;
            if next.is_empty() {
                let revision = page.metadata.resource_version;
                self.store.replace(objects, revision.parse().unwrap_or(0));
                self.position = Some(revision);
                return Ok(());
            }
        }
    }

    async fn watch(&mut self) -> Result<(), Error> {
        // Between five and ten minutes, so that the watches of many clients do not end together.
        let seconds = 300 + (300.0 * chance()) as u64;
        let mut query = self.source.query();
        query.push(("watch", "1".into()));
        query.push(("allowWatchBookmarks", "true".into()));
        query.push(("timeoutSeconds", seconds.to_string()));
        // Objects of a streaming list, until its end is announced.
        let mut initial: Option<Vec<K>> = None;
        match &self.position {
            Some(position) => query.push(("resourceVersion", position.clone())),
            None => {
                query.push(("sendInitialEvents", "true".into()));
                query.push(("resourceVersionMatch", "NotOlderThan".into()));
                initial = Some(Vec::new());
            }
        }
        let accept = if self.source.metadata_only { METADATA } else { JSON };
        let mut body = self.send(&query, accept).await?.into_data_stream();
        let silence = Duration::from_secs(seconds + 15);
        let mut buffer = BytesMut::new();
        loop {
            let chunk = match tokio::time::timeout(silence, body.next()).await {
                Err(_) => return Err(Error::Silent),
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(Error::Broken(error.to_string())),
                Ok(Some(Ok(chunk))) => chunk,
            };
            // One event a chunk is the common case: no copy then.
            if buffer.is_empty() && chunk.ends_with(b"\n") {
                for line in chunk.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                    self.event(line, &mut initial)?;
                }
                continue;
            }
            let mut searched = buffer.len();
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer[searched..].iter().position(|b| *b == b'\n') {
                let line = buffer.split_to(searched + end + 1);
                searched = 0;
                if line.len() > 1 {
                    self.event(&line, &mut initial)?;
                }
            }
        }
    }

    /// An object. Where only metadata was asked for, its kind is PartialObjectMetadata, which a typed `K` would refuse:
    /// then it is read without kind and version.
    ///
    /// None for one that cannot be understood: the others must not suffer for it.
    fn decode(&self, text: &str) -> Option<K> {
        let read = if self.source.metadata_only {
            serde_json::from_str::<MetadataOnly<'_>>(text)
                .and_then(|MetadataOnly { metadata }| read(&format!("{{\"metadata\":{}}}", metadata.get())))
        } else {
            read(text)
        };
        read.inspect_err(|error| {
            let key = serde_json::from_str::<Named>(text).map(|named| named.metadata.key()).unwrap_or_default();
            tracing::error!(path = self.source.path, key, %error, "an object cannot be understood and is left out");
        })
        .ok()
    }

    fn event(&mut self, line: &[u8], initial: &mut Option<Vec<K>>) -> Result<(), Error> {
        let frame: Frame<'_> = serde_json::from_slice(line)?;
        let text = frame.object.get();
        match frame.kind {
            "ADDED" | "MODIFIED" => {
                let Some(object) = self.decode(text) else { return self.pass_over(text, initial.is_none()) };
                match initial {
                    Some(objects) => objects.push(object),
                    None => {
                        self.position = Some(object.version().to_owned());
                        self.store.apply(object);
                    }
                }
            }
            "DELETED" => {
                let Some(object) = self.decode(text) else { return self.pass_over(text, initial.is_none()) };
                let key: Key = object.key();
                match initial {
                    Some(objects) => objects.retain(|other| other.key() != key),
                    None => {
                        self.position = Some(object.version().to_owned());
                        self.store.remove(&key, object.version().parse().unwrap_or(0));
                    }
                }
            }
            "BOOKMARK" => {
                let meta = serde_json::from_str::<Bookmark>(text)?.metadata;
                let revision = meta.resource_version.parse().unwrap_or(0);
                if meta.annotations.contains_key("k8s.io/initial-events-end")
                    && let Some(objects) = initial.take()
                {
                    self.store.replace(objects, revision);
                }
                if initial.is_none() {
                    self.store.bookmark(revision);
                    self.position = Some(meta.resource_version);
                }
            }
            "ERROR" => return Err(Error::Status(serde_json::from_str(text)?)),
            other => return Err(Error::Broken(format!("event of unknown type {other:?}"))),
        }
        Ok(())
    }

    /// The watch goes on after an event that nothing could be made of.
    fn pass_over(&mut self, text: &str, live: bool) -> Result<(), Error> {
        if live {
            self.position = Some(serde_json::from_str::<Named>(text)?.metadata.resource_version);
        }
        Ok(())
    }

    async fn send(&self, query: &[(&'static str, String)], accept: &'static str) -> Result<Body, Error> {
        let request = Request::get(self.source.uri(query))
            .header(ACCEPT, accept)
            .header(ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(|error| Error::Client(kube::Error::HttpError(error)))?;
        let response = self.client.send(request).await.map_err(Error::Client)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let bytes = response.into_body().collect().await.map_err(Error::Client)?.to_bytes();
        let told = serde_json::from_slice::<Status>(&bytes).unwrap_or_else(|_| {
            Status::failure(&String::from_utf8_lossy(&bytes), "").with_code(status.as_u16())
        });
        Err(Error::Status(Box::new(told)))
    }
}

#[cfg(test)]
mod tests;
