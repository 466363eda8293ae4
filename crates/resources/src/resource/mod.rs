//! resource.k8s.io: dynamic resource allocation. All versions are validated in the shape of v1. Whether the selectors'
//! expressions compile is not asked yet.

use std::borrow::Cow;

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{self, Errors};
use crate::{Context, names};

mod allocation;
mod capacity;
mod claims;
mod common;
pub(crate) mod deviceclass;
mod devices;
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
    if request.text("allocationMode").is_empty() {
        request.set("allocationMode", "ExactCount");
    }
    if request.text("allocationMode") == "ExactCount" && request.int("count").unwrap_or(0) == 0 {
        request.set("count", 1);
    }
    for toleration in request.list_mut("tolerations") {
        if toleration.text("operator").is_empty() {
            toleration.set("operator", "Equal");
        }
    }
}

fn given(value: &Value) -> bool {
    !value.is_null() && value != "" && value != 0
}

/// What is no part of an exact request.
const OUTSIDE: &[&str] = &["name", "firstAvailable"];

/// v1beta1 has the fields of an exact request in the request itself.
fn convert_claim(spec: &mut Value, from: &str, to: &str) {
    if (from == "v1beta1") == (to == "v1beta1") || !spec.at("devices").has("requests") {
        return;
    }
    for request in spec.child("devices").list_mut("requests") {
        if to == "v1beta1" {
            unwrap_part(request, "exactly");
        } else if request
            .as_object()
            .is_some_and(|r| r.iter().any(|(k, v)| !OUTSIDE.contains(&&**k) && given(v)))
        {
            wrap_part(request, "exactly", OUTSIDE);
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

/// What a taint can do.
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// `old` is null where there is none.
fn taint(taint: &Value, old: &Value, at: &Path, errors: &mut ErrorList) {
    check::label_name(taint.text("key"), &at.child("key"), errors);
    let value = taint.text("value");
    if !value.is_empty() {
        errors.each(&at.child("value"), value, names::label_value(value));
    }
    let effect = taint.text("effect");
    if old.is_null() || old.text("effect") != effect {
        match effect {
            "" => errors.required(&at.child("effect"), ""),
            effect => errors.one_of(&at.child("effect"), effect, EFFECTS),
        }
    }
}

/// A taint is added now if nothing else is said.
fn default_taint(taint: &mut Value, now: Timestamp) {
    taint.set_default("timeAdded", seconds(now));
}

fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An object of the call's version in the shape of v1.
fn as_v1<'v>(object: &'v Value, context: &Context, convert: fn(&mut Value, &str, &str)) -> Cow<'v, Value> {
    if context.version != "v1beta1" {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    convert(&mut object, "v1beta1", "v1");
    Cow::Owned(object)
}
