//! `pods/binding`: the scheduler's word on which node a pod runs.

use machinery::{Get, GroupVersionKind, Status, Value, json, meta};

use crate::admission::{self, Attributes, Operation};
use crate::front::Incoming;
use crate::front::respond::Answer;
use crate::registry::options::write_options;
use crate::registry::{
    Call, UpdateRequest, check_namespace, decode_body, fields, object_answer, read_body, update_object,
};

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let options = write_options(call, "CreateOptions", false)?;
    let body = read_body(call, body).await?;
    let want = GroupVersionKind::new("", "v1", "Binding");
    let mut binding = decode_body(call, &body, &want, options.strictness)?;
    check_namespace(call, &mut binding)?;
    let target = binding.at("target");
    let name = match call.name() {
        "" => meta::name(&binding).to_owned(),
        name => name.to_owned(),
    };
    if meta::name(&binding) != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let kind = target.text("kind");
    let mut errors = Vec::new();
    let at = machinery::field::Path::new("target");
    if !matches!(kind, "" | "Node") {
        errors.push(machinery::field::Error::not_supported(&at.child("kind"), kind, &["Node", "<empty>"]));
    }
    if target.text("name").is_empty() {
        errors.push(machinery::field::Error::required(&at.child("name"), ""));
    }
    if !errors.is_empty() {
        // upstream returns this error bare
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let message = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
        return Err(Status::new(500, "", message));
    }
    let mut attributes = Attributes::new(call, Operation::Create, options.dry_run);
    attributes.name = name.clone();
    attributes.subresource = "binding".to_owned();
    attributes.object = Some(binding);
    admission::mutate(call, &mut attributes).await?;
    admission::validate(call, &attributes).await?;
    let binding = attributes.object.take().unwrap_or_default();
    let target = binding.at("target");
    let pods = call.core.kinds.now().find("", "v1", "pods");
    let Some(pods) = pods else { return Err(crate::front::respond::generic(404)) };
    let mut pod = call.for_resource(pods, "patch", &call.namespace.clone(), &name);
    pod.info.subresource = "binding".to_owned();
    pod.headers = call.headers.clone();
    let node = target.text("name").to_owned();
    let uid = meta::uid(&binding).to_owned();
    let now = call.now;
    update_object(
        &mut pod,
        UpdateRequest {
            options: &options,
            uid: (!uid.is_empty()).then_some(uid),
            may_create: false,
            // the scheduler owns nothing of a pod
            fields_done: true,
            change: &mut |call, old| assign(call, old, &binding, &node, now),
        },
    )
    .await
    .map_err(|status| match &*status.reason {
        "NotFound" | "Conflict" => status,
        _ => status,
    })?;
    let success =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    object_answer(call, 201, success)
}

fn assign(
    call: &Call,
    old: &Value,
    binding: &Value,
    node: &str,
    now: jiff::Timestamp,
) -> Result<Value, Status> {
    let conflict =
        |why: String| Status::conflict(&machinery::GroupResource::new("", "pods/binding"), call.name(), &why);
    let name = call.name();
    if meta::is_deleting(old) {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let current = old.at("spec").text("nodeName");
    if !current.is_empty() {
        return Err(conflict(format!(
            "pod {name} is already assigned to node {}",
            machinery::field::go_quote(current)
        )));
    }
    if !old.at("spec").list("schedulingGates").is_empty() {
        return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    let mut new = old.clone();
    new.child("spec").set("nodeName", node);
    for (key, value) in meta::annotations(binding).into_iter().flatten() {
        new.child("metadata").child("annotations").set(key, value.clone());
    }
    for (key, value) in meta::labels(binding).into_iter().flatten() {
        new.child("metadata").child("labels").set(key, value.clone());
    }
    let transition = fields::timestamp(now);
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": transition});
    let status = new.child("status");
    if !status.at("conditions").is_array() {
        status.set("conditions", Value::Array(Vec::new()));
    }
    if let Some(Value::Array(list)) = status.get_mut("conditions") {
        match list.iter_mut().find(|c| c.text("type") == "PodScheduled") {
            Some(found) => {
                if found.text("status") != "True" {
                    *found = condition;
                }
            }
            None => list.push(condition),
        }
    }
    Ok(new)
}
