//! Events for another server, in batches. When it is slower than the events come, the newest are dropped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::remote::Client;

/// Upstream's defaults of `--audit-webhook-batch-*`.
const BUFFER: usize = 10_000;
const BATCH: usize = 400;
const WAIT: Duration = Duration::from_secs(30);
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;

pub struct Webhook {
    queue: mpsc::Sender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Webhook {
    /// Must be called within a runtime. Ends, with what it has sent, when it is dropped.
    pub fn start(config: &Path) -> Result<Self, String> {
        Ok(Self::with(Client::from_kubeconfig(config)?, WAIT))
    }

    fn with(client: Client, wait: Duration) -> Self {
        let (queue, events) = mpsc::channel(BUFFER);
        tokio::spawn(run(client, events, wait));
        Self { queue, dropped: Arc::default() }
    }

    /// One event's JSON.
    pub fn send(&self, event: Vec<u8>) {
        if self.queue.try_send(event).is_err() {
            let lost = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if lost.is_power_of_two() {
                tracing::error!(lost, "audit events are lost: the webhook is too slow");
            }
        }
    }
}

async fn run(client: Client, mut events: mpsc::Receiver<Vec<u8>>, wait: Duration) {
    while let Some(first) = events.recv().await {
        let until = Instant::now() + wait;
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match tokio::time::timeout_at(until, events.recv()).await {
                Ok(Some(event)) => batch.push(event),
                Ok(None) | Err(_) => break,
            }
        }
        deliver(&client, &batch).await;
    }
}

/// The batch as an `EventList`.
fn list(batch: &[Vec<u8>]) -> Vec<u8> {
    let mut out = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (n, event) in batch.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event);
    }
    out.extend_from_slice(b"]}");
    out
}

async fn deliver(client: &Client, batch: &[Vec<u8>]) {
    let body = bytes::Bytes::from(list(batch));
    let mut backoff = FIRST_BACKOFF;
    for attempt in 1..=TRIES {
        match client.post(body.clone()).await {
            Ok(_) => return,
            Err(error) if error.passes() && attempt < TRIES => {
                tracing::warn!(%error, "the audit webhook failed; it is asked again");
                tokio::time::sleep(backoff).await;
                backoff = backoff.mul_f64(1.5);
            }
            Err(error) => {
                return tracing::error!(%error, events = batch.len(), "audit events are lost");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_lists() {
        let text = String::from_utf8(list(&[b"{\"a\":1}".to_vec(), b"{}".to_vec()])).unwrap();
        let list: machinery::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), 2);
        assert_eq!(list["kind"], "EventList");
    }
}
