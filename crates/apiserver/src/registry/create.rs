//! POST: from a body to a stored object.

use std::sync::Arc;

use machinery::field::go_quote;
use machinery::{Get, Status, Value, meta};

use super::options::{WriteOptions, write_options};
use super::storage::{Failed, to_stored};
use super::{Call, decode_body, encode, fields, read_body};
use crate::admission::{self, Attributes, Operation};
use crate::cache::Entry;
use crate::front::body::Incoming;
use crate::front::negotiate::{Encoding, Offer};
use crate::front::respond::Answer;
use crate::kinds::Resource;

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let accepted = call.accept(Offer::OBJECT)?;
    // what can't be read is not taken
    Encoding::of_body(&call.headers, call.core.cbor)?;
    let options = write_options(call, "CreateOptions", false)?;
    let body = read_body(call, body).await?;
    let want = call.resource.gvk();
    let object = decode_body(call, &body, &want, options.strictness)?;
    let entry = create(call, object, &options).await?;
    encode::entry_answer(call, 201, &entry, &accepted)
}

/// Creates an object of the call's resource, with all that belongs to it.
pub async fn create(call: &mut Call, object: Value, options: &WriteOptions) -> Result<Arc<Entry>, Status> {
    create_object(call, object, options, None).await
}

/// `fields_done`: managedFields are already as they should be (apply), else the manager's name is in the options.
pub async fn create_object(
    call: &mut Call,
    mut object: Value,
    options: &WriteOptions,
    fields_done: Option<()>,
) -> Result<Arc<Entry>, Status> {
    if !object.at("metadata").is_object() {
        object.set("metadata", machinery::json!({}));
    }
    let resource = call.resource.clone();
    if resource.custom.as_ref().is_some_and(|c| c.terminating) {
        let mut status = Status::method_not_supported(&call.gr(), "create");
        status.message = "create not allowed while custom resource definition is terminating".into();
        return Err(status);
    }
    check_namespace(call, &mut object)?;
    dedup_owners(call, &mut object);
    (resource.strategy.default)(&mut object, &call.context_for(""));
    if fields_done.is_none() {
        fields::on_write(call, None, &mut object, &options.manager);
    }
    let mut attributes = Attributes::new(call, Operation::Create, options.dry_run);
    attributes.name = meta::name(&object).to_owned();
    attributes.object = Some(object);
    admission::mutate(call, &mut attributes).await?;
    let mut object = attributes.object.take().unwrap_or_default();
    let generated = fill_system_fields(call, &mut object);
    let reserved = crate::subresource::services::before_create(call, &mut object, options.dry_run).await?;
    before_create(call, &resource, &mut object)?;
    attributes.name = meta::name(&object).to_owned();
    attributes.object = Some(object);
    admission::validate(call, &attributes).await?;
    let object = attributes.object.take().unwrap_or_default();
    let created = store_new(call, &resource, object, options, generated).await;
    match &created {
        Ok(entry) => {
            crate::crd::prepare_versions(&call.core, &resource, [entry]).await?;
            reserved.keep().await;
            crate::crd::after_write(call, entry).await;
            admission::after_create(call, &attributes, entry);
        }
        Err(_) => {
            drop(reserved);
            admission::undo(call, &attributes).await;
        }
    }
    created
}

async fn store_new(
    call: &Call,
    resource: &Resource,
    mut object: Value,
    options: &WriteOptions,
    generated: bool,
) -> Result<Arc<Entry>, Status> {
    let home = call.home()?;
    let version = object.child("metadata").unset("resourceVersion");
    if !options.dry_run && version.and_then(|v| v.as_str()?.parse::<u64>().ok()).is_some_and(|v| v > 0) {
        // upstream returns this error bare
        return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    normalize(call, &mut object);
    let object = crate::crd::to_storage(call, object).await?;
    let name = meta::name(&object).to_owned();
    let key = home.local_key(&call.namespace, &name);
    let stored = to_stored(resource, home, object);
    let exists = || {
        let mut status = Status::already_exists(&call.gr(), &name);
        if generated {
            status = Status::already_exists(&call.gr(), &name);
            status.message = format!(
                "{} {} already exists, the server was not able to generate a unique name for the object",
                call.gr(),
                go_quote(&name)
            );
        }
        status
    };
    if options.dry_run {
        if call.core.read(home, &key).await?.is_some() {
            return Err(exists());
        }
        return Ok(Arc::new(dry(&key, &stored, 0, home)));
    }
    match call.core.put(home, &key, &stored, 0).await {
        Ok(entry) => Ok(entry),
        Err(Failed::Conflict(found)) => {
            if found.is_some_and(|e| meta::is_deleting(&e.parse())) && !generated {
                let mut status = exists();
                status.message = format!("object is being deleted: {}", status.message);
                return Err(status);
            }
            Err(exists())
        }
        Err(Failed::Status(status)) => Err(status),
    }
}

/// What a dry run answers: the object as it would be, with the version it had (none for a new one).
pub fn dry(key: &str, stored: &Value, revision: i64, home: &crate::kinds::Home) -> Entry {
    let mut entry = Entry::new(Arc::from(key), revision, stored, &home.cache.fields);
    if revision == 0 {
        entry.forget_revision();
    }
    entry
}

/// The wire form: what upstream's types always write, and nothing they do not.
pub fn normalize(call: &Call, object: &mut Value) {
    match &call.resource.custom {
        // what admission has put in may be unknown to the schema
        Some(custom) => custom.prune(object),
        None => crate::codec::normalize(&call.resource.gvk(), object),
    }
}

pub fn check_namespace(call: &Call, object: &mut Value) -> Result<(), Status> {
    let given = meta::namespace(object);
    if given.is_empty() {
        if call.resource.namespaced {
            object.child("metadata").set("namespace", call.namespace.as_str());
        }
        return Ok(());
    }
    if !call.resource.namespaced {
        object.child("metadata").unset("namespace");
        return Ok(());
    }
    if given != call.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Drops repeated owner references, with upstream's warning.
pub fn dedup_owners(call: &mut Call, object: &mut Value) {
    let Some(Value::Array(owners)) = object.child("metadata").get_mut("ownerReferences") else { return };
    let before = owners.len();
    let mut seen: Vec<Value> = Vec::new();
    let mut repeated = Vec::new();
    owners.retain(|owner| {
        let new = !seen.contains(owner);
        if new {
            seen.push(owner.clone());
        } else if !repeated.contains(&owner.text("uid").to_owned()) {
            repeated.push(owner.text("uid").to_owned());
        }
        new
    });
    if owners.len() < before {
        for uid in repeated {
            call.warnings.push(format!(".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uid}"));
        }
    }
}

/// Name (if it is to be generated), uid, creation time. True if the name was generated.
fn fill_system_fields(call: &Call, object: &mut Value) -> bool {
    let metadata = object.child("metadata");
    metadata.set("uid", fields::new_uid());
    metadata.set("creationTimestamp", fields::timestamp(call.now));
    metadata.unset("deletionTimestamp");
    metadata.unset("deletionGracePeriodSeconds");
    metadata.unset("selfLink");
    let prefix = metadata.text("generateName").to_owned();
    let generated = metadata.text("name").is_empty() && !prefix.is_empty();
    if generated {
        metadata.set("name", fields::generate_name(&prefix));
    }
    generated
}

fn before_create(call: &mut Call, resource: &Resource, object: &mut Value) -> Result<(), Status> {
    let warnings = {
        let context = call.context_for("");
        let strategy = resource.strategy;
        if let Some(custom) = &resource.custom {
            custom.prepare_create(object);
        }
        (strategy.prepare_create)(object, &context);
        let mut errors = (strategy.validate)(object, &context);
        if let Some(custom) = &resource.custom {
            let rule = machinery::names::is_dns_subdomain_name;
            errors.extend(resources::objectmeta::validate_generic(object, resource.namespaced, rule));
            errors.extend(custom.validate(object, None, "").errors);
        } else if errors.is_empty() {
            errors = resources::objectmeta::validate_generic(
                object,
                resource.namespaced,
                resources::names::path_segment,
            );
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&super::invalid_kind(resource, object), meta::name(object), &errors));
        }
        (strategy.warnings)(object, None, &context)
    };
    call.warnings.extend(warnings);
    Ok(())
}
