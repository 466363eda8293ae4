//! Other API servers behind this one: APIService objects say which group-versions they serve.
//! <https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/>
//!
//! [`local`] makes the objects of what this server serves itself, [`available`] decides whether a remote one can be
//! used, [`backend`] talks to it, [`proxy`] hands requests on, [`follow`] is the one task that keeps all of it current.
//! [`Aggregator`] is what requests look at: the current [`Routes`].

mod available;
mod backend;
mod follow;
pub mod local;
mod order;
mod proxy;

pub use follow::start;
pub use order::groups;
pub use proxy::{fetch_openapi, intercept};

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use machinery::Value;
use parking_lot::RwLock;

use backend::Backend;

/// What is served elsewhere, as of now.
#[derive(Default)]
pub struct Aggregator(RwLock<Arc<Routes>>);

/// Remote group-versions by group and version.
#[derive(Default)]
pub struct Routes {
    pub remotes: BTreeMap<(String, String), Arc<Remote>>,
}

/// One remote group-version.
pub struct Remote {
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    pub available: bool,
    pub known: Arc<Known>,
    backend: Arc<Backend>,
}

/// What the remote server last said of itself.
#[derive(Default)]
pub struct Known {
    /// `APIResourceDiscovery` items.
    pub resources: Vec<Value>,
    /// The last attempt to ask it worked.
    pub current: bool,
    /// The hash of its OpenAPI v3 document of this group-version; `None` if there is none.
    pub openapi: Option<String>,
    /// Its OpenAPI v2 document, deflated.
    pub openapi_v2: Option<Bytes>,
}

impl Aggregator {
    pub fn now(&self) -> Arc<Routes> {
        self.0.read().clone()
    }

    fn replace(&self, routes: Routes) {
        *self.0.write() = Arc::new(routes);
    }
}

impl Routes {
    pub fn find(&self, group: &str, version: &str) -> Option<&Arc<Remote>> {
        if self.remotes.is_empty() {
            return None;
        }
        self.remotes.get(&(group.to_owned(), version.to_owned()))
    }
}
