//! Watch: many watchers on one stream, each a task of its own that writes to the stream's one queue.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tonic::{Status, Streaming};

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
        mut requests: Streaming<proto::WatchRequest>,
    ) -> BoxStream<'static, Result<WatchResponse, Status>> {
        // Small: a client that does not read stops its watchers, and they read history later.
        let (out, answers) = mpsc::channel(16);
        let shutdown = self.shutdown.clone();
        let mut session = Session { face: self, out, watchers: HashMap::new(), next_id: 0 };
        tokio::spawn(async move {
            let out = session.out.clone();
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
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
            if self.out.send(Ok(response)).await.is_err() || over {
                return;
            }
        }
    }
}
