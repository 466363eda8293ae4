//! `pods/eviction`: a delete that asks the disruption budgets first.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use machinery::select::LabelSelector;
use machinery::status::Cause;
use machinery::{Get, GroupVersionKind, Status, Value, json, meta};

use crate::admission::{self, Attributes, Operation};
use crate::front::Incoming;
use crate::front::respond::Answer;
use crate::registry::check_namespace;
use crate::registry::options::{WriteOptions, write_options};
use crate::registry::{
    Call, DeleteOptions, UpdateRequest, current, decode_body, delete_object, fields, object_answer,
    read_body, update_object,
};

/// Budgets hold at most this many evictions that have not been seen through.
const MOST_DISRUPTED: usize = 2000;

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let options = write_options(call, "CreateOptions", false)?;
    let body = read_body(call, body).await?;
    let want = GroupVersionKind::new("policy", "v1", "Eviction");
    let mut eviction = decode_body(call, &body, &want, options.strictness)?;
    check_namespace(call, &mut eviction)?;
    let mut attributes = Attributes::new(call, Operation::Create, options.dry_run);
    attributes.object = Some(eviction.clone());
    admission::mutate(call, &mut attributes).await?;
    if meta::name(&eviction) != call.name() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    admission::validate(call, &attributes).await?;
    let pod = current(call).await?.parse();
    let wish = eviction.at("deleteOptions");
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
    let delete = DeleteOptions {
        dry_run: options.dry_run || !wish.list("dryRun").is_empty(),
        grace: wish.int("gracePeriodSeconds"),
        policy: wish.text("propagationPolicy").to_owned(),
        uid: text(wish.at("preconditions"), "uid"),
        revision: text(wish.at("preconditions"), "resourceVersion"),
        orphan: None,
    };
    if !may_go_without_asking(&pod) {
        ask_budget(call, &pod, &delete).await?;
        mark(call, &options).await?;
    }
    let mut gone = call.for_resource(call.resource.clone(), "delete", &call.namespace, call.name());
    delete_object(&mut gone, &DeleteOptions { revision: None, ..delete }).await?;
    let success =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    object_answer(call, 201, success)
}

fn may_go_without_asking(pod: &Value) -> bool {
    let phase = pod.at("status").text("phase");
    matches!(phase, "Succeeded" | "Failed" | "Pending") || meta::is_deleting(pod)
}

fn is_ready(pod: &Value) -> bool {
    pod.at("status")
        .list("conditions")
        .iter()
        .any(|c| c.text("type") == "Ready" && c.text("status") == "True")
}

fn refused(budget: &str, why: String) -> Status {
    let mut status = Status::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        if budget.is_empty() { 10 } else { 0 },
    );
    if let Some(details) = &mut status.details {
        let cause = Cause { reason: "DisruptionBudget".to_owned(), message: why, field: String::new() };
        details.causes.push(cause);
    }
    status
}

/// Takes one disruption from the budget that covers the pod, if there is one.
async fn ask_budget(call: &mut Call, pod: &Value, delete: &DeleteOptions) -> Result<(), Status> {
    let Some(resource) = call.core.kinds.now().preferred("policy", "poddisruptionbudgets") else {
        return Ok(());
    };
    let Some(home) = resource.home.clone() else { return Ok(()) };
    let prefix = format!("{}/", call.namespace);
    let labels = meta::labels(pod);
    let (snapshot, _) = home.cache.snapshot();
    let budgets: Vec<Value> = snapshot
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(_, entry)| entry.parse())
        .filter(|budget| {
            LabelSelector::from_object(budget.at("spec").at("selector")).is_ok_and(|s| s.matches(labels))
        })
        .collect();
    let budget = match &budgets[..] {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let (spec, status) = (budget.at("spec"), budget.at("status"));
    if !is_ready(pod) {
        let healthy = status.int("currentHealthy").unwrap_or(0) >= status.int("desiredHealthy").unwrap_or(0)
            && status.int("desiredHealthy").unwrap_or(0) > 0;
        if spec.text("unhealthyPodEvictionPolicy") == "AlwaysAllow" || healthy {
            return Ok(());
        }
    }
    let name = meta::name(budget).to_owned();
    let (pod_name, dry_run) = (meta::name(pod).to_owned(), delete.dry_run);
    let namespace = call.namespace.clone();
    let now = call.now;
    let mut update = call.core.internal_call(resource, "update", &namespace, &name);
    update.info.subresource = "status".to_owned();
    let options = WriteOptions { dry_run, ..crate::bootstrap::options() };
    let request = UpdateRequest {
        options: &options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |_, old| decrement(old, &pod_name, &fields::timestamp(now)),
    };
    update_object(&mut update, request).await.map(|_| ())
}

fn decrement(old: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let name = meta::name(old);
    let status = old.at("status");
    if status.int("observedGeneration").unwrap_or(0) < old.at("metadata").int("generation").unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        let mut status = refused(name, why);
        if let Some(details) = &mut status.details {
            details.retry_after_seconds = 10;
        }
        return Err(status);
    }
    let allowed = status.int("disruptionsAllowed").unwrap_or(0);
    let about = machinery::GroupResource::new("policy", "poddisruptionbudgets");
    if allowed < 0 {
        return Err(Status::forbidden(&about, name, "pdb disruptions allowed is negative"));
    }
    if status.map("disruptedPods").map_or(0, |m| m.len()) > MOST_DISRUPTED {
        return Err(Status::forbidden(
            &about,
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status.int("desiredHealthy").unwrap_or(0),
            status.int("currentHealthy").unwrap_or(0)
        );
        return Err(refused(name, why));
    }
    let mut new = old.clone();
    let status = new.child("status");
    status.set("disruptionsAllowed", allowed - 1);
    status.child("disruptedPods").set(pod, now);
    Ok(new)
}

/// The pod's status says why it goes.
async fn mark(call: &mut Call, options: &WriteOptions) -> Result<(), Status> {
    let mut update = call.for_resource(call.resource.clone(), "patch", &call.namespace, call.name());
    update.info.subresource = "status".to_owned();
    let now = fields::timestamp(call.now);
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now});
    let request = UpdateRequest {
        options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |_, old| {
            let mut new = old.clone();
            let status = new.child("status");
            if !status.at("conditions").is_array() {
                status.set("conditions", Value::Array(Vec::new()));
            }
            if let Some(Value::Array(list)) = status.get_mut("conditions") {
                list.retain(|c| c.text("type") != "DisruptionTarget");
                list.push(condition.clone());
            }
            Ok(new)
        },
    };
    match update_object(&mut update, request).await {
        Ok(_) => Ok(()),
        Err(status) => Err(status),
    }
}
