//! Mutating webhooks: asked one after the other, each sees what those before it changed.

use std::time::Instant;

use base64::Engine;
use futures_util::FutureExt;
use machinery::patch::json::Patch;
use machinery::{Get, Status, Value, json};

use super::ask::{Failed, ask, note};
use super::{Webhook, is_exempt, webhooks};
use crate::admission::seen::Seen;
use crate::admission::{Attributes, Plugin};
use crate::metrics::{Asked, Half};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "MutatingAdmissionWebhook",
    mutate: Some(|call, attributes| mutate(call, attributes).boxed()),
    validate: None,
};

async fn mutate(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if is_exempt(a) {
        return Ok(());
    }
    let core = call.core.clone();
    let all = core.hooks.mutating_webhooks.now(&core, "mutatingwebhookconfigurations", webhooks);
    if all.is_empty() {
        return Ok(());
    }
    let second = a.reinvocation.second;
    let before = a.object.take();
    a.reinvocation.webhooks.begin(second, before.as_ref());
    a.object = before;
    for (at, hook) in all.iter().flat_map(|c| c.iter()).enumerate() {
        let Some(seen) = hook.wants(call, a, Half::Admit).await? else { continue };
        if second && !a.reinvocation.webhooks.is_to_be_asked(&hook.id) {
            continue;
        }
        let place = format!("round_{}_index_{at}", usize::from(second));
        let began = Instant::now();
        let result = Box::pin(one(call, hook, a, seen, &place)).await;
        let asked = result.as_ref().map_or_else(|failed| failed.asked(hook), |_| Asked::Allowed);
        let (metrics, operation) = (&core.metrics.admission, a.operation);
        metrics.webhook(&hook.name, Half::Admit, operation, began.elapsed(), asked);
        let changed = *result.as_ref().unwrap_or(&false);
        let about = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        call.annotate(&format!("mutation.webhook.admission.k8s.io/{place}"), &about.to_string());
        if changed {
            a.reinvocation.webhooks.changed();
            a.reinvocation.wanted = true;
        }
        if hook.reinvokes {
            a.reinvocation.webhooks.asked(&hook.id);
        }
        match result {
            Ok(_) => {}
            Err(Failed::Status(status) | Failed::Refused(status)) => return Err(*status),
            Err(Failed::Calling(why)) if hook.ignores => {
                tracing::warn!(webhook = hook.name, why, "a webhook failed and is ignored");
                let key = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                call.annotate(&key, &hook.name);
            }
            Err(Failed::Calling(why)) => return Err(hook.failed(&why)),
        }
    }
    let after = a.object.take();
    a.reinvocation.webhooks.end(after.as_ref());
    a.object = after;
    Ok(())
}

/// True if it changed the object.
async fn one(
    call: &mut Call,
    hook: &Webhook,
    a: &mut Attributes,
    seen: Seen,
    place: &str,
) -> Result<bool, Failed> {
    let response = ask(call, hook, a, &seen, true).await?;
    note(call, hook, &response);
    let fatal = |status: Status| Failed::Status(Box::new(status));
    if response.flag("allowed") != Some(true) {
        return Err(Failed::Refused(Box::new(hook.refusal(response.at("status")))));
    }
    let patch = base64::engine::general_purpose::STANDARD.decode(response.text("patch")).unwrap_or_default();
    if patch.is_empty() {
        return Ok(false);
    }
    let undecodable =
        |e: String| Failed::Calling(format!("received undecodable patch in webhook response: {e}"));
    let (decoded, _) = Patch::decode(&patch, false).map_err(|e| undecodable(e.to_string()))?;
    let list: Value = serde_json::from_slice(&patch).map_err(|e| undecodable(e.to_string()))?;
    if list.as_array().is_none_or(Vec::is_empty) {
        return Ok(false);
    }
    let Some(object) = &seen.object else {
        return Err(fatal(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        ))));
    };
    let kind = response.text("patchType");
    if kind != "JSONPatch" {
        return Err(Failed::Calling(format!("unsupported patch type {kind:?}")));
    }
    let patched = decoded.apply(object).map_err(|e| fatal(Status::internal(e)))?;
    let new = seen.as_sent(call, patched).map_err(|why| fatal(Status::internal(why)))?;
    let about = json!({"configuration": hook.configuration, "webhook": hook.name, "patch": list,
        "patchType": "JSONPatch"});
    call.annotate(&format!("patch.webhook.admission.k8s.io/{place}"), &about.to_string());
    let changed = new != *object;
    if changed {
        seen.take_back(call, a, new).await.map_err(fatal)?;
    }
    Ok(changed)
}
