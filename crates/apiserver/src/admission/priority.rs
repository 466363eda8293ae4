//! Priority: a pod's priority from its class, and one global default class at most.

use futures_util::FutureExt;
use machinery::{Get, Status, Value, meta};

use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "Priority",
    mutate: Some(|call, attributes| async move { admit(call, attributes) }.boxed()),
    validate: Some(|call, attributes| async move { validate(call, attributes) }.boxed()),
};

const GROUP: &str = "scheduling.k8s.io";

fn admit(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if !a.is("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let refuse = |a: &Attributes, why: &str| Err(forbidden(a, why));
    if let (Some(old), Some(pod)) = (&a.old, &mut a.object) {
        // a client that left out what was computed keeps it
        let (old, spec) = (old.at("spec"), pod.child("spec"));
        for field in ["priority", "preemptionPolicy"] {
            if !spec.has(field) && old.has(field) {
                spec.set(field, old.at(field).clone());
            }
        }
        return Ok(());
    }
    let spec = a.object().at("spec");
    let name = spec.text("priorityClassName").to_owned();
    let (priority, policy, class) = if name.is_empty() {
        match default_class(call) {
            Some(class) => (
                class.int("value").unwrap_or(0),
                class.text("preemptionPolicy").to_owned(),
                meta::name(&class).to_owned(),
            ),
            None => (0, String::new(), String::new()),
        }
    } else {
        let Some(class) = cached(call, GROUP, "priorityclasses", &name) else {
            return refuse(a, &format!("no PriorityClass with name {name} was found"));
        };
        (class.int("value").unwrap_or(0), class.text("preemptionPolicy").to_owned(), name)
    };
    let policy = if policy.is_empty() { "PreemptLowerPriority".to_owned() } else { policy };
    if let Some(given) = spec.int("priority").filter(|given| *given != priority) {
        return refuse(
            a,
            &format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            ),
        );
    }
    let given = spec.text("preemptionPolicy");
    if !given.is_empty() && given != policy {
        return refuse(
            a,
            &format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            ),
        );
    }
    if let Some(pod) = &mut a.object {
        let spec = pod.child("spec");
        if !class.is_empty() {
            spec.set("priorityClassName", class);
        }
        spec.set("priority", priority);
        spec.set("preemptionPolicy", policy);
    }
    Ok(())
}

/// The default class with the lowest value, should there be more than one.
fn default_class(call: &Call) -> Option<Value> {
    let resource = call.core.kinds.now().preferred(GROUP, "priorityclasses")?;
    let (snapshot, _) = resource.home.as_ref()?.cache.snapshot();
    snapshot
        .values()
        .filter(|e| e.says("\"globalDefault\":true"))
        .map(|e| e.parse())
        .filter(|class| class.flag("globalDefault") == Some(true))
        .min_by_key(|class| class.int("value").unwrap_or(0))
}

fn validate(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    if a.is(GROUP, "priorityclasses") && a.operation == Operation::Delete && a.name.starts_with("system-") {
        return Err(forbidden(a, "this is a system priority class and cannot be deleted"));
    }
    if !a.is(GROUP, "priorityclasses") || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let class = a.object();
    if class.flag("globalDefault") != Some(true) {
        return Ok(());
    }
    if let Some(other) = default_class(call)
        && meta::name(&other) != meta::name(class)
    {
        return Err(forbidden(
            a,
            &format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta::name(&other)
            ),
        ));
    }
    Ok(())
}
