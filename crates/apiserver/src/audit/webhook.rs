//! Events for another server, as lists.

use std::path::Path;
use std::time::Duration;

use crate::remote::Client;

/// How often it is tried, and how much longer each wait is than the one before.
const TRIES: u32 = 5;
const FACTOR: f64 = 1.5;
/// Of one try, with its answer.
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Webhook {
    client: Client,
    backoff: Duration,
}

impl Webhook {
    /// `config`: a kubeconfig. `backoff`: the wait after the first failure.
    pub fn new(config: &Path, backoff: Duration) -> Result<Self, String> {
        Ok(Self { client: Client::from_kubeconfig(config)?, backoff })
    }

    /// Posts an `EventList`; whatever fails is tried again. False if the events are lost.
    pub async fn post(&self, batch: &[Vec<u8>]) -> bool {
        let body = bytes::Bytes::from(list(batch));
        let mut backoff = self.backoff;
        for attempt in 1..=TRIES {
            let error = match tokio::time::timeout(TIMEOUT, self.client.post(body.clone())).await {
                Ok(Ok(_)) => return true,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            if attempt == TRIES {
                tracing::error!(error, events = batch.len(), "audit events are lost");
                break;
            }
            tracing::warn!(error, "the audit webhook failed; it is asked again");
            tokio::time::sleep(backoff).await;
            backoff = backoff.mul_f64(FACTOR);
        }
        false
    }
}

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
