//! What a controller is started with, and the end of every write.

use std::sync::Arc;
use std::time::Duration;

use client::events::Recorder;
use client::{Cached, Informers, Store};
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio_util::sync::CancellationToken;

use crate::Config;

/// The handles of one controller.
#[derive(Clone)]
pub struct Context {
    /// Shared by all controllers.
    pub informers: Informers,
    /// Authenticated as the controller's own service account.
    pub client: kube::Client,
    pub recorder: Recorder,
    pub config: Arc<Config>,
    pub shutdown: CancellationToken,
}

/// The longest a reconcile holds its key for its own writes to show up. A watch that is this late is broken, and
/// then nothing could be decided rightly anyway.
const BOUND: Duration = Duration::from_secs(60);

/// Waits until `store` shows `written`, the server's answer to a write.
pub async fn seen<K: Cached>(store: &Store<K>, written: &K) {
    if !store.caught_up(written.version(), BOUND).await {
        tracing::warn!(key = %written.key(), "a write has not shown up in the watch");
    }
}

/// Waits until `store` no longer shows `deleted`, or shows that it goes.
pub async fn gone<K: Cached + Metadata<Ty = ObjectMeta>>(store: &Store<K>, deleted: &K) {
    let uid = &deleted.metadata().uid;
    let is_gone = |now: Option<&K>| {
        now.is_none_or(|now| now.metadata().uid != *uid || now.metadata().deletion_timestamp.is_some())
    };
    store.wait_for(&deleted.key(), BOUND, is_gone).await;
}

/// What the server said, without wrapping: the text that conditions and Events carry.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Counts that are absent when zero.
pub fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
