//! Watches: who is live, who catches up, and the newest revision that anyone may see.
//!
//! A watcher is no more than the next revision it wants. While it keeps up it gets events from a bounded queue; when
//! it starts in the past or its queue is full, it reads history until it has caught up, and is live again.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::read::{history, with_prev};
use super::{Engine, lock};
use crate::{Error, Event, KeyRange, Result, Revision, Watch, WatchMessage, WatchRequest};

/// How many revisions a live watcher may be behind before it must read history.
const QUEUE: usize = 1024;

/// A durable commit on its way to the watchers.
pub(crate) struct Commit {
    pub revision: Revision,
    pub events: Vec<Event>,
}

struct Live {
    id: u64,
    range: KeyRange,
    prev_kv: bool,
    /// Earlier events are not for it.
    from: Revision,
    queue: mpsc::Sender<WatchMessage>,
    /// The revision that no longer fitted into the queue.
    missed: Arc<AtomicI64>,
}

struct State {
    live: Vec<Live>,
    next_id: u64,
    closed: bool,
}

pub(crate) struct Hub {
    published: AtomicI64,
    state: Mutex<State>,
}

impl Hub {
    pub fn new(published: Revision) -> Self {
        let state = State { live: Vec::new(), next_id: 0, closed: false };
        Self { published: AtomicI64::new(published), state: Mutex::new(state) }
    }

    /// The newest revision readers may see.
    pub fn published(&self) -> Revision {
        self.published.load(Ordering::Acquire)
    }

    /// Shows commits, in order, to readers and watchers.
    pub fn publish<E: Engine>(&self, engine: &E, commits: &[Commit]) {
        let Some(last) = commits.last() else { return };
        let mut state = lock(&self.state);
        self.published.store(last.revision, Ordering::Release);
        if state.live.is_empty() {
            return;
        }
        for commit in commits {
            let mut plain: Option<Arc<[Event]>> = None;
            let mut prev: Option<Arc<[Event]>> = None;
            state.live.retain(|live| {
                let wanted = commit.events.iter().filter(|e| live.range.contains(&e.kv.key)).count();
                if wanted == 0 || commit.revision < live.from {
                    return true;
                }
                let all = if live.prev_kv {
                    prev.get_or_insert_with(|| match with_prev(engine, commit.revision, &commit.events) {
                        Ok(events) => events.into(),
                        Err(error) => {
                            tracing::warn!(%error, revision = commit.revision, "previous versions are unreadable");
                            commit.events.as_slice().into()
                        }
                    })
                } else {
                    plain.get_or_insert_with(|| commit.events.as_slice().into())
                };
                let events = if wanted == all.len() {
                    all.clone()
                } else {
                    all.iter().filter(|e| live.range.contains(&e.kv.key)).cloned().collect()
                };
                // A full queue ends the live time; the watcher notices when it has drained it.
                let sent = live.queue.try_send(WatchMessage::Events { revision: commit.revision, events }).is_ok();
                if !sent {
                    live.missed.store(commit.revision, Ordering::Release);
                }
                sent
            });
        }
    }

    /// Ends every watch.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.live.clear();
    }

    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    fn leave(&self, id: u64) {
        lock(&self.state).live.retain(|live| live.id != id);
    }
}

enum Mode {
    /// Reads history from `next` on.
    Behind,
    Live {
        id: u64,
        queue: mpsc::Receiver<WatchMessage>,
        missed: Arc<AtomicI64>,
    },
    Over,
}

/// A running watch on an engine.
pub(crate) struct Watcher<E: Engine> {
    engine: Arc<E>,
    range: KeyRange,
    prev_kv: bool,
    progress: Option<Duration>,
    /// The first revision not yet seen to be delivered or without a match.
    next: Revision,
    ready: std::collections::VecDeque<WatchMessage>,
    progress_wanted: bool,
    started: bool,
    mode: Mode,
}

impl<E: Engine> Watcher<E> {
    pub fn start(engine: Arc<E>, request: WatchRequest) -> Result<Self> {
        let WatchRequest { range, start_revision, prev_kv, progress } = request;
        let mut watcher = Self {
            engine,
            range,
            prev_kv,
            progress,
            next: start_revision,
            ready: Default::default(),
            progress_wanted: false,
            started: false,
            mode: Mode::Behind,
        };
        if start_revision != 0 {
            let compacted = super::shared(watcher.engine.index()).compacted;
            if start_revision < compacted {
                return Err(Error::Compacted { requested: start_revision, compacted });
            }
        }
        watcher.go_live()?;
        Ok(watcher)
    }

    /// Joins the live watchers if nothing is left to read; answers up to where everything has been delivered.
    fn go_live(&mut self) -> Result<Option<Revision>> {
        let hub = self.engine.hub();
        let mut state = lock(&hub.state);
        if state.closed {
            return Err(Error::Closed);
        }
        let published = hub.published();
        if self.next == 0 {
            self.next = published + 1;
        }
        if self.next <= published {
            return Ok(None);
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let missed = Arc::new(AtomicI64::new(0));
        state.next_id += 1;
        let id = state.next_id;
        state.live.push(Live {
            id,
            range: self.range.clone(),
            prev_kv: self.prev_kv,
            from: self.next,
            queue: sender,
            missed: missed.clone(),
        });
        self.mode = Mode::Live { id, queue, missed };
        Ok(Some(published))
    }

    async fn read_history(&mut self) -> Result<()> {
        let (range, from, prev_kv) = (self.range.clone(), self.next, self.prev_kv);
        let stretch = if E::BLOCKS {
            let engine = self.engine.clone();
            tokio::task::spawn_blocking(move || history(&*engine, &range, from, prev_kv))
                .await
                .map_err(|error| Error::Other(error.to_string()))?
        } else {
            history(&*self.engine, &range, from, prev_kv)
        };
        let stretch = stretch.map_err(|error| match error {
            Error::Compacted { .. } if self.started => Error::TooSlow,
            other => other,
        })?;
        self.next = stretch.next;
        let message = |(revision, events): (Revision, Vec<Event>)| WatchMessage::Events {
            revision,
            events: events.into(),
        };
        self.ready.extend(stretch.commits.into_iter().map(message));
        Ok(())
    }

    async fn step(&mut self) -> Result<WatchMessage> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.started = true;
                return Ok(message);
            }
            match &mut self.mode {
                Mode::Over => return Err(Error::Closed),
                Mode::Behind => {
                    if let Some(revision) = self.go_live()? {
                        if std::mem::take(&mut self.progress_wanted) {
                            return Ok(WatchMessage::Progress { revision });
                        }
                    } else {
                        self.read_history().await?;
                    }
                }
                Mode::Live { queue, missed, .. } => match receive(queue, self.progress).await {
                    Received::Message(message) => {
                        if let WatchMessage::Events { revision, .. } = &message {
                            self.next = revision + 1;
                        }
                        self.started = true;
                        return Ok(message);
                    }
                    Received::Quiet => self.ask_progress(),
                    Received::Ended => {
                        // Everything before the one that did not fit has been delivered.
                        self.next = self.next.max(missed.load(Ordering::Acquire));
                        self.mode = Mode::Behind;
                    }
                },
            }
        }
    }

    fn ask_progress(&mut self) {
        if let Mode::Live { id, .. } = &self.mode {
            let hub = self.engine.hub();
            let state = lock(&hub.state);
            // Queued behind every event published so far.
            let message = WatchMessage::Progress { revision: hub.published() };
            if let Some(live) = state.live.iter().find(|live| live.id == *id)
                && live.queue.try_send(message).is_ok()
            {
                return;
            }
        }
        self.progress_wanted = true;
    }
}

enum Received {
    Message(WatchMessage),
    Quiet,
    Ended,
}

async fn receive(queue: &mut mpsc::Receiver<WatchMessage>, quiet: Option<Duration>) -> Received {
    let message = match quiet {
        None => queue.recv().await,
        Some(quiet) => match tokio::time::timeout(quiet, queue.recv()).await {
            Ok(message) => message,
            Err(_) => return Received::Quiet,
        },
    };
    message.map_or(Received::Ended, Received::Message)
}

impl<E: Engine> Watch for Watcher<E> {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage>> {
        Box::pin(async move {
            let result = self.step().await;
            if result.is_err() {
                self.mode = Mode::Over;
            }
            result
        })
    }

    fn request_progress(&mut self) {
        self.ask_progress();
    }
}

impl<E: Engine> Drop for Watcher<E> {
    fn drop(&mut self) {
        if let Mode::Live { id, .. } = &self.mode {
            self.engine.hub().leave(*id);
        }
    }
}
