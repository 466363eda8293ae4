//! A request as hooks see it: in the version that they ask for, with what stands in its review.

use machinery::{Get, GroupVersionKind, Status, Value, json, schema};

use super::matching::Matched;
use super::{Attributes, Operation};
use crate::kinds::Resource;
use crate::registry::Call;
use crate::registry::storage::to_stored;
use crate::subresource::scale;

/// The objects of a request in one version.
#[derive(Clone)]
pub struct Seen {
    pub matched: Matched,
    pub object: Option<Value>,
    pub old: Option<Value>,
}

/// Is what hooks see something else than what is stored (a Scale)?
fn is_scale(a: &Attributes) -> bool {
    a.subresource == "scale" && a.operation == Operation::Update
}

impl Seen {
    /// In the version of what matched.
    pub async fn new(call: &Call, a: &Attributes, matched: &Matched) -> Result<Self, Status> {
        let mut out = Self { matched: matched.clone(), object: None, old: None };
        for (from, to) in [(&a.object, &mut out.object), (&a.old, &mut out.old)] {
            let Some(object) = from else { continue };
            let mut shown = if is_scale(a) { scale::make(call, object) } else { object.clone() };
            let kind = a.kind();
            shown.set("kind", kind.kind.as_str());
            shown.set("apiVersion", kind.api_version());
            *to = Some(convert(call, a, shown, &a.resource, &matched.resource).await?);
        }
        Ok(out)
    }

    /// Takes a changed object back into the request's version.
    pub async fn take_back(&self, call: &Call, a: &mut Attributes, object: Value) -> Result<(), Status> {
        let own = convert(call, a, object, &self.matched.resource, &a.resource).await?;
        if !is_scale(a) {
            a.object = Some(own);
        } else if let Some(object) = &mut a.object {
            let replicas = own.at("spec").int("replicas").unwrap_or(0);
            match &call.resource.custom {
                Some(custom) => custom.set_replicas(object, replicas),
                None => object.child("spec").set("replicas", replicas),
            }
        }
        Ok(())
    }

    /// A changed object as if it had been sent: what its type does not know is gone, defaults are in. The schema of a
    /// custom resource prunes later, when the object is stored: other hooks see what one has put in.
    pub fn as_sent(&self, call: &Call, mut new: Value) -> Result<Value, String> {
        let (resource, kind) = (&self.matched.resource, &self.matched.kind);
        let own = *kind == resource.gvk();
        match &resource.custom {
            Some(custom) if own => custom.default(&mut new),
            Some(_) => {}
            None => {
                if let Some(schema) = schema::of_kind(kind) {
                    let read = machinery::codec::json::convert(schema, new, false);
                    new = read.map_err(|e| e.to_string())?.value;
                }
                if own {
                    (resource.strategy.default)(&mut new, &call.context_for(""));
                }
            }
        }
        new.set("kind", kind.kind.as_str());
        new.set("apiVersion", kind.api_version());
        if !new.at("metadata").is_object() {
            new.set("metadata", json!({}));
        }
        Ok(new)
    }

    pub fn object(&self) -> &Value {
        self.object.as_ref().unwrap_or(&Value::Null)
    }

    pub fn old(&self) -> &Value {
        self.old.as_ref().unwrap_or(&Value::Null)
    }
}

async fn convert(
    call: &Call,
    a: &Attributes,
    object: Value,
    from: &Resource,
    to: &Resource,
) -> Result<Value, Status> {
    let same = from.group == to.group && from.version == to.version;
    let whole =
        a.subresource.is_empty() || from.subresource(&a.subresource).is_some_and(|s| s.kind == from.kind);
    let Some(home) = from.home.as_ref().filter(|_| !same && whole) else { return Ok(object) };
    if from.custom.is_some() {
        let mut all = crate::crd::convert_objects(call.core.as_ref(), to, vec![object]).await?;
        return Ok(all.pop().unwrap_or_default());
    }
    let mut object = to_stored(from, home, object);
    crate::registry::storage::out_of_stored(to, home, &mut object);
    object.set("kind", to.kind.as_str());
    object.set("apiVersion", to.api_version());
    crate::codec::normalize(&to.gvk(), &mut object);
    Ok(object)
}

fn kind(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn resource(of: &Resource) -> Value {
    json!({"group": of.group, "version": of.version, "resource": of.name})
}

/// `request` of a review, without uid and objects; also what expressions see.
pub fn request(call: &Call, a: &Attributes, matched: &Matched) -> Value {
    let mut out = json!({
        "kind": kind(&matched.kind), "resource": resource(&matched.resource),
        "requestKind": kind(&a.kind()), "requestResource": resource(&a.resource),
        "operation": a.operation.name(), "userInfo": call.user.info(), "dryRun": a.dry_run,
        "options": options(call, a),
    });
    let mut some = |name: &str, text: &str| {
        if !text.is_empty() {
            out[name] = text.into();
        }
    };
    some("name", &a.name);
    some("namespace", a.hook_namespace());
    some("subResource", &a.subresource);
    some("requestSubResource", &a.subresource);
    out
}

/// The options of the operation, as the request gave them.
fn options(call: &Call, a: &Attributes) -> Value {
    let kind = match a.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut out = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if a.dry_run {
        out["dryRun"] = json!(["All"]);
    }
    if a.operation != Operation::Delete {
        for name in ["fieldManager", "fieldValidation"] {
            let text = call.query.text(name);
            if !text.is_empty() {
                out[name] = text.into();
            }
        }
    }
    out
}
