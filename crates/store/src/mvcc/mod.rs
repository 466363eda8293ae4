//! Multi-version bookkeeping that the memory and the embedded engine share: index, transactions, watches, leases.
//!
//! What it does not know: where values lie. An engine says so by its slot type and [`Read`]/[`Write`].

mod hub;
mod index;
mod lease;
mod read;
mod txn;

pub(crate) use hub::{Commit, Hub, Watcher};
pub(crate) use index::{Changed, Index, Version, Versions};
pub(crate) use lease::Leases;
pub(crate) use read::range;
pub(crate) use txn::{Applied, execute, revoke};

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::Result;

/// Fetches the value a slot stands for.
pub(crate) trait Read<S> {
    fn read(&self, key: &[u8], version: &Version<S>) -> Result<Bytes>;
}

/// Where a transaction's changes go before they are indexed.
pub(crate) trait Write<S>: Read<S> {
    /// `version.slot` is not yet meaningful; a tombstone has `version.version == 0` and an empty value.
    fn write(&mut self, key: &Bytes, value: &Bytes, version: &Version<S>) -> S;
}

/// What range and watch need of an engine.
pub(crate) trait Engine: Send + Sync + 'static {
    type Slot: Clone + Default + Send + Sync + 'static;
    type Reader: Read<Self::Slot> + Send + 'static;

    fn index(&self) -> &RwLock<Index<Self::Slot>>;
    fn hub(&self) -> &Hub;
    /// A reader for slots seen in the index while its lock is held; it stays good after the lock is released.
    fn reader(&self) -> Self::Reader;
    /// Whether reading many values may block on a disk.
    const BLOCKS: bool;
}

// A panic while a lock is held leaves data that each holder re-validates; going on beats poisoning every reader.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn shared<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn exclusive<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
