//! PATCH in all its forms.

use machinery::{Get, Status, Value, meta};

use super::options::{WriteOptions, write_options};
use super::update::{UpdateRequest, update_object};
use super::{Call, encode, fields, read_body};
use crate::codec::Patch;
use crate::front::body::Incoming;
use crate::front::negotiate::{Offer, unsupported};
use crate::front::respond::Answer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    /// A configuration in YAML (or JSON).
    Apply,
    /// A configuration in CBOR.
    ApplyCbor,
}

impl PatchType {
    pub fn of(call: &Call) -> Result<Self, Status> {
        let given = call.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let custom = call.resource.custom.is_some();
        let cbor = call.core.cbor;
        match given.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Ok(PatchType::Json),
            "application/merge-patch+json" => Ok(PatchType::Merge),
            "application/strategic-merge-patch+json" if !custom => Ok(PatchType::Strategic),
            "application/apply-patch+yaml" => Ok(PatchType::Apply),
            "application/apply-patch+cbor" if cbor => Ok(PatchType::ApplyCbor),
            _ if custom => {
                let known =
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
                let more = if cbor { ", application/apply-patch+cbor" } else { "" };
                Err(unsupported(&format!("{known}{more}")))
            }
            _ => {
                // the router says it in its own words
                let mut status = Status::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
                status.details = Some(machinery::status::Details::default());
                Err(status)
            }
        }
    }

    /// Server-side apply?
    pub fn applies(self) -> bool {
        matches!(self, PatchType::Apply | PatchType::ApplyCbor)
    }
}

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let kind = PatchType::of(call)?;
    let accepted = call.accept(Offer::OBJECT)?;
    super::get::check_name(call)?;
    let body = read_body(call, body).await?;
    call.audit.request_patch(&body);
    let options = write_options(call, "PatchOptions", kind.applies())?;
    let updated = match kind {
        kind if kind.applies() => {
            let patch = crate::codec::decode_apply(kind, &body, options.strictness, &mut call.warnings)?;
            apply_patch_request(call, patch, &options).await?
        }
        kind => {
            let patch = Patch::parse(kind, &body, options.strictness, &mut call.warnings)?;
            update_object(
                call,
                UpdateRequest {
                    options: &options,
                    uid: None,
                    may_create: false,
                    fields_done: false,
                    change: &mut |call, old| change(call, &patch, old, &options),
                },
            )
            .await?
        }
    };
    encode::entry_answer(call, if updated.created { 201 } else { 200 }, &updated.entry, &accepted)
}

/// The patched object, decoded again as if it had been sent.
fn change(call: &mut Call, patch: &Patch, old: &Value, options: &WriteOptions) -> Result<Value, Status> {
    let want = call.resource.gvk();
    let patched = crate::codec::patch_as(patch, old, &want)?;
    let custom = call.resource.custom.clone();
    let mut new = match crate::codec::settle(old, patched, &want, custom.is_some()) {
        Some(new) => new,
        None => {
            let patched = crate::codec::patch_as(patch, old, &want)?;
            let mut warnings = Vec::new();
            let checked = match patch {
                Patch::Strategic(document) => {
                    crate::codec::check_merged(patched, document, &want, options.strictness, &mut warnings)?
                }
                _ => {
                    let custom = custom.as_deref();
                    crate::codec::check_patched(
                        old,
                        &patched,
                        &want,
                        custom,
                        options.strictness,
                        &mut warnings,
                    )?
                }
            };
            call.warnings.append(&mut warnings);
            checked
        }
    };
    check_identity(call, &new, false)?;
    drop_namespace(call, &mut new);
    // a custom object that says it is something else is refused by its validation
    if custom.is_none() {
        new.set("kind", want.kind.as_str());
        new.set("apiVersion", want.api_version());
    }
    (call.resource.strategy.default)(&mut new, &call.context());
    Ok(new)
}

/// Objects that are in no namespace are not said to be in one.
pub fn drop_namespace(call: &Call, object: &mut Value) {
    if !call.resource.namespaced {
        object.child("metadata").unset("namespace");
    }
}

pub fn check_identity(call: &Call, new: &Value, created: bool) -> Result<(), Status> {
    let (name, namespace) = (meta::name(new), meta::namespace(new));
    if !call.namespace.is_empty() && namespace != call.namespace && !(created && namespace.is_empty()) {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if name.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name()
        )));
    }
    if name != call.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    Ok(())
}

/// Server-side apply of an object.
pub async fn apply_patch_request(
    call: &mut Call,
    patch: Value,
    options: &WriteOptions,
) -> Result<super::Updated, Status> {
    let force = options.force.unwrap_or(false);
    update_object(
        call,
        UpdateRequest {
            options,
            uid: None,
            may_create: call.info.subresource.is_empty(),
            fields_done: true,
            change: &mut |call, old| {
                let mut new = fields::on_apply(call, old, &patch, &options.manager, force)?;
                crate::crd::default_applied(call, &mut new);
                check_identity(call, &new, old.is_null())?;
                drop_namespace(call, &mut new);
                (call.resource.strategy.default)(&mut new, &call.context());
                Ok(new)
            },
        },
    )
    .await
}
