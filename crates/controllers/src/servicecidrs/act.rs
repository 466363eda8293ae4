//! Carries out what is decided of a ServiceCIDR.

use client::write::{ErrorKind, Part, apply, ignore_not_found, strategic};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use serde_json::{Value, json};

use super::decide::{FINALIZER, Plan, READY, SAYS_BLOCKED, SAYS_READY, allocated, decide, prefixes};
use crate::common::{Context, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "service-cidr-controller",
    service_account: "service-cidrs-controller",
    component: MANAGER,
    on_by_default: true,
    start: |context| run(context).boxed(),
};

const MANAGER: &str = "service-cidr-controller";

async fn run(context: Context) {
    let cidrs = context.informers.of::<ServiceCIDR>();
    let addresses = context.informers.of::<IPAddress>();
    cidrs.synced().await;
    addresses.synced().await;
    let queue = Queue::named("ipaddresses");
    let (added, all) = (queue.clone(), cidrs.clone());
    let _cidrs = cidrs.on_change(move |change| {
        added.add(change.key.clone());
        // A range that comes may free those that it overlaps.
        if let (None, Some(new)) = (change.old, change.new) {
            let own = prefixes(new);
            all.for_each(|key, other| {
                if prefixes(other).iter().any(|prefix| own.iter().any(|own| own.overlaps(prefix))) {
                    added.add(key.clone());
                }
            });
        }
    });
    let (added, all) = (queue.clone(), cidrs.clone());
    let _addresses = addresses.on_change(move |change| {
        if change.old.is_some() && change.new.is_some() {
            return;
        }
        let Some(ip) = change.old.or(change.new).and_then(|ip| allocated(ip)) else { return };
        all.for_each(|key, cidr| {
            // Only what is going asks who is inside.
            if cidr.metadata.deletion_timestamp.is_some() && prefixes(cidr).iter().any(|p| p.serves(ip)) {
                added.add(key.clone());
            }
        });
    });
    let reconcile = |key: Key| reconcile(&context, &cidrs, &addresses, key);
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

async fn reconcile(
    context: &Context,
    cidrs: &Store<ServiceCIDR>,
    addresses: &Store<IPAddress>,
    key: Key,
) -> Result<Outcome, kube::Error> {
    let Some(cidr) = cidrs.get(&key) else { return Ok(Outcome::Done) };
    let mut taken = Vec::new();
    if cidr.metadata.deletion_timestamp.is_some() {
        addresses.for_each(|_, ip| taken.extend(allocated(ip)));
    }
    let api: Api<ServiceCIDR> = Api::all(context.client.clone());
    let patch = async |body: Value| {
        if let Some(written) = ignore_not_found(strategic(&api, key.name(), Part::Main, &body).await)? {
            seen(cidrs, &written).await;
        }
        Ok::<_, kube::Error>(Outcome::Done)
    };
    match decide(&cidr, &cidrs.list(), taken.into_iter(), Timestamp::now()) {
        Plan::Keep { finalizer, condition } => {
            if finalizer {
                patch(json!({"metadata": {"finalizers": [FINALIZER]}})).await?;
            }
            if condition && let Err(error) = say(&api, cidrs, &key, SAYS_READY).await {
                if ErrorKind::of(&error) == ErrorKind::NotFound {
                    return Ok(Outcome::Done);
                }
                let text = "The ServiceCIDR Status can not be set to Ready=True";
                context.recorder.warning(&*cidr, "KubernetesServiceCIDRError", text);
                return Err(error);
            }
            Ok(Outcome::Done)
        }
        Plan::Blocked { condition: true } => {
            ignore_not_found(say(&api, cidrs, &key, SAYS_BLOCKED).await)?;
            Ok(Outcome::Done)
        }
        Plan::Blocked { condition: false } | Plan::Nothing => Ok(Outcome::Done),
        Plan::Wait(time) => Ok(Outcome::After(time)),
        Plan::Release => {
            patch(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}})).await
        }
    }
}

async fn say(
    api: &Api<ServiceCIDR>,
    cidrs: &Store<ServiceCIDR>,
    key: &Key,
    [status, reason, message]: [&str; 3],
) -> Result<(), kube::Error> {
    let condition = json!({
        "type": READY, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": Time(Timestamp::now()),
    });
    let body = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": key.name()},
        "status": {"conditions": [condition]},
    });
    let written = apply(api, key.name(), Part::Status, MANAGER, &body).await?;
    seen(cidrs, &written).await;
    Ok(())
}
