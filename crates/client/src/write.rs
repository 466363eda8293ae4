//! What every writer needs: what an error means, retry on conflict, patches.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object is not there (404).
    NotFound,
    /// Create of a name that exists (409 AlreadyExists).
    AlreadyExists,
    /// The object has changed since it was read, or a precondition does not hold (409).
    Conflict,
    /// The object, as it would become, is not valid (422, 400).
    Invalid,
    /// The caller may not do this, or the namespace is going away (401, 403).
    Forbidden,
    /// The asked-for revision is gone (410).
    Gone,
    /// The server asks to come back later (429).
    TooManyRequests,
    /// Anything else: network, server trouble. Worth a retry.
    Other,
}

impl ErrorKind {
    pub fn of(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Other };
        match (status.code, status.reason.as_str()) {
            (404, _) => Self::NotFound,
            (409, "AlreadyExists") => Self::AlreadyExists,
            (409, _) => Self::Conflict,
            (400 | 422, _) => Self::Invalid,
            (401 | 403, _) => Self::Forbidden,
            (410, _) => Self::Gone,
            (429, _) => Self::TooManyRequests,
            _ => Self::Other,
        }
    }
}

/// True for a 403 whose cause is that the namespace is being deleted: a create that need not be tried again.
pub fn namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.code == 403
        && status
            .details
            .as_ref()
            .is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
}

/// Takes "it is not there" for success: for deletes and for writes to what may have gone.
pub fn ignore_not_found<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if ErrorKind::of(&error) == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs `attempt` (read, change, write) again while it ends in a conflict: five times at most, 10 ms apart.
pub async fn retry_on_conflict<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, kube::Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(10), 0.1);
    loop {
        match attempt().await {
            Err(error) if ErrorKind::of(&error) == ErrorKind::Conflict && backoff.failures() < 4 => {
                tokio::time::sleep(backoff.wait()).await;
            }
            result => return result,
        }
    }
}

/// Which part of an object a patch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Main,
    Status,
}

/// Applies a patch to an object or to its status.
pub async fn patch<K, P>(
    api: &Api<K>,
    name: &str,
    part: Part,
    params: &PatchParams,
    patch: &Patch<P>,
) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
    P: Serialize + std::fmt::Debug,
{
    match part {
        Part::Main => api.patch(name, params, patch).await,
        Part::Status => api.patch_status(name, params, patch).await,
    }
}

/// JSON merge patch (RFC 7386).
pub async fn merge<K>(
    api: &Api<K>,
    name: &str,
    part: Part,
    body: &serde_json::Value,
) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    patch(api, name, part, &PatchParams::default(), &Patch::Merge(body)).await
}

/// Strategic merge patch.
pub async fn strategic<K>(
    api: &Api<K>,
    name: &str,
    part: Part,
    body: &serde_json::Value,
) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    patch(api, name, part, &PatchParams::default(), &Patch::Strategic(body)).await
}

/// Server-side apply as `manager`, taking over fields that others own.
pub async fn apply<K>(
    api: &Api<K>,
    name: &str,
    part: Part,
    manager: &str,
    body: &serde_json::Value,
) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    patch(api, name, part, &PatchParams::apply(manager).force(), &Patch::Apply(body)).await
}

/// The API of a namespaced kind in `namespace`.
pub fn namespaced<K>(client: &kube::Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client.clone(), namespace)
}
