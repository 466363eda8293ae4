//! resource.k8s.io: defaults, what each write may change, columns, and the shapes of the versions. What is in requests
//! and slices is not validated yet.

use machinery::{Get, Value};

pub(crate) mod deviceclass;
pub(crate) mod devicetaintrule;
pub(crate) mod resourceclaim;
pub(crate) mod resourceclaimtemplate;
pub(crate) mod resourcepoolstatusrequest;
pub(crate) mod resourceslice;

/// Of a claim's spec: one device, matched exactly, unless the request says otherwise.
fn default_claim(spec: &mut Value) {
    for request in spec.child("devices").list_mut("requests") {
        if request.has("exactly") {
            default_request(request.child("exactly"));
        } else if !request.text("deviceClassName").is_empty() {
            default_request(request);
        }
        for each in request.list_mut("firstAvailable") {
            default_request(each);
        }
    }
}

fn default_request(request: &mut Value) {
    request.set_default("allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        request.set_default("count", 1);
    }
    for toleration in request.list_mut("tolerations") {
        toleration.set_default("operator", "Equal");
    }
}

/// v1beta1 has the fields of an exact request in the request itself.
fn convert_claim(spec: &mut Value, from: &str, to: &str) {
    if (from == "v1beta1") == (to == "v1beta1") || !spec.at("devices").has("requests") {
        return;
    }
    for request in spec.child("devices").list_mut("requests") {
        if to == "v1beta1" {
            unwrap_part(request, "exactly");
        } else if !request.text("deviceClassName").is_empty() {
            wrap_part(request, "exactly", &["name", "firstAvailable"]);
        }
    }
}

/// The fields of `part` become the object's own.
fn unwrap_part(obj: &mut Value, part: &str) {
    let inner = obj.at(part).as_object().cloned();
    obj.unset(part);
    for (key, value) in inner.into_iter().flatten() {
        obj.set(&key, value);
    }
}

/// All fields but these go into `part`.
fn wrap_part(obj: &mut Value, part: &str, but: &[&str]) {
    let Some(map) = obj.as_object() else { return };
    let (outer, inner) = map.clone().into_iter().partition(|(key, _)| but.contains(&key.as_str()));
    *obj = Value::Object(outer);
    obj.set(part, Value::Object(inner));
}
