//! `scale`: the number of replicas of anything that has one.

use std::sync::Arc;

use machinery::field::{Error, Path};
use machinery::{Get, GroupVersionKind, Status, Value, json, meta};

use crate::cache::Entry;
use crate::codec::{Patch, ScaleFields};
use crate::front::respond::{Answer, generic};
use crate::front::{Incoming, respond};
use crate::registry::options::{WriteOptions, write_options};
use crate::registry::patch::{PatchType, check_identity};
use crate::registry::storage::from_entry;
use crate::registry::{
    Call, UpdateRequest, check_name, current, decode_body, object_answer, read_body, update_object,
};

pub async fn answer(call: &mut Call, verb: &str, body: Incoming) -> Result<Answer, Status> {
    let _ = respond::code;
    match verb {
        "get" => {
            let entry = current(call).await?;
            let scale = scale_of(call, &entry);
            object_answer(call, 200, scale)
        }
        "update" => {
            let options = write_options(call, "UpdateOptions", false)?;
            let body = read_body(call, body).await?;
            let mut scale = decode_body(call, &body, &kind(), options.strictness)?;
            check_name(call, &mut scale)?;
            let uid = meta::uid(&scale).to_owned();
            write(call, &options, &uid, &mut |_, _| Ok(Change::New(scale.clone()))).await
        }
        "patch" => {
            let kind = PatchType::of(call)?;
            let body = read_body(call, body).await?;
            let options = write_options(call, "PatchOptions", kind.applies())?;
            if kind.applies() {
                let patch = crate::codec::decode_apply(kind, &body, options.strictness, &mut call.warnings)?;
                return write(call, &options, "", &mut |_, _| Ok(Change::Applied(patch.clone()))).await;
            }
            let patch = crate::codec::Patch::parse(kind, &body, options.strictness, &mut call.warnings)?;
            write(call, &options, "", &mut |call, live| {
                Ok(Change::New(patched(call, &patch, live, &options)?))
            })
            .await
        }
        _ => Err(generic(405)),
    }
}

/// The patched scale, read again as if it had been sent.
fn patched(call: &mut Call, patch: &Patch, live: &Value, options: &WriteOptions) -> Result<Value, Status> {
    let want = kind();
    let patched = crate::codec::patch_as(patch, live, &want)?;
    let mut warnings = Vec::new();
    let scale = match patch {
        Patch::Strategic(document) => {
            crate::codec::check_merged(patched, document, &want, options.strictness, &mut warnings)?
        }
        _ => crate::codec::check_patched(live, &patched, &want, None, options.strictness, &mut warnings)?,
    };
    call.warnings.append(&mut warnings);
    check_identity(call, &scale, false)?;
    Ok(scale)
}

fn kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

fn scale_of(call: &Call, entry: &Entry) -> Value {
    make(call, &from_entry(&call.resource, entry))
}

/// The scale of an object.
pub fn make(call: &Call, object: &Value) -> Value {
    if let Some(custom) = &call.resource.custom {
        return custom.scale(object);
    }
    let metadata = object.at("metadata");
    let mut about = json!({"name": metadata.text("name"), "namespace": metadata.text("namespace")});
    for key in ["uid", "resourceVersion", "creationTimestamp"] {
        about[key] = metadata.at(key).clone();
    }
    let mut status = json!({"replicas": object.at("status").int("replicas").unwrap_or(0)});
    let selector = selector_text(object.at("spec").at("selector"));
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let mut spec = json!({});
    let replicas = object.at("spec").int("replicas").unwrap_or(0);
    if replicas != 0 {
        spec["replicas"] = replicas.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": about, "spec": spec, "status": status})
}

/// A selector as the text that a list takes.
fn selector_text(selector: &Value) -> String {
    let plain = !selector.has("matchLabels") && !selector.has("matchExpressions");
    let labels = if plain { selector.as_object() } else { selector.map("matchLabels") };
    let mut terms: Vec<(String, String)> = labels
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), format!("{k}={}", v.as_str().unwrap_or(""))))
        .collect();
    for expression in selector.list("matchExpressions") {
        let key = expression.text("key");
        let mut values: Vec<&str> = expression.list("values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match expression.text("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

/// The scale after a change, or the configuration that is applied to it.
enum Change {
    New(Value),
    Applied(Value),
}

async fn write(
    call: &mut Call,
    options: &WriteOptions,
    uid: &str,
    change: &mut (dyn FnMut(&mut Call, &Value) -> Result<Change, Status> + Send),
) -> Result<Answer, Status> {
    let force = options.force.unwrap_or(false);
    let updated = update_object(
        call,
        UpdateRequest {
            options,
            uid: (!uid.is_empty()).then(|| uid.to_owned()),
            may_create: false,
            fields_done: true,
            change: &mut |call, old| {
                let custom = call.resource.custom.clone();
                let path = custom.as_ref().map_or(vec!["spec", "replicas"], |c| c.replicas_path());
                let fields = ScaleFields::new(call, &path);
                let mut live = make(call, old);
                let shown = fields.shown(old);
                if !shown.is_empty() {
                    live.child("metadata").set("managedFields", shown);
                }
                let scale = match change(call, &live)? {
                    Change::New(new) => fields.track(call, &live, new, &options.manager),
                    Change::Applied(patch) => fields.apply(call, &live, &patch, &options.manager, force)?,
                };
                let mut new = apply(call, old, &scale)?;
                if let Some(entries) = fields.kept(call, old, &scale) {
                    new.child("metadata").set("managedFields", entries);
                }
                Ok(new)
            },
        },
    )
    .await?;
    let updated: Arc<Entry> = updated.entry;
    let scale = scale_of(call, &updated);
    object_answer(call, 200, scale)
}

/// The object with the replicas of the scale.
fn apply(call: &Call, old: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale.at("spec").int("replicas").unwrap_or(0);
    let name = meta::name(scale);
    if !name.is_empty() && name != call.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    let mut errors = Vec::new();
    if replicas < 0 {
        let at = Path::new("spec").child("replicas");
        errors.push(Error::invalid(&at, replicas, "must be greater than or equal to 0"));
    }
    if !errors.is_empty() {
        let about = machinery::GroupKind { group: "autoscaling".to_owned(), kind: "Scale".to_owned() };
        return Err(Status::invalid(&about, call.name(), &errors));
    }
    let mut new = old.clone();
    let revision = meta::resource_version(scale);
    new.child("metadata").set("resourceVersion", revision);
    match &call.resource.custom {
        Some(custom) => custom.set_replicas(&mut new, replicas),
        None => new.child("spec").set("replicas", replicas),
    }
    Ok(new)
}
