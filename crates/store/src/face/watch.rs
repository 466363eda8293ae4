//! Watch: many watchers on one stream, each a task of its own that writes to the stream's one queue.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt, unfold};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tonic::Status;

use super::grpc::Messages;
use super::{Face, refusal};
use crate::wire::convert::key_range;
use crate::wire::proto::{self, WatchResponse, watch_request};
use crate::{Error, EventKind, Revision, Watch, WatchMessage, WatchRequest};

type Out = mpsc::Sender<Result<WatchResponse, Status>>;

/// A watcher's side of a request for progress: it answers when everything before has been written to the stream.
type Asked = mpsc::Sender<Revision>;

struct Watcher {
    progress: mpsc::UnboundedSender<Asked>,
    task: AbortHandle,
}

struct Session {
    face: Arc<Face>,
    out: Out,
    watchers: HashMap<i64, Watcher>,
    next_id: i64,
}

impl Face {
    pub(super) fn watch(
        self: Arc<Self>,
        mut requests: Messages<proto::WatchRequest>,
    ) -> BoxStream<'static, Result<WatchResponse, Status>> {
        // Small: a client that does not read stops its watchers, and they read history later.
        let (out, answers) = mpsc::channel(16);
        let shutdown = self.shutdown.clone();
        let mut session = Session { face: self, out, watchers: HashMap::new(), next_id: 0 };
        tokio::spawn(async move {
            let out = session.out.clone();
            loop {
                let request = tokio::select! {
                    request = requests.next() => request,
                    () = out.closed() => break,
                    () = shutdown.cancelled() => {
                        let _ = out.send(Err(refusal(Error::Closed))).await;
                        break;
                    }
                };
                match request {
                    Ok(Some(request)) => session.take(request).await,
                    Ok(None) | Err(_) => break,
                }
            }
        });
        unfold(answers, |mut answers| async move { Some((answers.recv().await?, answers)) }).boxed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watchers.values().for_each(|watcher| watcher.task.abort());
    }
}

impl Session {
    async fn take(&mut self, request: proto::WatchRequest) {
        use watch_request::Request;
        match request.request {
            Some(Request::Create(create)) => self.create(create).await,
            Some(Request::Cancel(cancel)) => {
                if let Some(watcher) = self.watchers.remove(&cancel.watch_id) {
                    watcher.task.abort();
                    let header = self.face.current().await.ok().flatten();
                    let response = WatchResponse {
                        header,
                        watch_id: cancel.watch_id,
                        canceled: true,
                        ..Default::default()
                    };
                    let _ = self.out.send(Ok(response)).await;
                }
            }
            Some(Request::Progress(_)) => self.progress().await,
            None => {}
        }
    }

    async fn refuse(&self, id: i64, error: Option<Error>, reason: String) {
        let (header, compacted) = match self.face.store.status().await {
            Ok(status) => (self.face.header(status.revision), status.compact_revision),
            Err(_) => (None, 0),
        };
        let compact_revision = match error {
            Some(Error::Compacted { compacted, .. }) => compacted,
            Some(Error::TooSlow) => compacted,
            _ => 0,
        };
        let response = WatchResponse {
            header,
            watch_id: id,
            canceled: true,
            compact_revision,
            cancel_reason: reason,
            ..Default::default()
        };
        let _ = self.out.send(Ok(response)).await;
    }

    async fn create(&mut self, create: proto::WatchCreateRequest) {
        let id = match create.watch_id {
            0 => {
                while self.watchers.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            id if self.watchers.contains_key(&id) => {
                return self
                    .refuse(-1, None, "mvcc: duplicate watch ID provided on the WatchStream".into())
                    .await;
            }
            id => id,
        };
        let revision = match self.face.store.status().await {
            Ok(status) => status.revision,
            Err(error) => return self.refuse(id, None, error.to_string()).await,
        };
        // "From now on" is from the revision that the client is told, so that it can resume from there.
        let start_revision = if create.start_revision <= 0 { revision + 1 } else { create.start_revision };
        let key = if create.key.is_empty() { bytes::Bytes::from_static(&[0]) } else { create.key };
        let request = WatchRequest {
            range: key_range(key, create.range_end),
            start_revision,
            prev_kv: create.prev_kv,
            progress: create.progress_notify.then_some(self.face.options.progress_interval),
        };
        let created = WatchResponse {
            header: self.face.header(revision),
            watch_id: id,
            created: true,
            ..Default::default()
        };
        if self.out.send(Ok(created)).await.is_err() {
            return;
        }
        let watch = match self.face.store.watch(request).await {
            Ok(watch) => watch,
            Err(error) => {
                let reason = error.to_string();
                return self.refuse(id, Some(error), reason).await;
            }
        };
        let (progress, asked) = mpsc::unbounded_channel();
        let forward = Forward {
            face: self.face.clone(),
            out: self.out.clone(),
            id,
            no_puts: create.filters.contains(&0),
            no_deletes: create.filters.contains(&1),
            notify: create.progress_notify,
            fragment: create.fragment,
            waiting: Vec::new(),
        };
        let task = tokio::spawn(forward.run(watch, asked)).abort_handle();
        self.watchers.insert(id, Watcher { progress, task });
    }

    /// Answered for the whole stream, once every watcher has come so far.
    async fn progress(&mut self) {
        self.watchers.retain(|_, watcher| !watcher.task.is_finished());
        let (asked, mut answers) = mpsc::channel(self.watchers.len().max(1));
        let watchers = self.watchers.values().filter(|w| w.progress.send(asked.clone()).is_ok()).count();
        drop(asked);
        let (face, out) = (self.face.clone(), self.out.clone());
        let now = match face.store.status().await {
            Ok(status) => status.revision,
            Err(_) => return,
        };
        tokio::spawn(async move {
            let mut revision = None;
            while let Some(reached) = answers.recv().await {
                revision = Some(revision.map_or(reached, |r: Revision| r.min(reached)));
            }
            let Some(revision) = revision.or((watchers == 0).then_some(now)) else { return };
            let response =
                WatchResponse { header: face.header(revision), watch_id: -1, ..Default::default() };
            let _ = out.send(Ok(response)).await;
        });
    }
}

/// One watcher.
struct Forward {
    face: Arc<Face>,
    out: Out,
    id: i64,
    no_puts: bool,
    no_deletes: bool,
    notify: bool,
    fragment: bool,
    waiting: Vec<Asked>,
}

impl Forward {
    async fn run(mut self, mut watch: Box<dyn Watch>, mut asked: mpsc::UnboundedReceiver<Asked>) {
        loop {
            let message = tokio::select! {
                message = watch.next() => message,
                Some(asker) = asked.recv() => {
                    self.waiting.push(asker);
                    watch.request_progress();
                    continue;
                }
                () = self.out.closed() => return,
            };
            let response = match message {
                Ok(WatchMessage::Events { revision, events }) => {
                    let wanted = |kind: &EventKind| match kind {
                        EventKind::Put => !self.no_puts,
                        EventKind::Delete => !self.no_deletes,
                    };
                    let events: Vec<proto::Event> =
                        events.iter().filter(|e| wanted(&e.kind)).map(|e| e.clone().into()).collect();
                    if events.is_empty() {
                        continue;
                    }
                    WatchResponse {
                        header: self.face.header(revision),
                        watch_id: self.id,
                        events,
                        ..Default::default()
                    }
                }
                Ok(WatchMessage::Progress { revision }) if !self.waiting.is_empty() => {
                    for asker in self.waiting.drain(..) {
                        let _ = asker.send(revision).await;
                    }
                    continue;
                }
                Ok(WatchMessage::Progress { revision }) if self.notify => WatchResponse {
                    header: self.face.header(revision),
                    watch_id: self.id,
                    ..Default::default()
                },
                Ok(WatchMessage::Progress { .. }) => continue,
                Err(error) => {
                    let status = self.face.store.status().await.ok();
                    let compacted = status.as_ref().map_or(0, |s| s.compact_revision);
                    let gone = matches!(error, Error::TooSlow | Error::Compacted { .. });
                    WatchResponse {
                        header: status.and_then(|s| self.face.header(s.revision)),
                        watch_id: self.id,
                        canceled: true,
                        compact_revision: if gone { compacted } else { 0 },
                        cancel_reason: error.to_string(),
                        ..Default::default()
                    }
                }
            };
            let over = response.canceled;
            let limit = if self.fragment { self.face.message_limit() } else { usize::MAX };
            for part in fragments(response, limit) {
                if self.out.send(Ok(part)).await.is_err() {
                    return;
                }
            }
            if over {
                return;
            }
        }
    }
}

/// One revision's events in as many messages as the limit asks for; all but the last say that more follows.
fn fragments(mut response: WatchResponse, limit: usize) -> Vec<WatchResponse> {
    if limit == usize::MAX || response.encoded_len() <= limit {
        return vec![response];
    }
    let mut parts: Vec<WatchResponse> = Vec::new();
    let mut size = 0;
    for event in std::mem::take(&mut response.events) {
        let more = event.encoded_len();
        match parts.last_mut() {
            Some(part) if size + more <= limit => {
                part.events.push(event);
                size += more;
            }
            _ => {
                parts.push(WatchResponse { fragment: true, events: vec![event], ..response.clone() });
                size = more;
            }
        }
    }
    if let Some(last) = parts.last_mut() {
        last.fragment = false;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_revisions_come_in_parts() {
        let event = |i: u8| proto::Event {
            kv: Some(proto::KeyValue { key: vec![i; 100].into(), ..Default::default() }),
            ..Default::default()
        };
        let events: Vec<proto::Event> = (0..10).map(event).collect();
        let response = WatchResponse { watch_id: 7, events: events.clone(), ..Default::default() };
        assert_eq!(fragments(response.clone(), usize::MAX).len(), 1);
        let parts = fragments(response, 350);
        assert_eq!(parts.iter().map(|part| part.fragment).collect::<Vec<_>>(), [true, true, true, false]);
        assert!(parts.iter().all(|part| part.watch_id == 7));
        assert_eq!(parts.into_iter().flat_map(|part| part.events).collect::<Vec<_>>(), events);
    }
}
