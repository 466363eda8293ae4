//! CustomResourceDefinitions themselves: defaults, and how they end.

use machinery::{Get, Value, json, meta};

use crate::registry::{Call, delete_plan::Plan, fields};

pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn is_definition(call: &Call) -> bool {
    call.resource.group == "apiextensions.k8s.io" && call.resource.name == "customresourcedefinitions"
}

/// A definition goes after its objects.
pub fn plan_delete(call: &Call, object: &Value) -> Option<Plan> {
    if !is_definition(call) || meta::is_deleting(object) {
        return None;
    }
    let mut object = object.clone();
    let metadata = object.child("metadata");
    metadata.set("deletionTimestamp", fields::timestamp(call.now));
    let mut list = metadata.list("finalizers").to_vec();
    if !list.iter().any(|f| f == CLEANUP) {
        list.push(CLEANUP.into());
    }
    metadata.set("finalizers", list);
    set_condition(
        &mut object,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        &fields::timestamp(call.now),
    );
    Some(Plan::Mark(Box::new(object)))
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.at("status").list("conditions").iter().find(|c| c.text("type") == kind)
}

/// Sets a condition; the time changes with the status only. True if anything changed.
pub fn set_condition(
    object: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: &str,
) -> bool {
    let before = condition(object, kind).cloned();
    let since = match &before {
        Some(c) if c.text("status") == status => c.text("lastTransitionTime").to_owned(),
        _ => now.to_owned(),
    };
    let new = json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since});
    let same = before
        .as_ref()
        .is_some_and(|b| ["status", "reason", "message"].iter().all(|key| b.text(key) == new.text(key)));
    if same {
        return false;
    }
    let mut list = object.at("status").list("conditions").to_vec();
    match list.iter_mut().find(|c| c.text("type") == kind) {
        Some(found) => *found = new,
        None => list.push(new),
    }
    object.child("status").set("conditions", list);
    true
}
