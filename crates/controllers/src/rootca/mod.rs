//! Root CA: every namespace has a ConfigMap with the certificates to verify the API server by.

use std::collections::BTreeMap;

use client::write::{ErrorKind, namespace_terminating, namespaced};
use client::{Key, Outcome, Queue, Source, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::common::{Context, seen};
use crate::serviceaccount::is_active;
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "root-ca-certificate-publisher-controller",
    service_account: "root-ca-cert-publisher",
    component: "root-ca-cert-publisher",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

async fn run(context: Context) {
    let Some(certificates) = context.config.root_ca.clone() else { return };
    let namespaces = context.informers.of::<Namespace>();
    let maps: Store<ConfigMap> =
        context.informers.watch(Source::of::<ConfigMap>().fields(format!("metadata.name={NAME}")));
    namespaces.synced().await;
    maps.synced().await;
    let queue = Queue::named("root_ca_cert_publisher");
    let added = queue.clone();
    let _namespaces = namespaces.on_change(move |change| {
        if change.old.is_none() || change.old.map(|n| is_active(n)) != change.new.map(|n| is_active(n)) {
            added.add(change.key.clone());
        }
    });
    let added = queue.clone();
    let _maps = maps.on_change(move |change| {
        if change.key.name() == NAME {
            added.add(Key::cluster(change.key.namespace()));
        }
    });
    let reconcile = |key: Key| {
        let (namespaces, maps, client, certificates) = (&namespaces, &maps, &context.client, &certificates);
        async move {
            if !namespaces.get(&key).is_some_and(|namespace| is_active(&namespace)) {
                return Ok(Outcome::Done);
            }
            let api: Api<ConfigMap> = namespaced(client, key.name());
            let params = PostParams::default();
            let written =
                match decide(maps.get(&Key::new(key.name(), NAME)).as_deref(), key.name(), certificates) {
                    None => return Ok(Outcome::Done),
                    Some(map) if map.metadata.resource_version.is_some() => {
                        api.replace(NAME, &params, &map).await
                    }
                    Some(map) => api.create(&params, &map).await,
                };
            match written {
                Ok(map) => seen(maps, &map).await,
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

/// The map to write, if it is not there or not as it should be.
fn decide(old: Option<&ConfigMap>, namespace: &str, certificates: &str) -> Option<ConfigMap> {
    let data = BTreeMap::from([("ca.crt".to_owned(), certificates.to_owned())]);
    let described = |map: &ConfigMap| {
        map.metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(DESCRIPTION_KEY))
            .is_some_and(|d| d == DESCRIPTION)
    };
    if old.is_some_and(|map| map.data.as_ref() == Some(&data) && described(map)) {
        return None;
    }
    let mut map = old.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..Default::default()
        },
        ..Default::default()
    });
    let annotations = map.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned());
    map.data = Some(data);
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_and_mended_and_then_left_alone() {
        let mut map = decide(None, "ns", "CA").unwrap();
        assert_eq!(decide(Some(&map), "ns", "CA"), None);
        map.data.as_mut().unwrap().insert("x".into(), "y".into());
        assert_eq!(decide(Some(&map), "ns", "CA").unwrap().data.unwrap().len(), 1);
        assert!(decide(Some(&map), "ns", "NEW").is_some());
    }
}
