//! Admission: what may change or refuse a write before it is stored. A list of small plugins, in upstream's order.

mod certificates;
mod chain;
mod escalation;
mod events;
mod expressions;
mod hooks;
mod lifecycle;
mod limits;
mod matching;
mod network;
mod nodes;
mod nodes_certificates;
mod owners;
mod placement;
mod podgroup;
mod podsecurity;
mod policy;
mod priority;
mod quota;
mod reinvoke;
mod runtimeclass;
mod seen;
mod serviceaccount;
mod small;
mod storage;
mod tolerations;
mod webhook;

pub use chain::Chain;
pub use hooks::Hooks;
pub use serviceaccount::MIRROR as MIRROR_ANNOTATION;
pub use webhook::{Client, post};

use std::sync::Arc;

use futures_util::future::BoxFuture;
use machinery::{GroupVersionKind, Status, Value};

use crate::cache::Entry;
use crate::kinds::Resource;
use crate::metrics::{Clock, Half};
use crate::registry::Call;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// What is about to happen. Objects are in the call's version.
pub struct Attributes {
    pub operation: Operation,
    pub resource: Arc<Resource>,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub object: Option<Value>,
    pub old: Option<Value>,
    pub dry_run: bool,
    /// What of it was asked before.
    pub reinvocation: reinvoke::Reinvocation,
}

impl Attributes {
    pub fn new(call: &Call, operation: Operation, dry_run: bool) -> Self {
        Self {
            operation,
            resource: call.resource.clone(),
            subresource: call.info.subresource.clone(),
            namespace: call.namespace.clone(),
            name: call.info.name.clone(),
            object: None,
            old: None,
            dry_run,
            reinvocation: reinvoke::Reinvocation::default(),
        }
    }

    /// The kind that the request is about: that of the subresource, if there is one.
    pub fn kind(&self) -> GroupVersionKind {
        matching::kind_of(&self.resource, &self.subresource)
    }

    pub fn is_namespace(&self) -> bool {
        self.resource.group.is_empty() && self.resource.name == "namespaces"
    }

    /// The namespace as hooks know it: a namespace is in itself.
    pub fn hook_namespace(&self) -> &str {
        if self.is_namespace() { &self.name } else { &self.namespace }
    }

    /// Is it about this resource itself (no subresource)?
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.resource.group == group && self.resource.name == resource
    }

    /// The object that the request brings, or nothing.
    pub fn object(&self) -> &Value {
        self.object.as_ref().unwrap_or(&Value::Null)
    }

    pub fn old(&self) -> &Value {
        self.old.as_ref().unwrap_or(&Value::Null)
    }
}

type Mutate = for<'a> fn(&'a mut Call, &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>>;
type Validate = for<'a> fn(&'a mut Call, &'a Attributes) -> BoxFuture<'a, Result<(), Status>>;

/// One admission plugin.
pub struct Plugin {
    pub name: &'static str,
    pub mutate: Option<Mutate>,
    pub validate: Option<Validate>,
}

/// In upstream's order.
static PLUGINS: &[&Plugin] = &[
    &small::PROVISION,
    &lifecycle::PLUGIN,
    &small::EXISTS,
    &placement::ANTI_AFFINITY,
    &limits::PLUGIN,
    &serviceaccount::PLUGIN,
    &nodes::RESTRICTION,
    &nodes::TAINTS,
    &small::PULL,
    &podsecurity::PLUGIN,
    &podgroup::PLUGIN,
    &placement::SELECTOR,
    &priority::PLUGIN,
    &tolerations::PLUGIN,
    &events::PLUGIN,
    &placement::EXTENDED,
    &storage::DEFAULT_CLASS,
    &storage::IN_USE,
    &owners::PLUGIN,
    &storage::RESIZE,
    &runtimeclass::PLUGIN,
    &certificates::APPROVAL,
    &certificates::SIGNING,
    &certificates::ATTEST,
    &certificates::SUBJECT,
    &network::DEFAULT_CLASS,
    &placement::TOPOLOGY,
    &small::EXTERNAL_IPS,
    &policy::MUTATING,
    &webhook::MUTATING,
    &policy::VALIDATING,
    &webhook::VALIDATING,
    &quota::PLUGIN,
    &escalation::PLUGIN,
];

/// The mutating half; once more where a hook changed what others had seen before.
pub async fn mutate(call: &mut Call, attributes: &mut Attributes) -> Result<(), Status> {
    round(call, attributes).await?;
    if attributes.reinvocation.wanted {
        attributes.reinvocation.second = true;
        round(call, attributes).await?;
    }
    Ok(())
}

async fn round(call: &mut Call, attributes: &mut Attributes) -> Result<(), Status> {
    let core = call.core.clone();
    let mut clock = Clock::start(&core.metrics.admission, Half::Admit, attributes.operation);
    for (at, plugin) in core.admission.plugins.iter().enumerate() {
        if let Some(mutate) = plugin.mutate {
            let result = mutate(call, attributes).await;
            clock.plugin(at, plugin.name, result.is_err());
            result?;
        }
    }
    Ok(())
}

/// The validating half, on the object as it will be stored.
pub async fn validate(call: &mut Call, attributes: &Attributes) -> Result<(), Status> {
    let core = call.core.clone();
    let mut clock = Clock::start(&core.metrics.admission, Half::Validate, attributes.operation);
    for (at, plugin) in core.admission.plugins.iter().enumerate() {
        if let Some(validate) = plugin.validate {
            let result = validate(call, attributes).await;
            clock.plugin(at, plugin.name, result.is_err());
            result?;
        }
    }
    Ok(())
}

/// The write went through.
pub fn after_create(_call: &Call, _attributes: &Attributes, _entry: &Entry) {}

/// The write failed after admission had said yes.
pub async fn undo(_call: &Call, _attributes: &Attributes) {}

/// Upstream's refusal by a plugin: the object's resource and name, forbidden.
pub fn forbidden(attributes: &Attributes, why: &str) -> Status {
    let name = match attributes.name.as_str() {
        "" => "Unknown",
        name => name,
    };
    Status::forbidden(&attributes.resource.group_resource(), name, why)
}

/// The object of another resource in the caches.
pub fn cached(call: &Call, group: &str, resource: &str, key: &str) -> Option<Value> {
    let resource = call.core.kinds.now().preferred(group, resource)?;
    let entry = resource.home.as_ref()?.cache.get(key)?;
    Some(crate::registry::storage::from_entry(&resource, &entry))
}

impl Call {
    /// Something that a hook wants in the audit log.
    pub fn annotate(&self, key: &str, value: &str) {
        self.audit.annotate(key, value);
    }
}
