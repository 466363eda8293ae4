//! PUT, and the loop that every change of an existing object goes through.

use std::sync::Arc;

use machinery::field::{self, Path, go_quote};
use machinery::{Get, Status, Value, meta};

use super::create::{create_object, dedup_owners, dry, normalize};
use super::options::{WriteOptions, write_options};
use super::storage::{Failed, from_entry, to_stored};
use super::{Call, decode_body, encode, fields, read_body};
use crate::admission::{self, Attributes, Operation};
use crate::cache::Entry;
use crate::front::body::Incoming;
use crate::front::negotiate::Offer;
use crate::front::respond::Answer;

/// Rounds of a change that loses against others before it is given up as a conflict.
const ROUNDS: usize = 12;

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let accepted = call.accept(Offer::OBJECT)?;
    super::get::check_name(call)?;
    let options = write_options(call, "UpdateOptions", false)?;
    let body = read_body(call, body).await?;
    let want = call.resource.gvk();
    let mut object = decode_body(call, &body, &want, options.strictness)?;
    if !object.at("metadata").is_object() {
        object.set("metadata", machinery::json!({}));
    }
    check_name(call, &mut object)?;
    let default = call.resource.strategy.default;
    default(&mut object, &call.context());
    let uid = meta::uid(&object).to_owned();
    let updated = update_object(
        call,
        UpdateRequest {
            options: &options,
            uid: (!uid.is_empty()).then_some(uid),
            may_create: call.info.subresource.is_empty() && call.resource.strategy.create_on_update,
            fields_done: false,
            change: &mut |_, _| Ok(object.clone()),
        },
    )
    .await?;
    encode::entry_answer(call, if updated.created { 201 } else { 200 }, &updated.entry, &accepted)
}

/// The name and namespace of the object must be those of the path.
pub fn check_name(call: &Call, object: &mut Value) -> Result<(), Status> {
    let name = meta::name(object);
    if !name.is_empty() && name != call.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    if name.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name()
        )));
    }
    let namespace = meta::namespace(object);
    if !call.namespace.is_empty() && !namespace.is_empty() && namespace != call.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if call.resource.namespaced && namespace.is_empty() {
        object.child("metadata").set("namespace", call.namespace.as_str());
    }
    super::patch::drop_namespace(call, object);
    Ok(())
}

/// A change of one object.
pub struct UpdateRequest<'a> {
    pub options: &'a WriteOptions,
    /// The object must have this uid.
    pub uid: Option<String>,
    /// Make it if it is not there (`change` is given null then).
    pub may_create: bool,
    /// `change` takes care of managedFields itself.
    pub fields_done: bool,
    /// From the current object to the new one, defaulted, both in the call's version; run again when others were
    /// faster.
    pub change: &'a mut (dyn FnMut(&mut Call, &Value) -> Result<Value, Status> + Send),
}

pub struct Updated {
    pub entry: Arc<Entry>,
    pub created: bool,
}

fn conflict(call: &Call) -> Status {
    Status::conflict(
        &call.gr(),
        call.name(),
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

/// Changes the object of the call's path: change, admit, prepare, validate, store; again if others were faster.
pub async fn update_object(call: &mut Call, mut request: UpdateRequest<'_>) -> Result<Updated, Status> {
    let home = call.home()?.clone();
    let key = call.key()?;
    let warnings_before = call.warnings.len();
    let mut current = call.core.read(&home, &key).await?;
    for _ in 0..ROUNDS {
        call.warnings.truncate(warnings_before);
        let Some(entry) = current else {
            if !request.may_create {
                return Err(Status::not_found(&call.gr(), call.name()));
            }
            return create_instead(call, &mut request).await;
        };
        match round(call, &mut request, &home, &key, &entry).await {
            Ok(updated) => return Ok(updated),
            Err(Failed::Status(status)) => return Err(status),
            Err(Failed::Conflict(found)) => current = found,
        }
    }
    Err(conflict(call))
}

async fn create_instead(call: &mut Call, request: &mut UpdateRequest<'_>) -> Result<Updated, Status> {
    let mut object = (request.change)(call, &Value::Null)?;
    if let Some(uid) = &request.uid {
        return Err(Status::conflict(
            &call.gr(),
            call.name(),
            &format!("Precondition failed: UID in precondition: {uid}, UID in object meta: "),
        ));
    }
    object.child("metadata").unset("resourceVersion");
    let done = request.fields_done.then_some(());
    let entry = create_object(call, object, request.options, done).await?;
    Ok(Updated { entry, created: true })
}

async fn round(
    call: &mut Call,
    request: &mut UpdateRequest<'_>,
    home: &Arc<crate::kinds::Home>,
    key: &str,
    entry: &Arc<Entry>,
) -> Result<Updated, Failed> {
    let resource = call.resource.clone();
    let options = request.options;
    crate::crd::prepare_versions(&call.core, &resource, [entry]).await?;
    let old = from_entry(&resource, entry);
    if let Some(uid) = request.uid.as_deref().filter(|uid| *uid != meta::uid(&old)) {
        let at = home.store_key(key);
        // a dry run does not get as far as the store
        let at = if options.dry_run { at.strip_prefix("/registry").unwrap_or(&at) } else { &at };
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {at}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(&old)
        );
        return Err(Status::conflict(&call.gr(), call.name(), &why).into());
    }
    let mut new = (request.change)(call, &old)?;
    check_revision(call, &new, entry)?;
    dedup_owners(call, &mut new);
    if !request.fields_done {
        fields::on_write(call, Some(&old), &mut new, &options.manager);
    }
    let mut attributes = Attributes::new(call, Operation::Update, options.dry_run);
    attributes.old = Some(old);
    attributes.object = Some(new);
    admission::mutate(call, &mut attributes).await?;
    let mut new = attributes.object.take().unwrap_or_default();
    let old = attributes.old.take().unwrap_or_default();
    let reserved = crate::subresource::services::before_update(call, &mut new, &old, options.dry_run).await?;
    before_update(call, &mut new, &old)?;
    attributes.old = Some(old);
    attributes.object = Some(new);
    admission::validate(call, &attributes).await?;
    let mut new = attributes.object.take().unwrap_or_default();
    let old = attributes.old.take().unwrap_or_default();
    normalize(call, &mut new);
    fields::keep_times_of_no_change(&old, &mut new);
    let deletes = crate::subresource::namespaces::deletes_on_update(call, &new, &old)
        .unwrap_or_else(|| should_delete(&new, &old));
    if !deletes && same(&new, &old) && !call.core.is_stale(home, key).await {
        return Ok(Updated { entry: entry.clone(), created: false });
    }
    let new = crate::crd::to_storage(call, new).await?;
    let stored = to_stored(&resource, home, new);
    if options.dry_run {
        let entry = Arc::new(dry(key, &stored, entry.revision, home));
        return Ok(Updated { entry, created: false });
    }
    if deletes {
        call.core.remove(home, key, entry.revision).await?;
        reserved.keep().await;
        crate::subresource::services::after_delete(call, || stored.clone()).await;
        let gone = Entry::new(Arc::from(key), entry.revision, &stored, &home.cache.fields);
        return Ok(Updated { entry: Arc::new(gone), created: false });
    }
    match call.core.put(home, key, &stored, entry.revision).await {
        Ok(entry) => {
            reserved.keep().await;
            crate::crd::prepare_versions(&call.core, &resource, [&entry]).await?;
            crate::crd::after_write(call, &entry).await;
            Ok(Updated { entry, created: false })
        }
        Err(error) => Err(error),
    }
}

/// Equal but for the resource version, which the client may have left out.
fn same(new: &Value, old: &Value) -> bool {
    let metadata =
        |v: &Value| v.map("metadata").into_iter().flatten().filter(|(k, _)| *k != "resourceVersion").count();
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else { return false };
    a.len() == b.len()
        && metadata(new) == metadata(old)
        && a.iter().all(|(key, value)| match key.as_str() {
            "metadata" => value.as_object().is_some_and(|m| {
                m.iter().all(|(k, v)| k == "resourceVersion" || old.at("metadata").get(k) == Some(v))
            }),
            "kind" | "apiVersion" => true,
            key => b.get(key) == Some(value),
        })
}

fn check_revision(call: &Call, new: &Value, entry: &Entry) -> Result<(), Failed> {
    let given = meta::resource_version(new);
    if given.is_empty() || given == "0" {
        let scale = call.info.subresource == "scale";
        if call.resource.strategy.unconditional_update || scale || call.info.verb != "update" {
            return Ok(());
        }
        let error = field::Error::invalid(
            &Path::new("metadata").child("resourceVersion"),
            Value::from(0),
            "must be specified for an update",
        );
        // upstream names the resource here, not the kind
        let gr = call.gr();
        let about = machinery::GroupKind { group: gr.group, kind: gr.resource };
        return Err(Status::invalid(&about, call.name(), &[error]).into());
    }
    let Ok(given) = given.parse::<u64>() else {
        // upstream returns this error bare
        let why = format!("strconv.ParseUint: parsing {}: invalid syntax", go_quote(given));
        return Err(Status::new(500, "", why).into());
    };
    if given as i64 != entry.revision {
        return Err(conflict(call).into());
    }
    Ok(())
}

/// What the client may not change is as it was; then the strategy prepares and validates.
fn before_update(call: &mut Call, new: &mut Value, old: &Value) -> Result<(), Status> {
    let resource = call.resource.clone();
    let strategy = resource.strategy;
    {
        let (metadata, before) = (new.child("metadata"), old.at("metadata"));
        let keep = |metadata: &mut Value, key: &str| {
            match before.get(key) {
                Some(value) => metadata.set(key, value.clone()),
                None => drop(metadata.unset(key)),
            };
        };
        keep(metadata, "generation");
        keep(metadata, "selfLink");
        if metadata.text("uid").is_empty() {
            keep(metadata, "uid");
        }
        keep(metadata, "creationTimestamp");
        if before.has("deletionTimestamp") {
            keep(metadata, "deletionTimestamp");
        }
        if before.has("deletionGracePeriodSeconds") && !metadata.has("deletionGracePeriodSeconds") {
            keep(metadata, "deletionGracePeriodSeconds");
        }
        // a client that does not ask for another version gets the current one
        metadata.set("resourceVersion", before.text("resourceVersion"));
    }
    let mut ratcheted = Vec::new();
    let warnings = {
        let context = call.context();
        if let Some(custom) = &resource.custom {
            custom.prepare_update(new, old, &call.info.subresource);
        }
        // Binding itself changes just what a pod's update may not.
        let is_binding = call.info.subresource == "binding";
        if !is_binding {
            (strategy.prepare_update)(new, old, &context);
        }
        let mut errors = resources::objectmeta::validate_any_update(new, old, resource.namespaced);
        if !is_binding {
            errors.extend((strategy.validate_update)(new, old, &context));
        }
        if let Some(custom) = &resource.custom {
            let findings = custom.validate(new, Some(old), &call.info.subresource);
            errors.extend(findings.errors);
            ratcheted = findings.warnings;
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&super::invalid_kind(&resource, new), meta::name(new), &errors));
        }
        (strategy.warnings)(new, Some(old), &context)
    };
    call.warnings.extend(ratcheted);
    call.warnings.extend(warnings);
    Ok(())
}

/// A deleted object goes for good when its last finalizer goes and nobody is waiting for its grace period.
fn should_delete(new: &Value, old: &Value) -> bool {
    meta::is_deleting(old)
        && meta::finalizers(new).next().is_none()
        && old.at("metadata").int("deletionGracePeriodSeconds").unwrap_or(0) == 0
}
