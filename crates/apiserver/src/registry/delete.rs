//! DELETE: preconditions, grace, finalizers, propagation.

use std::sync::Arc;

use machinery::field::{self, Path};
use machinery::{Get, GroupVersionKind, Status, Value, json, meta};

use super::options::{Strictness, dry_run, invalid_options};
use super::storage::{Failed, from_entry, to_stored};
use super::{Call, encode, fields, read_body};
use crate::admission::{self, Attributes, Operation};
use crate::cache::Entry;
use crate::front::body::Incoming;
use crate::front::negotiate::Offer;
use crate::front::respond::Answer;
use crate::kinds::Home;

pub const ORPHAN: &str = "orphan";
pub const FOREGROUND: &str = "foregroundDeletion";

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace: Option<i64>,
    pub orphan: Option<bool>,
    /// `Orphan`, `Background`, `Foreground` or "".
    pub policy: String,
    pub uid: Option<String>,
    pub revision: Option<String>,
}

/// What a delete came to.
pub enum Deleted {
    /// Gone; this is what it was.
    Gone(Arc<Entry>),
    /// Marked as deleted, or already so; it goes when its grace period or its finalizers are over.
    Waiting(Arc<Entry>),
}

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let accepted = call.accept(Offer::OBJECT)?;
    super::get::check_name(call)?;
    let body = read_body(call, body).await?;
    let options = parse_delete_options(call, &body)?;
    call.warnings.extend(crate::subresource::delete_warning(call, &options));
    let (code, entry) = match delete_object(call, &options).await? {
        Deleted::Gone(entry) if !returns_object(call) => {
            let object = entry.parse();
            let gr = call.gr();
            let mut details =
                json!({"name": meta::name(&object), "kind": gr.resource, "uid": meta::uid(&object)});
            if !gr.group.is_empty() {
                details["group"] = gr.group.into();
            }
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details});
            return encode::object_answer(call, 200, status);
        }
        Deleted::Gone(entry) => (200, entry),
        Deleted::Waiting(entry) => (if options.orphan == Some(false) { 202 } else { 200 }, entry),
    };
    encode::entry_answer(call, code, &entry, &accepted)
}

/// Resources whose deletion is answered with the object that was.
fn returns_object(call: &Call) -> bool {
    const THESE: &[(&str, &str)] = &[
        ("", "pods"),
        ("", "services"),
        ("", "serviceaccounts"),
        ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
        ("", "podtemplates"),
        ("", "resourcequotas"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "storageclasses"),
        ("storage.k8s.io", "volumeattachments"),
        ("storage.k8s.io", "volumeattributesclasses"),
        ("resource.k8s.io", "deviceclasses"),
        ("resource.k8s.io", "devicetaintrules"),
        ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceclaimtemplates"),
        ("resource.k8s.io", "resourceslices"),
        ("resource.k8s.io", "resourcepoolstatusrequests"),
    ];
    THESE.contains(&(call.resource.group.as_str(), call.resource.name.as_str()))
}

/// From the body if there is one, else from the query.
pub fn parse_delete_options(call: &mut Call, body: &[u8]) -> Result<DeleteOptions, Status> {
    let mut errors = Vec::new();
    let mut options = DeleteOptions::default();
    let revision_of = |v: &Value| {
        let text = |key: &str| v.at("preconditions").get(key).and_then(Value::as_str).map(str::to_owned);
        (text("uid"), text("resourceVersion"))
    };
    if body.is_empty() {
        options.grace = call.query.int("gracePeriodSeconds")?;
        options.orphan = call.query.flag_opt("orphanDependents");
        options.policy = call.query.text("propagationPolicy").to_owned();
        options.dry_run = dry_run(call.query.all("dryRun"), &mut errors);
    } else {
        let want = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
        let mut warnings = Vec::new();
        let encoding = crate::front::negotiate::Encoding::of_body(&call.headers, call.core.cbor)?;
        let value = crate::codec::decode_options(body, encoding, &want, Strictness::Ignore, &mut warnings)?;
        call.audit.request_options(&value);
        options.grace = value.int("gracePeriodSeconds");
        options.orphan = value.flag("orphanDependents");
        options.policy = value.text("propagationPolicy").to_owned();
        (options.uid, options.revision) = revision_of(&value);
        let values: Vec<&str> = value.list("dryRun").iter().filter_map(Value::as_str).collect();
        options.dry_run = dry_run(values.into_iter(), &mut errors);
    }
    let at = Path::new("propagationPolicy");
    if options.orphan.is_some() && !options.policy.is_empty() {
        errors.insert(
            0,
            field::Error::invalid(
                &at,
                options.policy.as_str(),
                "orphanDependents and deletionPropagation cannot be both set",
            ),
        );
    }
    if !matches!(options.policy.as_str(), "" | "Orphan" | "Background" | "Foreground") {
        errors.push(field::Error::not_supported(
            &at,
            options.policy.as_str(),
            &["Foreground", "Background", "Orphan", "nil"],
        ));
    }
    if errors.is_empty() { Ok(options) } else { Err(invalid_options("DeleteOptions", &errors)) }
}

/// Deletes the object of the call's path, or marks it as deleted.
pub async fn delete_object(call: &mut Call, options: &DeleteOptions) -> Result<Deleted, Status> {
    let home = call.home()?.clone();
    let key = call.key()?;
    let not_found = |call: &Call| Status::not_found(&call.gr(), call.name());
    let mut current = call.core.read(&home, &key).await?;
    let mut admitted = false;
    for _ in 0..12 {
        let Some(entry) = current else { return Err(not_found(call)) };
        crate::crd::prepare_versions(&call.core, &call.resource, [&entry]).await?;
        let mut object = from_entry(&call.resource, &entry);
        check_preconditions(call, &object, options)?;
        if !admitted {
            let mut attributes = Attributes::new(call, Operation::Delete, options.dry_run);
            attributes.old = Some(object);
            admission::mutate(call, &mut attributes).await?;
            admission::validate(call, &attributes).await?;
            object = attributes.old.take().unwrap_or_default();
            admitted = true;
        }
        let special = crate::subresource::namespaces::plan_delete(call, &object, options)
            .or_else(|| crate::crd::plan_delete(call, &object));
        let plan = match special {
            Some(plan) => plan,
            None => plan(call, object, options),
        };
        let result = match plan {
            Plan::Nothing => return Ok(Deleted::Waiting(entry)),
            Plan::Remove => {
                if options.dry_run {
                    return Ok(Deleted::Gone(entry));
                }
                match remove(call, &home, &entry).await {
                    Ok(gone) => return Ok(Deleted::Gone(gone)),
                    Err(failed) => failed,
                }
            }
            // who watches sees that it was marked before it is gone
            Plan::MarkAndRemove(object) => {
                let stored = to_stored(&call.resource, &home, *object);
                if options.dry_run {
                    let dry = super::create::dry(&key, &stored, entry.revision, &home);
                    return Ok(Deleted::Gone(Arc::new(dry)));
                }
                match call.core.put(&home, &key, &stored, entry.revision).await {
                    Ok(marked) => match remove(call, &home, &marked).await {
                        Ok(gone) => return Ok(Deleted::Gone(gone)),
                        Err(Failed::Conflict(None)) => return Ok(Deleted::Gone(marked)),
                        Err(failed) => failed,
                    },
                    Err(failed) => failed,
                }
            }
            Plan::Mark(object) => {
                let object = crate::crd::to_storage(call, *object).await?;
                let stored = to_stored(&call.resource, &home, object);
                if options.dry_run {
                    let dry = super::create::dry(&key, &stored, entry.revision, &home);
                    return Ok(Deleted::Waiting(Arc::new(dry)));
                }
                match call.core.put(&home, &key, &stored, entry.revision).await {
                    Ok(entry) => {
                        crate::crd::prepare_versions(&call.core, &call.resource, [&entry]).await?;
                        crate::crd::after_write(call, &entry).await;
                        return Ok(Deleted::Waiting(entry));
                    }
                    Err(failed) => failed,
                }
            }
        };
        match result {
            Failed::Status(status) => return Err(status),
            Failed::Conflict(found) => current = found,
        }
    }
    Err(Status::conflict(&call.gr(), call.name(), "too many changes at the same time"))
}

/// Takes the object away; what it was, at the version of its going.
async fn remove(call: &Call, home: &Home, entry: &Entry) -> Result<Arc<Entry>, Failed> {
    let revision = call.core.remove(home, &entry.key, entry.revision).await?;
    crate::subresource::services::after_delete(call, || entry.parse()).await;
    Ok(Arc::new(entry.deleted_at(revision)))
}

fn check_preconditions(call: &Call, object: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let kind = call.resource.stored_kind();
    let about = machinery::GroupResource::new(kind.group, kind.kind);
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(object)) {
        return Err(Status::conflict(
            &about,
            call.name(),
            &format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                meta::uid(object)
            ),
        ));
    }
    let current = meta::resource_version(object);
    if let Some(revision) = options.revision.as_deref().filter(|rv| *rv != current) {
        return Err(Status::conflict(
            &about,
            call.name(),
            &format!(
                "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({current}). The object might have been modified"
            ),
        ));
    }
    Ok(())
}

/// What a delete does to the object.
pub enum Plan {
    /// Its deletion is already under way.
    Nothing,
    Remove,
    /// It goes without delay, though kinds like it go gracefully: it is changed so first.
    MarkAndRemove(Box<Value>),
    /// It stays, changed so.
    Mark(Box<Value>),
}

fn plan(call: &Call, mut object: Value, options: &DeleteOptions) -> Plan {
    let asked = options.grace.map(|g| if g < 0 { 1 } else { g });
    let period = (call.resource.strategy.grace_period)(&object, asked);
    // kinds without graceful deletion decide anew each time
    let deleting = period.is_some() && meta::is_deleting(&object);
    let mut graceful = None;
    let metadata = object.at("metadata");
    if deleting {
        if let Some(before) = metadata.int("deletionGracePeriodSeconds") {
            match asked {
                Some(period) if period < before => {
                    let at = metadata.text("deletionTimestamp").parse::<jiff::Timestamp>();
                    let shift = jiff::SignedDuration::from_secs(period - before);
                    let at = at.ok().and_then(|at| at.checked_add(shift).ok()).unwrap_or(call.now);
                    // never into the past; who asked for some time has a second at least
                    let (at, period) = if at < call.now { (call.now, period.min(1)) } else { (at, period) };
                    let metadata = object.child("metadata");
                    metadata.set("deletionTimestamp", fields::timestamp(at));
                    metadata.set("deletionGracePeriodSeconds", period);
                    graceful = Some(period);
                }
                _ if before > 0 || meta::finalizers(&object).next().is_some() => return Plan::Nothing,
                _ => {}
            }
        }
    } else if let Some(period) = period {
        mark(call, &mut object, period);
        graceful = Some(period);
    }
    let marked_before = meta::is_deleting(&object) && graceful.is_none();
    let finalizers_before = object.at("metadata").at("finalizers").clone();
    set_finalizers(call, &mut object, options);
    let same = object.at("metadata").at("finalizers") == &finalizers_before;
    let held = meta::finalizers(&object).next().is_some();
    if held {
        if marked_before && same {
            return Plan::Nothing;
        }
        if !meta::is_deleting(&object) {
            mark(call, &mut object, 0);
        } else if graceful.is_none() {
            object.child("metadata").set("deletionGracePeriodSeconds", 0);
        }
        return Plan::Mark(Box::new(object));
    }
    match graceful {
        Some(0) => Plan::MarkAndRemove(Box::new(object)),
        Some(_) => Plan::Mark(Box::new(object)),
        None => Plan::Remove,
    }
}

fn mark(call: &Call, object: &mut Value, grace: i64) {
    let at = call.now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(call.now);
    let metadata = object.child("metadata");
    metadata.set("deletionTimestamp", fields::timestamp(at));
    metadata.set("deletionGracePeriodSeconds", grace);
    if let Some(generation) = metadata.int("generation").filter(|g| *g > 0) {
        metadata.set("generation", generation + 1);
    }
}

/// The finalizers that stand for what is to become of the dependents.
pub fn set_finalizers(call: &Call, object: &mut Value, options: &DeleteOptions) {
    if call.resource.home.as_ref().is_some_and(|h| h.ttl.is_some()) {
        return;
    }
    let has = |name: &str| meta::finalizers(object).any(|f| f == name);
    let (has_orphan, has_foreground) = (has(ORPHAN), has(FOREGROUND));
    let orphan = match (options.orphan, options.policy.as_str()) {
        (Some(orphan), _) => orphan,
        (None, "Orphan") => true,
        (None, "Background" | "Foreground") => false,
        _ if has_orphan => true,
        _ if has_foreground => false,
        _ => call.resource.strategy.orphans,
    };
    let foreground = match (options.orphan, options.policy.as_str()) {
        (Some(_), _) => false,
        (None, "Foreground") => true,
        (None, "Background" | "Orphan") => false,
        _ => has_foreground && !has_orphan,
    };
    if orphan == has_orphan && foreground == has_foreground {
        return;
    }
    let mut list: Vec<Value> = object
        .at("metadata")
        .list("finalizers")
        .iter()
        .filter(|f| !matches!(f.as_str(), Some(ORPHAN | FOREGROUND)))
        .cloned()
        .collect();
    if orphan {
        list.push(ORPHAN.into());
    }
    if foreground {
        list.push(FOREGROUND.into());
    }
    let metadata = object.child("metadata");
    if list.is_empty() {
        metadata.unset("finalizers");
    } else {
        metadata.set("finalizers", list);
    }
}
