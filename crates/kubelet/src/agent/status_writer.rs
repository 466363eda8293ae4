//! Brings a pod's status to the API: the newest one only, only when it differs, again until it is there.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use client::ErrorKind;
use client::backoff::Backoff;

use crate::pod::PodExt;
use crate::status::{same, status_patch};

/// What is to be in the API for which object.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The object whose status is written: for a static pod its mirror.
    pub object: Option<Arc<Pod>>,
    pub status: PodStatus,
    /// Counts what was published.
    pub version: u64,
}

/// The writer of one pod; ends when dropped.
pub struct StatusWriter {
    wanted: watch::Sender<Wanted>,
    written: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Drop for StatusWriter {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl StatusWriter {
    pub fn start(client: kube::Client, shutdown: &CancellationToken) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        let (done, written) = watch::channel(0);
        let stop = shutdown.child_token();
        tokio::spawn({
            let stop = stop.clone();
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = write(client, receiver, done) => {}
                }
            }
        });
        StatusWriter { wanted, written, stop }
    }

    /// Replaces what is to be written.
    pub fn publish(&self, object: Option<Arc<Pod>>, status: PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            let same_object = match (&wanted.object, &object) {
                (Some(a), Some(b)) => a.uid() == b.uid(),
                (None, None) => true,
                _ => false,
            };
            if wanted.version > 0 && same_object && same(&wanted.status, &status) {
                // The newer object serves as the base of a later patch.
                wanted.object = object;
                return false;
            }
            *wanted = Wanted { object, status, version: wanted.version + 1 };
            true
        });
    }

    /// The last published status.
    pub fn current(&self) -> PodStatus {
        self.wanted.borrow().status.clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// Waits until all that was published is in the API or has lost its object; false after `bound`.
    pub async fn flushed(&mut self, bound: Duration) -> bool {
        let version = self.wanted.borrow().version;
        tokio::time::timeout(bound, self.written.wait_for(|v| *v >= version)).await.is_ok_and(|r| r.is_ok())
    }
}

async fn write(client: kube::Client, mut wanted: watch::Receiver<Wanted>, done: watch::Sender<u64>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 0.2);
    // What the API is known to have for which uid.
    let mut known: Option<(String, PodStatus)> = None;
    while wanted.changed().await.is_ok() {
        loop {
            let Wanted { object, status, version } = wanted.borrow_and_update().clone();
            let Some(object) = object else {
                let _ = done.send(version);
                break;
            };
            match write_once(&client, &object, &status, &mut known).await {
                Ok(()) => {
                    backoff.reset();
                    let _ = done.send(version);
                    break;
                }
                Err(error) => {
                    tracing::warn!(pod = object.describe(), %error, "writing the pod's status failed, trying again");
                    known = None;
                    tokio::select! {
                        () = tokio::time::sleep(backoff.wait()) => {}
                        r = wanted.changed() => if r.is_err() { return },
                    }
                }
            }
        }
    }
}

async fn write_once(
    client: &kube::Client,
    object: &Pod,
    status: &PodStatus,
    known: &mut Option<(String, PodStatus)>,
) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), object.namespace());
    let (base, uid) = match known {
        Some((uid, base)) if *uid == object.uid() => (base.clone(), uid.clone()),
        // After a failure, or for another object: what is there now.
        _ => match api.get_opt(object.name()).await? {
            Some(found) if found.uid() == object.uid() => {
                (found.status.clone().unwrap_or_default(), found.uid().to_owned())
            }
            _ => return Ok(()),
        },
    };
    let Some(patch) = status_patch(&uid, &base, status) else {
        *known = Some((uid, base));
        return Ok(());
    };
    match api.patch_status(object.name(), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(answer) => {
            *known = Some((uid, answer.status.unwrap_or_default()));
            Ok(())
        }
        // Gone, or another pod of the same name: nobody is left to tell.
        Err(error) if matches!(ErrorKind::of(&error), ErrorKind::NotFound | ErrorKind::Conflict) => {
            match api.get_opt(object.name()).await? {
                Some(found) if found.uid() == object.uid() => Err(error),
                _ => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}
