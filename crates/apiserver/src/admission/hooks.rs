//! Configurations of hooks and policies, parsed and compiled once for each version of them.

use std::sync::Arc;

use machinery::Value;
use parking_lot::Mutex;

use super::policy::{Binding, Policy};
use super::webhook::Webhook;
use crate::server::Core;

pub const GROUP: &str = "admissionregistration.k8s.io";

/// What is made of each kind of configuration.
#[derive(Default)]
pub struct Hooks {
    pub mutating_webhooks: Slot<Webhook>,
    pub validating_webhooks: Slot<Webhook>,
    pub mutating_policies: Slot<Policy>,
    pub mutating_bindings: Slot<Binding>,
    pub validating_policies: Slot<Policy>,
    pub validating_bindings: Slot<Binding>,
}

/// All of one kind, in the order of their names.
pub struct Slot<T>(Mutex<Made<T>>);

type Made<T> = Vec<(Arc<str>, i64, Arc<Vec<T>>)>;

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Slot<T> {
    /// As of now. Costs nothing while there are none, little while none has changed.
    pub fn now(&self, core: &Core, resource: &str, make: impl Fn(&Value) -> Vec<T>) -> Vec<Arc<Vec<T>>> {
        let home = core.kinds.now().preferred(GROUP, resource).and_then(|r| r.home.clone());
        let Some(home) = home.filter(|h| !h.cache.is_empty()) else { return Vec::new() };
        let (snapshot, _) = home.cache.snapshot();
        let mut made = self.0.lock();
        let same = made.len() == snapshot.len()
            && made
                .iter()
                .zip(snapshot.values())
                .all(|((key, rev, _), e)| *key == e.key && *rev == e.revision);
        if !same {
            let old = std::mem::take(&mut *made);
            *made = snapshot
                .values()
                .map(|entry| {
                    let kept = old.iter().find(|(key, rev, _)| *key == entry.key && *rev == entry.revision);
                    let all = kept.map_or_else(|| Arc::new(make(&entry.parse())), |(_, _, all)| all.clone());
                    (entry.key.clone(), entry.revision, all)
                })
                .collect();
        }
        made.iter().map(|(_, _, all)| all.clone()).collect()
    }
}
