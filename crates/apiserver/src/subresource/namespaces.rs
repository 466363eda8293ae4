//! Namespaces end in their own way: a delete marks them, and they go when their `spec.finalizers` are gone.

use machinery::{Get, Value, meta};

use crate::registry::delete_plan::{Plan, set_finalizers};
use crate::registry::{Call, DeleteOptions, fields};

fn is_namespace(call: &Call) -> bool {
    call.resource.group.is_empty() && call.resource.name == "namespaces"
}

/// For namespaces: does this update take away the last thing that held a deleted one?
pub fn deletes_on_update(call: &Call, new: &Value, old: &Value) -> Option<bool> {
    if !is_namespace(call) {
        return None;
    }
    Some(
        meta::is_deleting(old)
            && new.at("spec").list("finalizers").is_empty()
            && meta::finalizers(new).next().is_none(),
    )
}

/// For namespaces: what a delete does.
pub fn plan_delete(call: &Call, object: &Value, options: &DeleteOptions) -> Option<Plan> {
    if !is_namespace(call) {
        return None;
    }
    let held = !object.at("spec").list("finalizers").is_empty() || meta::finalizers(object).next().is_some();
    if meta::is_deleting(object) {
        // deleting twice is refused gently: the first one is under way
        return Some(if held { Plan::Nothing } else { Plan::Remove });
    }
    if !held {
        return Some(Plan::Remove);
    }
    let mut object = object.clone();
    object.child("metadata").set("deletionTimestamp", fields::timestamp(call.now));
    object.child("status").set("phase", "Terminating");
    set_finalizers(call, &mut object, options);
    Some(Plan::Mark(Box::new(object)))
}
