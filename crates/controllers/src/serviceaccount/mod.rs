//! ServiceAccount: every namespace has one named `default`.

use client::write::{ErrorKind, namespace_terminating, namespaced};
use client::{Key, Outcome, Queue, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::common::{Context, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "serviceaccount-controller",
    service_account: "service-account-controller",
    component: "serviceaccount-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

const NAME: &str = "default";

async fn run(context: Context) {
    let namespaces = context.informers.of::<Namespace>();
    let accounts = context.informers.of::<ServiceAccount>();
    namespaces.synced().await;
    accounts.synced().await;
    let queue = Queue::named("serviceaccount");
    let added = queue.clone();
    let _namespaces = namespaces.on_change(move |change| added.add(change.key.clone()));
    let added = queue.clone();
    let _accounts = accounts.on_change(move |change| {
        if change.new.is_none() && change.key.name() == NAME {
            added.add(Key::cluster(change.key.namespace()));
        }
    });
    let reconcile = |key: Key| {
        let (namespaces, accounts, client) = (&namespaces, &accounts, &context.client);
        async move {
            let account = Key::new(key.name(), NAME);
            if !namespaces.get(&key).is_some_and(|namespace| is_active(&namespace))
                || accounts.get(&account).is_some()
            {
                return Ok(Outcome::Done);
            }
            let api: Api<ServiceAccount> = namespaced(client, key.name());
            let metadata = ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(key.name().to_owned()),
                ..Default::default()
            };
            match api.create(&PostParams::default(), &ServiceAccount { metadata, ..Default::default() }).await
            {
                Ok(account) => seen(accounts, &account).await,
                Err(error)
                    if ErrorKind::of(&error) == ErrorKind::AlreadyExists || namespace_terminating(&error) => {
                }
                Err(error) => return Err(error),
            }
            Ok(Outcome::Done)
        }
    };
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}
