//! Field selectors of custom resources whose versions are told apart by a webhook: the fields are those of the version
//! that is asked for, so they are looked at after the conversion, not by the cache.

use std::sync::Arc;

use machinery::Status;

use crate::cache::{Change, Entry, Event};
use crate::kinds::Resource;
use crate::registry::storage;
use crate::select::Selector;
use crate::server::Core;

/// What a selector asks of the fields of one version.
#[derive(Clone)]
pub struct Late {
    resource: Arc<Resource>,
    /// Field requirements only; positions are those of the version's own fields.
    selector: Selector,
}

impl Late {
    /// Takes the field requirements out of a selector that was parsed against the version's own fields.
    pub fn split(resource: &Arc<Resource>, selector: Selector) -> (Selector, Option<Self>) {
        let (early, late) = selector.split_fields();
        (early, late.map(|selector| Self { resource: resource.clone(), selector }))
    }

    /// Drops the entries whose converted objects are not wanted.
    pub async fn keep(&self, core: &Core, entries: &mut Vec<Arc<Entry>>) -> Result<(), Status> {
        crate::crd::prepare_versions(core, &self.resource, entries.iter()).await?;
        entries.retain(|entry| self.wants(entry));
        Ok(())
    }

    /// How a watch with these requirements sees an event that is `change` without them.
    pub async fn change(&self, core: &Core, change: Change, event: &Event) -> Result<Option<Change>, Status> {
        let old = event.old.as_ref().filter(|_| change != Change::Added);
        let new = event.new.as_ref().filter(|_| change != Change::Deleted);
        crate::crd::prepare_versions(core, &self.resource, old.into_iter().chain(new)).await?;
        let wants = |entry: Option<&Arc<Entry>>| entry.is_some_and(|entry| self.wants(entry));
        Ok(Change::of(wants(old), wants(new)))
    }

    fn wants(&self, entry: &Arc<Entry>) -> bool {
        let Some(custom) = &self.resource.custom else { return true };
        let object = storage::from_entry(&self.resource, entry);
        self.selector.fields_match(&custom.selectable.values(&object))
    }
}
