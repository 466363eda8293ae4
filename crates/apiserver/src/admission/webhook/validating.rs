//! Validating webhooks: asked all at once, on the object as it will be stored.

use futures_util::FutureExt;
use futures_util::future::join_all;
use machinery::{Get, Status};

use super::ask::{Failed, ask, note};
use super::{is_exempt, webhooks};
use crate::admission::{Attributes, Plugin};
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
        if let Some(seen) = hook.wants(call, a).await? {
            wanted.push((hook, seen));
        }
    }
    let shared: &Call = call;
    let answers = join_all(wanted.iter().map(|(hook, seen)| ask(shared, hook, a, seen, false))).await;
    let mut refused = None;
    for (at, ((hook, _), answer)) in wanted.iter().zip(answers).enumerate() {
        let status = match answer {
            Ok(response) => {
                note(call, hook, &response);
                match response.flag("allowed") {
                    Some(true) => continue,
                    _ => hook.refusal(response.at("status")),
                }
            }
            Err(Failed::Status(status)) => *status,
            Err(Failed::Calling(why)) if hook.ignores => {
                tracing::warn!(webhook = hook.name, why, "a webhook failed and is ignored");
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}");
                call.annotate(&key, &hook.name);
                continue;
            }
            Err(Failed::Calling(why)) => hook.failed(&why),
        };
        refused.get_or_insert(status);
    }
    refused.map_or(Ok(()), Err)
}
