//! The generic registry: what every resource can do, with nothing known about any.

mod create;
mod decode;
mod delete;
mod delete_many;
mod encode;
pub mod fields;
mod get;
mod late;
pub mod leases;
mod list;
pub mod options;
pub mod patch;
mod reads;
pub mod storage;
mod table;
mod token;
mod update;
mod watch;

pub use create::{check_namespace, create_object};
pub use decode::{decode_body, read_body};
pub use delete::{DeleteOptions, delete_object};
pub mod delete_plan {
    //! For kinds that are deleted in their own way.
    pub use super::delete::{Plan, set_finalizers};
}
pub use encode::object_answer;
pub use get::current;
pub use update::{UpdateRequest, Updated, check_name, update_object};

use std::sync::Arc;

use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use machinery::{GroupResource, Status, Value};

use crate::authn::User;
use crate::front::negotiate::{Accepted, Offer, negotiate};
use crate::front::respond::Answer;
use crate::front::{Incoming, Query, RequestInfo};
use crate::kinds::{Home, Resource};
use crate::server::Core;

/// One request for a resource, on its way through.
pub struct Call {
    pub core: Arc<Core>,
    pub resource: Arc<Resource>,
    pub info: RequestInfo,
    /// "" for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    pub query: Query,
    pub headers: HeaderMap,
    pub method: Method,
    pub uri: Uri,
    pub extensions: http::Extensions,
    pub user: Arc<User>,
    pub audit: crate::audit::Audit,
    pub warnings: Vec<String>,
    pub now: Timestamp,
}

impl Call {
    pub fn gr(&self) -> GroupResource {
        self.resource.group_resource()
    }

    pub fn name(&self) -> &str {
        &self.info.name
    }

    pub fn home(&self) -> Result<&Arc<Home>, Status> {
        self.resource.home.as_ref().ok_or_else(|| crate::front::respond::generic(405))
    }

    /// What strategies may know.
    pub fn context(&self) -> resources::Context<'_> {
        self.context_for(&self.info.subresource)
    }

    pub fn context_for<'a>(&'a self, subresource: &'a str) -> resources::Context<'a> {
        resources::Context {
            now: self.now,
            version: &self.resource.version,
            subresource,
            user: resources::User {
                name: &self.user.name,
                uid: &self.user.uid,
                groups: &self.user.groups,
                extra: self.user.extra_value(),
            },
            features: &self.core.features,
        }
    }

    /// The encoding and shape that the client wants its answer in.
    pub fn accept(&self, offer: Offer) -> Result<Accepted, Status> {
        let tables =
            offer.tables && table::has(&self.resource.group, &self.info.resource, &self.info.subresource);
        let offer = Offer { custom: self.resource.custom.is_some(), cbor: self.core.cbor, tables, ..offer };
        negotiate(&self.headers, self.query.get("pretty"), offer)
    }

    /// The key of the object that the path names.
    pub fn key(&self) -> Result<String, Status> {
        let home = self.home()?;
        Ok(home.local_key(&self.namespace, self.name()))
    }

    /// A call for another resource on behalf of the same user (no request of its own).
    pub fn for_resource(&self, resource: Arc<Resource>, verb: &str, namespace: &str, name: &str) -> Call {
        let info = RequestInfo {
            is_resource: true,
            path: self.info.path.clone(),
            verb: verb.to_owned(),
            prefix: self.info.prefix.clone(),
            group: resource.group.clone(),
            version: resource.version.clone(),
            namespace: namespace.to_owned(),
            resource: resource.name.clone(),
            subresource: String::new(),
            name: name.to_owned(),
            parts: Vec::new(),
        };
        Call {
            core: self.core.clone(),
            resource,
            info,
            namespace: namespace.to_owned(),
            query: Query::default(),
            headers: HeaderMap::new(),
            method: self.method.clone(),
            uri: Uri::default(),
            extensions: http::Extensions::new(),
            user: self.user.clone(),
            audit: self.audit.clone(),
            warnings: Vec::new(),
            now: self.now,
        }
    }
}

impl Core {
    /// A call that the server makes by itself, as an administrator that admission does not hinder.
    pub fn internal_call(
        self: &Arc<Self>,
        resource: Arc<Resource>,
        verb: &str,
        namespace: &str,
        name: &str,
    ) -> Call {
        let info = RequestInfo {
            is_resource: true,
            verb: verb.to_owned(),
            group: resource.group.clone(),
            version: resource.version.clone(),
            namespace: namespace.to_owned(),
            resource: resource.name.clone(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("kube-apiserver"));
        Call {
            core: self.clone(),
            resource,
            info,
            namespace: namespace.to_owned(),
            query: Query::default(),
            headers,
            method: Method::POST,
            uri: Uri::default(),
            extensions: http::Extensions::new(),
            user: Arc::new(User::apiserver()),
            audit: crate::audit::Audit::default(),
            warnings: Vec::new(),
            now: Timestamp::now(),
        }
    }
}

/// Answers a request for a resource itself.
pub async fn run(call: &mut Call, verb: &str, body: Incoming) -> Result<Answer, Status> {
    if call.resource.home.is_none() {
        return crate::subresource::virtual_resource(call, verb, body).await;
    }
    match verb {
        "get" => get::answer(call).await,
        "list" => list::answer(call).await,
        "watch" => watch::answer(call).await,
        "create" => create::answer(call, body).await,
        "update" => update::answer(call, body).await,
        "patch" => patch::answer(call, body).await,
        "delete" => delete::answer(call, body).await,
        "deletecollection" => delete_many::answer(call, body).await,
        _ => Err(crate::front::respond::generic(405)),
    }
}

/// The same for a subresource that is a view of the whole object (status, and others that strategies tell apart).
pub async fn run_view(call: &mut Call, verb: &str, body: Incoming) -> Result<Answer, Status> {
    match verb {
        "get" => get::answer(call).await,
        "update" => update::answer(call, body).await,
        "patch" => patch::answer(call, body).await,
        _ => Err(crate::front::respond::generic(405)),
    }
}

/// `metadata.resourceVersion` or "" as a number; upstream's error if it is not one.
pub fn parse_revision(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse::<u64>().map(|n| n as i64).map_err(|e| {
        let why = match e.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let quoted = machinery::field::go_quote(text);
        format!("resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: {why}")
    })
}

/// The kind that an invalid object is said to be of: custom ones are what they say themselves.
fn invalid_kind(resource: &crate::kinds::Resource, object: &Value) -> machinery::GroupKind {
    let mut kind = resource.stored_kind();
    let said = machinery::Get::text(object, "kind");
    if resource.custom.is_some() && !said.is_empty() {
        kind.kind = said.to_owned();
    }
    kind
}
