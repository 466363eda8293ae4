//! Writing to the store and reading what it holds, with the caches kept in step.

use std::sync::Arc;

use bytes::Bytes;
use machinery::{Get, Status, Value};
use store::write::{self, Outcome};

use crate::cache::{Entry, Prepared};
use crate::kinds::{Home, Resource};
use crate::server::Core;

/// How long a read waits for the caches to reach what it must see.
const CATCH_UP: std::time::Duration = std::time::Duration::from_secs(3);

/// What a conditional write found instead of the expected revision.
pub enum Failed {
    /// The object at another version, or none.
    Conflict(Option<Arc<Entry>>),
    Status(Status),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Failed::Status(status)
    }
}

pub fn store_error(error: store::Error) -> Status {
    match error {
        store::Error::TooLarge(_) => Status::new(
            413,
            "RequestEntityTooLarge",
            "Request entity too large: etcdserver: request is too large".to_owned(),
        ),
        store::Error::Unavailable(_) | store::Error::Closed | store::Error::Unknown(_) => {
            Status::new(500, "", error.to_string())
        }
        error => Status::internal(error),
    }
}

/// The object in the home's version: what is stored and cached.
pub fn to_stored(resource: &Resource, home: &Home, mut object: Value) -> Value {
    if let Some(conversion) = &home.conversion {
        conversion.to_stored(&mut object);
    } else if resource.converts() {
        if home.name.group == resource.group {
            crate::codec::convert(resource, &mut object, &resource.version, &home.version);
        } else {
            crate::kinds::events::convert(&mut object, false);
        }
    }
    object.set("apiVersion", home.api_version());
    object.set("kind", home.kind.as_str());
    // the commit gives it
    object.child("metadata").unset("resourceVersion");
    object
}

/// An entry's object in the version of a resource.
pub fn from_entry(resource: &Resource, entry: &Entry) -> Value {
    if let Some(view) = entry.views.get(&resource.version) {
        let mut object: Value = serde_json::from_slice(&view).unwrap_or_default();
        object.set("kind", resource.kind.as_str());
        object.set("apiVersion", resource.api_version());
        return object;
    }
    let mut object = entry.object(&resource.kind, &resource.api_version());
    if let Some(home) = &resource.home {
        out_of_stored(resource, home, &mut object);
    }
    object
}

/// From the home's version to that of a resource, but for `apiVersion` and `kind`.
pub fn out_of_stored(resource: &Resource, home: &Home, object: &mut Value) {
    if !resource.converts() {
        return;
    }
    if let Some(conversion) = &home.conversion {
        object.set("apiVersion", home.api_version());
        conversion.by_name(object, &resource.version);
    } else if home.name.group == resource.group {
        crate::codec::convert(resource, object, &home.version, &resource.version);
    } else {
        crate::kinds::events::convert(object, true);
    }
}

impl Core {
    /// Waits until the caches hold every write acknowledged so far. Returns the revision they stand at.
    pub async fn fresh(&self) -> Result<i64, Status> {
        let mut want = self.progress.committed();
        if !self.config.exclusive_store {
            want = want.max(self.latest.revision(&*self.store).await.map_err(store_error)?);
        }
        self.caught_up(want).await
    }

    /// Waits until the caches stand at a revision.
    pub async fn caught_up(&self, revision: i64) -> Result<i64, Status> {
        if self.progress.reach(revision, CATCH_UP).await {
            return Ok(self.progress.applied());
        }
        Err(too_large_revision(revision, self.progress.applied()))
    }

    /// Waits until a read of these objects may answer for a revision.
    pub async fn reached(&self, home: &Home, revision: i64) -> Result<i64, Status> {
        if !home.unwatched() {
            return self.caught_up(revision).await;
        }
        let applied = self.fresh().await?;
        if revision <= applied {
            return Ok(applied);
        }
        let mut status = too_large_revision(revision, applied);
        if let Some(details) = &mut status.details {
            details.retry_after_seconds = 0;
        }
        Err(status)
    }

    /// The object as of all acknowledged writes.
    pub async fn read(&self, home: &Home, key: &str) -> Result<Option<Arc<Entry>>, Status> {
        self.fresh().await?;
        let found = home.cache.get(key);
        if found.is_none()
            && let Some(why) = home.why_unreadable(key, "")
        {
            return Err(Status::internal(why));
        }
        Ok(found)
    }

    fn prepare(&self, home: &Home, key: &str, object: &Value) -> Result<Prepared, Status> {
        let prefix = Resource::prefix_of(&home.kind, &home.api_version());
        let mut sealed = Ok(());
        let prepared = Prepared::new(Arc::from(key), object, &home.cache.fields, |tail| {
            let plain = crate::codec::encode_stored(home, object, &prefix, tail);
            let Some(encryption) = &self.encryption else { return plain };
            match encryption.seal(&home.name, &home.store_key(key), &plain) {
                Ok(None) => plain,
                Ok(Some(bytes)) => bytes.into(),
                Err(error) => {
                    sealed = Err(Status::internal(error));
                    Bytes::new()
                }
            }
        });
        sealed.map(|()| prepared)
    }

    /// Would the object be stored differently today (under another key, or none)? Asked only where writes that change
    /// nothing must still renew what is stored.
    pub async fn is_stale(&self, home: &Home, key: &str) -> bool {
        let Some(encryption) = &self.encryption else { return false };
        let request = store::RangeRequest::new(store::KeyRange::key(home.store_key(key)));
        let Ok(found) = self.store.range(request).await else { return false };
        found.kvs.first().is_some_and(|kv| {
            encryption.open(&home.name, &home.store_key(key), &kv.value).is_ok_and(|(_, stale)| stale)
        })
    }

    /// Writes a new object or replaces the version `expected` (0: none). The object is in the home's version.
    pub async fn put(
        &self,
        home: &Home,
        key: &str,
        object: &Value,
        expected: i64,
    ) -> Result<Arc<Entry>, Failed> {
        let prepared = self.prepare(home, key, object)?;
        let (value, tail) = (prepared.value.clone(), prepared.tail.clone());
        let (labels, fields) = (prepared.labels.clone(), prepared.fields.clone());
        let lease = match home.ttl {
            Some(ttl) => self.leases.get(&*self.store, ttl).await.map_err(store_error)?,
            None => 0,
        };
        let handoff = home.cache.hand_off(prepared);
        let store_key = Bytes::from(home.store_key(key));
        let outcome = write::update(&*self.store, store_key, value.clone(), lease, expected).await;
        match outcome.map_err(|e| Failed::Status(store_error(e)))? {
            Outcome::Done { revision, .. } => {
                handoff.written();
                self.progress.set_committed(revision);
                let prepared = Prepared { key: Arc::from(key), value, tail, labels, fields };
                Ok(Arc::new(prepared.into_entry(revision)))
            }
            Outcome::Conflict { revision, current } => {
                self.progress.set_committed(revision);
                Err(Failed::Conflict(current.and_then(|kv| self.entry_of(home, key, &kv))))
            }
        }
    }

    /// Deletes the version `expected`.
    pub async fn remove(&self, home: &Home, key: &str, expected: i64) -> Result<i64, Failed> {
        let store_key = Bytes::from(home.store_key(key));
        let outcome = write::delete(&*self.store, store_key, expected).await;
        match outcome.map_err(|e| Failed::Status(store_error(e)))? {
            Outcome::Done { revision, .. } => {
                self.progress.set_committed(revision);
                Ok(revision)
            }
            Outcome::Conflict { revision, current } => {
                self.progress.set_committed(revision);
                Err(Failed::Conflict(current.and_then(|kv| self.entry_of(home, key, &kv))))
            }
        }
    }

    fn entry_of(&self, home: &Home, key: &str, kv: &store::KeyValue) -> Option<Arc<Entry>> {
        let encryption = self.encryption.as_deref();
        let object = crate::cache::feed::read_object(encryption, home, key, &kv.value).ok()?;
        let mut entry = Entry::new(Arc::from(key), kv.mod_revision, &object, &home.cache.fields);
        entry.odd = home.odd_version(&object);
        Some(Arc::new(entry))
    }
}

/// The answer to a read that asks for a revision not yet reached.
pub fn too_large_revision(asked: i64, current: i64) -> Status {
    let mut status = Status::new(
        504,
        "Timeout",
        format!("Timeout: Too large resource version: {asked}, current: {current}"),
    );
    status.details = Some(machinery::status::Details {
        causes: vec![machinery::status::Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }],
        retry_after_seconds: 1,
        ..Default::default()
    });
    status
}
