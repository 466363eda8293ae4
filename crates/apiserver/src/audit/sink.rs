//! Where events go: the log and the webhook, each with its way of delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::event::Event;
use super::log::Log;
use super::policy::Level;
use super::webhook::Webhook;
use crate::config::{AuditMode, Delivery, Throttle, Truncate};

/// Batches that are on their way at once; a webhook that does not answer keeps no more of them in memory.
const UNDER_WAY: usize = 64;

/// What takes events in the end. Each event is a JSON document or a line.
pub enum Backend {
    Log { log: Log, legacy: bool },
    Webhook(Webhook),
}

pub struct Sink {
    backend: Arc<Backend>,
    mode: AuditMode,
    truncate: Option<Truncate>,
    queue: Option<mpsc::Sender<Item>>,
    dropped: AtomicU64,
}

enum Item {
    Event(Vec<u8>),
    /// Deliver what came before, then say so.
    Flush(oneshot::Sender<()>),
}

impl Backend {
    /// False if they are lost.
    async fn deliver(&self, batch: &[Vec<u8>]) -> bool {
        match self {
            // every line is tried
            Backend::Log { log, .. } => batch.iter().fold(true, |good, line| log.write(line) && good),
            Backend::Webhook(webhook) => webhook.post(batch).await,
        }
    }
}

impl Sink {
    /// Must be called within a runtime.
    pub fn start(backend: Backend, delivery: &Delivery) -> Self {
        let backend = Arc::new(backend);
        let queue = (delivery.mode == AuditMode::Batch).then(|| {
            let (queue, events) = mpsc::channel(delivery.buffer.max(1));
            let work = Work {
                backend: backend.clone(),
                most: delivery.batch.max(1),
                wait: delivery.wait,
                bucket: delivery.throttle.map(Bucket::new),
                under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            };
            tokio::spawn(work.run(events));
            queue
        });
        Self { backend, mode: delivery.mode, truncate: delivery.truncate, queue, dropped: AtomicU64::new(0) }
    }

    /// The event as this sink has it; none if it is too large.
    pub fn form(&self, event: &mut Event) -> Option<Vec<u8>> {
        if let Backend::Log { legacy: true, .. } = *self.backend {
            return Some(event.line().into_bytes());
        }
        let read = |event: &Event| match serde_json::to_vec(event) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::error!(%error, "an audit event can't be written");
                None
            }
        };
        let bytes = read(event)?;
        let Some(truncate) = self.truncate else { return Some(bytes) };
        // upstream counts the line's end
        let fits = |bytes: &Vec<u8>| bytes.len() as u64 + 1 <= truncate.event;
        if fits(&bytes) {
            return Some(bytes);
        }
        let bytes = if event.level >= Level::Request { read(&event.truncated())? } else { bytes };
        if !fits(&bytes) {
            tracing::error!(id = event.audit_id, "an audit event is too large even after truncating");
            return None;
        }
        Some(bytes)
    }

    /// Must delivering be waited for?
    pub fn blocks(&self) -> bool {
        self.queue.is_none() && matches!(*self.backend, Backend::Webhook(_))
    }

    /// False if the event is lost and the request must not go on without it.
    pub async fn send(&self, event: Vec<u8>) -> bool {
        if let Some(queue) = &self.queue {
            if queue.try_send(Item::Event(event)).is_err() {
                let lost = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                if lost.is_power_of_two() {
                    tracing::error!(lost, "audit events are lost: they come faster than they are taken");
                }
            }
            return true;
        }
        self.backend.deliver(&[event]).await || self.mode != AuditMode::BlockingStrict
    }

    /// Resolves when all that was sent before was delivered, or is lost.
    pub async fn flush(&self) {
        if let Some(queue) = &self.queue {
            let (done, wait) = oneshot::channel();
            if queue.send(Item::Flush(done)).await.is_ok() {
                let _ = wait.await;
            }
        }
    }
}

/// The one task of a queue.
struct Work {
    backend: Arc<Backend>,
    most: usize,
    wait: Duration,
    bucket: Option<Bucket>,
    under_way: Arc<Semaphore>,
}

impl Work {
    async fn run(mut self, mut events: mpsc::Receiver<Item>) {
        while let Some(first) = events.recv().await {
            let until = Instant::now() + self.wait;
            let (mut batch, mut flush) = (Vec::new(), None);
            let mut next = Some(first);
            while let Some(item) = next {
                match item {
                    Item::Event(event) => batch.push(event),
                    Item::Flush(done) => {
                        flush = Some(done);
                        break;
                    }
                }
                if batch.len() >= self.most {
                    break;
                }
                next = tokio::time::timeout_at(until, events.recv()).await.ok().flatten();
            }
            if !batch.is_empty() {
                self.process(batch).await;
            }
            if let Some(done) = flush {
                // all places free: nothing is under way
                let _ = self.under_way.acquire_many(UNDER_WAY as u32).await;
                let _ = done.send(());
            }
        }
    }

    async fn process(&mut self, batch: Vec<Vec<u8>>) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take().await;
        }
        if let Backend::Log { .. } = *self.backend {
            self.backend.deliver(&batch).await;
            return;
        }
        // the semaphore is never closed
        let Ok(place) = self.under_way.clone().acquire_owned().await else { return };
        let backend = self.backend.clone();
        tokio::spawn(async move {
            let _place = place;
            backend.deliver(&batch).await;
        });
    }
}

/// Lets so many through at once, and so many a second after that.
struct Bucket {
    throttle: Throttle,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(throttle: Throttle) -> Self {
        Self { throttle, tokens: f64::from(throttle.burst), at: Instant::now() }
    }

    async fn take(&mut self) {
        let rate = f64::from(self.throttle.per_second);
        let now = Instant::now();
        let grown = self.tokens + (now - self.at).as_secs_f64() * rate;
        self.tokens = grown.min(f64::from(self.throttle.burst)) - 1.0;
        self.at = now;
        if self.tokens < 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(-self.tokens / rate)).await;
        }
    }
}
