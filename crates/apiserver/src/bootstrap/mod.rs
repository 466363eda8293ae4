//! What a cluster has from its first second: namespaces, roles, priority classes, flow control, the `kubernetes`
//! Service. Made or mended at every start; everything at once, so that the store can commit it together.

mod endpoints;
pub mod flow;
mod objects;
pub mod roles;

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use machinery::{Get, Status, Value, json, meta};

use crate::registry::options::WriteOptions;
use crate::registry::{UpdateRequest, create_object, update_object};
use crate::server::{Core, Error};

/// Who these objects belong to in managedFields.
const MANAGER: &str = "kube-apiserver";

pub fn options() -> WriteOptions {
    WriteOptions { manager: MANAGER.to_owned(), ..WriteOptions::default() }
}

/// Makes everything; the server is ready after this.
pub async fn run(core: &Arc<Core>) -> Result<(), Error> {
    let failed = |status: Status| Error::Bootstrap(status.message);
    // namespaces first: what lies in them needs them
    let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];
    let made = join_all(namespaces.map(|name| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(core, "", "namespaces", object)
    }));
    for result in made.await {
        result.map_err(failed)?;
    }
    core.fresh().await.map_err(failed)?;
    let mut all: Vec<BoxFuture<'_, Result<(), Status>>> = Vec::new();
    for (group, resource, object) in objects::all(core) {
        all.push(ensure(core, group, resource, object).boxed());
    }
    for object in crate::aggregation::local::builtin(&core.kinds.now()) {
        all.push(ensure(core, "apiregistration.k8s.io", "apiservices", object).boxed());
    }
    all.push(flow::ensure_all(core).boxed());
    for (resource, object) in roles::all(&core.features) {
        all.push(roles::reconcile(core, resource, object).boxed());
    }
    for result in join_all(all).await {
        result.map_err(failed)?;
    }
    crate::subresource::services::start(core).await.map_err(failed)?;
    endpoints::start(core).await.map_err(failed)?;
    put(core, "coordination.k8s.io", "leases", crate::identity::lease(core)).await.map_err(failed)?;
    core.fresh().await.map_err(failed)?;
    crate::flow::start(core);
    // what happened before now is nobody's history
    for home in core.kinds.now().homes() {
        home.cache.forget_before(core.progress.applied());
    }
    Ok(())
}

/// Creates the object if it is not there.
pub async fn ensure(core: &Arc<Core>, group: &str, resource: &str, object: Value) -> Result<(), Status> {
    let Some(resource) = core.kinds.now().preferred(group, resource) else { return Ok(()) };
    let (namespace, name) = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
    let Some(home) = resource.home.clone() else { return Ok(()) };
    if home.cache.get(&home.local_key(&namespace, &name)).is_some() {
        return Ok(());
    }
    let mut call = core.internal_call(resource, "create", &namespace, "");
    match create_object(&mut call, object, &options(), None).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        Err(status) => Err(status),
    }
}

/// Creates the object, or makes everything but its metadata so.
async fn put(core: &Arc<Core>, group: &str, resource: &str, object: Value) -> Result<(), Status> {
    ensure(core, group, resource, object.clone()).await?;
    let Some(resource) = core.kinds.now().preferred(group, resource) else { return Ok(()) };
    let (namespace, name) = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
    let mut call = core.internal_call(resource, "update", &namespace, &name);
    let options = options();
    let request = UpdateRequest {
        options: &options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |call, old| {
            let mut new = object.clone();
            let mut metadata = old.at("metadata").clone();
            if let Some(labels) = object.at("metadata").get("labels") {
                metadata.set("labels", labels.clone());
            }
            new.set("metadata", metadata);
            (call.resource.strategy.default)(&mut new, &call.context());
            Ok(new)
        },
    };
    update_object(&mut call, request).await.map(|_| ())
}
