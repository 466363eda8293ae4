//! NamespaceLifecycle: nothing is made in a namespace that is not there or is ending; the system's namespaces stay.

use futures_util::FutureExt;
use machinery::{Get, GroupResource, Status, meta};

use super::{Attributes, Operation, Plugin};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "NamespaceLifecycle",
    mutate: Some(|call, attributes| admit(call, attributes).boxed()),
    validate: None,
};

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

async fn admit(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    let is_namespace = a.resource.group.is_empty() && a.resource.name == "namespaces";
    if a.operation == Operation::Delete && is_namespace && IMMORTAL.contains(&a.name.as_str()) {
        let about = GroupResource::new("", "namespaces");
        return Err(Status::forbidden(&about, &a.name, "this namespace may not be deleted"));
    }
    let always_allowed = a.resource.group == "authorization.k8s.io";
    if is_namespace || a.namespace.is_empty() || a.operation != Operation::Create || always_allowed {
        return Ok(());
    }
    let namespaces = call.core.kinds.now().find("", "v1", "namespaces");
    let Some(home) = namespaces.and_then(|r| r.home.clone()) else { return Ok(()) };
    let entry = match home.cache.get(&a.namespace) {
        Some(entry) => Some(entry),
        None => call.core.read(&home, &a.namespace).await?,
    };
    let Some(entry) = entry else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), &a.namespace));
    };
    if !entry.says("\"phase\":\"Terminating\"") && !entry.says("\"deletionTimestamp\":\"") {
        return Ok(());
    }
    let namespace = entry.parse();
    if namespace.at("status").text("phase") != "Terminating" && !meta::is_deleting(&namespace) {
        return Ok(());
    }
    let about = a.resource.group_resource();
    let why =
        format!("unable to create new content in namespace {} because it is being terminated", a.namespace);
    let mut status = Status::forbidden(&about, &a.name, &why);
    if let Some(details) = &mut status.details {
        details.causes.push(machinery::status::Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {} is being terminated", a.namespace),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}
