//! ClusterTrustBundles for projected volumes.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use std::collections::{BTreeSet, HashMap};

use crate::pod::PodExt;
use crate::volumes::bundle_key;

/// The PEM text behind every clusterTrustBundle source of the pod.
pub async fn resolve(client: &kube::Client, pod: &Pod) -> HashMap<String, Result<String, String>> {
    let mut out = HashMap::new();
    let projected = pod.spec().volumes.iter().flatten().filter_map(|v| v.projected.as_ref());
    let sources =
        projected.flat_map(|p| p.sources.iter().flatten()).filter_map(|s| s.cluster_trust_bundle.as_ref());
    for source in sources {
        let api = api(client);
        let fetched = match (&source.name, &source.signer_name) {
            (Some(name), _) => api.get(name).await.map(|b| vec![b]).map_err(|e| e.to_string()),
            (None, Some(signer)) => {
                let mut params = ListParams::default().fields(&format!("spec.signerName={signer}"));
                if let Some(selector) = &source.label_selector {
                    let labels = selector.match_labels.iter().flatten().map(|(k, v)| format!("{k}={v}"));
                    params = params.labels(&labels.collect::<Vec<_>>().join(","));
                }
                let found = api.list(&params).await.map(|l| l.items).map_err(|e| e.to_string());
                found.and_then(|items| match items.is_empty() {
                    true => {
                        Err("combination of signerName and labelSelector matched zero ClusterTrustBundles"
                            .into())
                    }
                    false => Ok(items),
                })
            }
            (None, None) => Err("neither name nor signerName is set".into()),
        };
        out.insert(bundle_key(source), fetched.map(|bundles| normalize(&bundles)));
    }
    out
}

fn api(client: &kube::Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "certificates.k8s.io".into(),
        version: "v1beta1".into(),
        api_version: "certificates.k8s.io/v1beta1".into(),
        kind: "ClusterTrustBundle".into(),
        plural: "clustertrustbundles".into(),
    };
    Api::all_with(client.clone(), &resource)
}

/// Each certificate once, in a stable order.
fn normalize(bundles: &[DynamicObject]) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let mut blocks = BTreeSet::new();
    for bundle in bundles {
        let text = bundle.data.pointer("/spec/trustBundle").and_then(|v| v.as_str()).unwrap_or_default();
        for block in text.split_inclusive(END) {
            if let Some(at) = block.find("-----BEGIN CERTIFICATE-----") {
                blocks.insert(format!("{}\n", &block[at..]));
            }
        }
    }
    blocks.into_iter().collect()
}
