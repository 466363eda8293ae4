//! The container event stream (evented PLEG).

use futures_util::StreamExt;
use tokio::sync::broadcast::error::RecvError;

use super::lifecycle::Inner;
use super::state;
use crate::cri::{self, v1};

impl Inner {
    /// Tells everyone who listens; `id` is a container's, or the sandbox's own.
    pub fn tell(&self, kind: v1::ContainerEventType, id: &str, sandbox_id: &str) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let sandbox = self.sandbox(sandbox_id).ok();
        let _ = self.events.send(v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            created_at: state::now(),
            pod_sandbox_status: sandbox.map(|sandbox| self.sandbox_status(&sandbox)),
            containers_statuses: self
                .containers_of(sandbox_id)
                .iter()
                .map(|c| self.container_status(c))
                .collect(),
        });
    }

    /// Events from now on. A listener that falls behind by a thousand is cut off and must list anew.
    pub fn event_stream(&self) -> cri::Stream<v1::ContainerEventResponse> {
        let receiver = self.events.subscribe();
        futures_util::stream::unfold(Some(receiver), |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Ok(event) => Some((Ok(event), Some(receiver))),
                Err(RecvError::Lagged(missed)) => {
                    let text = format!("{missed} events were missed");
                    Some((Err(cri::Error::new(cri::Code::ResourceExhausted, text)), None))
                }
                Err(RecvError::Closed) => None,
            }
        })
        .boxed()
    }
}
