//! ValidatingAdmissionPolicy status: what is wrong with a policy's expressions, given the schemas of the kinds that it
//! is about. <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking>

mod act;
mod check;
mod kinds;
#[cfg(test)]
mod tests;

use client::write::{Part, ignore_not_found};
use client::{Key, Outcome, Queue, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy as Policy;
use kube::Api;
use serde_json::json;

use crate::common::{Context, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "validatingadmissionpolicy-status-controller",
    service_account: "validatingadmissionpolicy-status-controller",
    component: "validatingadmissionpolicy-status-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

const MANAGER: &str = "validatingadmissionpolicy-status";

async fn run(context: Context) {
    let policies = context.informers.of::<Policy>();
    policies.synced().await;
    let queue = Queue::named("validatingadmissionpolicy-status");
    let added = queue.clone();
    let _policies = policies.on_change(move |change| {
        if change.new.is_some_and(|policy| is_due(policy)) {
            added.add(change.key.clone());
        }
    });
    let api: Api<Policy> = Api::all(context.client.clone());
    let reconcile = |key: Key| {
        let (policies, api, client) = (&policies, &api, &context.client);
        async move {
            let Some(policy) = policies.get(&key).filter(|policy| is_due(policy)) else {
                return Ok(Outcome::Done);
            };
            let warnings = act::warnings(client, &policy).await?;
            let checked = match warnings.is_empty() {
                true => json!({}),
                false => json!({"expressionWarnings": warnings}),
            };
            let body = json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": key.name()},
                "status": {"observedGeneration": policy.metadata.generation, "typeChecking": checked},
            });
            let written = client::write::apply(api, key.name(), Part::Status, MANAGER, &body).await;
            if let Some(policy) = ignore_not_found::<Policy>(written)? {
                seen(policies, &policy).await;
            }
            Ok::<_, kube::Error>(Outcome::Done)
        }
    };
    run_workers(&queue, context.config.concurrency.min(5), &context.shutdown, reconcile).await;
}

/// Each generation is checked once: a schema that changes later does not bring the policy back.
fn is_due(policy: &Policy) -> bool {
    let observed = policy.status.as_ref().and_then(|status| status.observed_generation);
    policy.metadata.generation.unwrap_or(0) > observed.unwrap_or(0)
}
