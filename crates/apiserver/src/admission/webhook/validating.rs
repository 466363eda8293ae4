//! Validating webhooks: asked all at once, on the object as it will be stored.

use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::join_all;
use machinery::{Get, Status};

use super::ask::{Failed, ask, note};
use super::{Webhook, is_exempt, webhooks};
use crate::admission::{Attributes, Plugin};
use crate::metrics::{Asked, Half};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "ValidatingAdmissionWebhook",
    mutate: None,
    validate: Some(|call, attributes| validate(call, attributes).boxed()),
};

async fn validate(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    if is_exempt(a) {
        return Ok(());
    }
    let core = call.core.clone();
    let all = core.hooks.validating_webhooks.now(&core, "validatingwebhookconfigurations", webhooks);
    let mut wanted = Vec::new();
    for hook in all.iter().flat_map(|c| c.iter()) {
        if let Some(seen) = hook.wants(call, a, Half::Validate).await? {
            wanted.push((hook, seen));
        }
    }
    let shared: &Call = call;
    let answers = join_all(wanted.iter().map(|(hook, seen)| async move {
        let began = Instant::now();
        (ask(shared, hook, a, seen, false).await, began.elapsed())
    }))
    .await;
    let mut refused = None;
    for (at, ((hook, _), (answer, took))) in wanted.iter().zip(answers).enumerate() {
        let metrics = &core.metrics.admission;
        let told = |asked| metrics.webhook(&hook.name, Half::Validate, a.operation, took, asked);
        let response = match answer {
            Ok(response) => response,
            Err(failed) => {
                told(failed.asked(hook));
                if let Some(status) = failure(call, hook, at, failed) {
                    refused.get_or_insert(status);
                }
                continue;
            }
        };
        note(call, hook, &response);
        if response.flag("allowed") == Some(true) {
            told(Asked::Allowed);
            continue;
        }
        let status = hook.refusal(response.at("status"));
        told(Asked::Refused(status.code));
        refused.get_or_insert(status);
    }
    refused.map_or(Ok(()), Err)
}

/// What follows from no answer; nothing if that is to be overlooked.
fn failure(call: &Call, hook: &Webhook, at: usize, failed: Failed) -> Option<Status> {
    match failed {
        Failed::Status(status) | Failed::Refused(status) => Some(*status),
        Failed::Calling(why) if hook.ignores => {
            tracing::warn!(webhook = hook.name, why, "a webhook failed and is ignored");
            let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}");
            call.annotate(&key, &hook.name);
            None
        }
        Failed::Calling(why) => Some(hook.failed(&why)),
    }
}
