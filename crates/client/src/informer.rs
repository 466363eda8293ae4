//! One store per kind and process, filled once however many ask for it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource;
use tokio_util::sync::CancellationToken;

use crate::{Cached, Store, reflect};

/// What to list and watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The collection's path, as `/apis/apps/v1/deployments` or `/api/v1/namespaces/x/pods`.
    pub path: String,
    pub labels: Option<String>,
    pub fields: Option<String>,
    /// Ask for objects without spec and status (PartialObjectMetadata).
    pub metadata_only: bool,
}

impl Source {
    /// Every object of a kind, in all namespaces.
    pub fn of<K: Resource<DynamicType = ()>>() -> Self {
        Self::path(K::url_path(&(), None))
    }

    pub fn of_namespace<K: Resource<DynamicType = ()>>(namespace: &str) -> Self {
        Self::path(K::url_path(&(), Some(namespace)))
    }

    pub fn path(path: impl Into<String>) -> Self {
        Self { path: path.into(), labels: None, fields: None, metadata_only: false }
    }

    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    pub fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }

    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let labels = self.labels.iter().map(|s| ("labelSelector", s.clone()));
        labels.chain(self.fields.iter().map(|s| ("fieldSelector", s.clone()))).collect()
    }

    pub(crate) fn uri(&self, query: &[(&'static str, String)]) -> String {
        let mut uri = self.path.clone();
        for (n, (name, value)) in query.iter().enumerate() {
            uri.push(if n == 0 { '?' } else { '&' });
            uri.push_str(name);
            uri.push('=');
            escape(value, &mut uri);
        }
        uri
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn escape(value: &str, to: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(byte as char);
        } else {
            to.push('%');
            to.push(HEX[(byte >> 4) as usize] as char);
            to.push(HEX[(byte & 15) as usize] as char);
        }
    }
}

struct Running {
    store: Box<dyn Any + Send>,
    stop: CancellationToken,
}

struct Shared {
    client: kube::Client,
    running: Mutex<HashMap<(TypeId, Source), Running>>,
    shutdown: CancellationToken,
}

/// Hands out stores; the first to ask for one starts its watch. Cheap to clone.
#[derive(Clone)]
pub struct Informers(Arc<Shared>);

impl Informers {
    /// Watches go through `client` and end with `shutdown`.
    pub fn new(client: kube::Client, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared { client, running: Mutex::default(), shutdown }))
    }

    /// The store of a whole kind. Must be called within a tokio runtime.
    pub fn of<K: Cached + Resource<DynamicType = ()>>(&self) -> Store<K> {
        self.watch(Source::of::<K>())
    }

    /// The store of `source` as objects of type `K`, which may be a slim form of the kind.
    pub fn watch<K: Cached>(&self, source: Source) -> Store<K> {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (TypeId::of::<K>(), source.clone());
        if let Some(store) = running.get(&id).and_then(|r| r.store.downcast_ref::<Store<K>>()) {
            return store.clone();
        }
        let store = Store::<K>::new();
        let stop = self.0.shutdown.child_token();
        running.insert(id, Running { store: Box::new(store.clone()), stop: stop.clone() });
        tokio::spawn(reflect::run(self.0.client.clone(), source, store.clone(), stop));
        store
    }

    /// Ends a watch, for kinds that come and go; its store stays as it is and is no longer handed out.
    pub fn forget<K: Cached>(&self, source: &Source) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = running.remove(&(TypeId::of::<K>(), source.clone())) {
            ended.stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let source = Source::path("/api/v1/pods").fields("spec.nodeName=a").labels("x in (a,b)");
        assert_eq!(
            source.uri(&source.query()),
            "/api/v1/pods?labelSelector=x%20in%20%28a%2Cb%29&fieldSelector=spec.nodeName%3Da"
        );
        assert_eq!(
            Source::of_namespace::<k8s_openapi::api::core::v1::Pod>("x").path,
            "/api/v1/namespaces/x/pods"
        );
    }
}
