//! May they: system:masters, then the Node authorizer, then RBAC, as `--authorization-mode=Node,RBAC`.

mod node;
pub mod rbac;
mod rules;

pub use rules::{Grant, Rule};

use std::sync::Arc;

use machinery::field::go_quote;
use machinery::{GroupResource, Status};
use parking_lot::Mutex;

use crate::authn::User;
use crate::front::RequestInfo;
use crate::server::Core;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    pub is_resource: bool,
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// For what is not a resource.
    pub path: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(info: &'a RequestInfo) -> Self {
        Self {
            is_resource: info.is_resource,
            verb: &info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
        }
    }
}

/// Compiled rules, renewed when the RBAC objects have changed.
#[derive(Default)]
pub struct Authz {
    index: Mutex<Option<Arc<rbac::Index>>>,
}

/// Ok, or why not (RBAC's reason, often empty).
pub fn check(core: &Core, user: &User, attributes: &Attributes) -> Result<(), String> {
    decide(core, user, attributes).map(|_| ())
}

/// The reason why it is allowed, or why not.
pub fn decide(core: &Core, user: &User, attributes: &Attributes) -> Result<String, String> {
    if user.is_in("system:masters") {
        return Ok(String::new());
    }
    if let Some(node) = user.node() {
        if let Some(answer) = node::decide(core, node, attributes) {
            return answer.map(|()| String::new());
        }
    }
    index(core).decide(user, attributes)
}

pub fn index(core: &Core) -> Arc<rbac::Index> {
    let mut slot = core.authz.index.lock();
    let version = rbac::version(core);
    if let Some(index) = slot.as_ref().filter(|i| i.version == version) {
        return index.clone();
    }
    let index = Arc::new(rbac::Index::build(core, version, slot.as_deref()));
    *slot = Some(index.clone());
    index
}

/// Authorizes a request.
pub fn permit(core: &Core, user: &User, info: &RequestInfo) -> Result<(), Status> {
    let attributes = Attributes::of(info);
    check(core, user, &attributes).map_err(|why| {
        let about = GroupResource::new(attributes.group, attributes.resource);
        forbidden(user, &attributes, &about, &why)
    })
}

/// Upstream's words for a refusal.
pub fn forbidden(user: &User, attributes: &Attributes, about: &GroupResource, why: &str) -> Status {
    let mut text = describe(user, attributes);
    if !why.is_empty() {
        text.push_str(&format!(": {why}"));
    }
    if !attributes.is_resource {
        return Status::forbidden(&GroupResource::default(), "", &text);
    }
    Status::forbidden(about, attributes.name, &text)
}

fn describe(user: &User, a: &Attributes) -> String {
    let name = go_quote(&user.name);
    if !a.is_resource {
        return format!("User {name} cannot {} path {}", a.verb, go_quote(a.path));
    }
    let resource = if a.subresource.is_empty() {
        a.resource.to_owned()
    } else {
        format!("{}/{}", a.resource, a.subresource)
    };
    let place = if a.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {}", go_quote(a.namespace))
    };
    format!(
        "User {name} cannot {} resource {} in API group {} {place}",
        a.verb,
        go_quote(&resource),
        go_quote(a.group)
    )
}
