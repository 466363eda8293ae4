//! NodeRestriction for certificates: a kubelet asks only for its own, and for those of pods on its node.

use base64::Engine;
use machinery::field::go_quote;
use machinery::{Get, Status, meta};

use super::serviceaccount::MIRROR;
use super::{Attributes, Operation, cached, forbidden};
use crate::registry::Call;

const SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

pub fn signing(a: &Attributes, node: &str) -> Result<(), Status> {
    let spec = a.object().at("spec");
    if a.operation != Operation::Create || !SIGNERS.contains(&spec.text("signerName")) {
        return Ok(());
    }
    let pem = base64::engine::general_purpose::STANDARD.decode(spec.text("request")).unwrap_or_default();
    let Ok(subject) = pki::asked(&pem) else {
        return Err(forbidden(a, "unable to parse csr: PEM block type must be CERTIFICATE REQUEST"));
    };
    if subject.common_name == format!("system:node:{node}") {
        return Ok(());
    }
    Err(forbidden(a, &format!("can only create a node CSR with CN=system:node:{node}")))
}

/// A request for a pod's certificate names the node, the pod on it and the pod's account as they are.
pub fn request(call: &Call, a: &Attributes, node: &str) -> Result<(), Status> {
    if a.operation != Operation::Create {
        return Err(forbidden(a, &format!("unexpected operation {}", a.operation.name())));
    }
    let spec = a.object().at("spec");
    let (pod_name, account) = (spec.text("podName"), spec.text("serviceAccountName"));
    let full = format!("{}/{pod_name}", a.namespace);
    let shown = go_quote(&full);
    // what may only be late is not forbidden: asking again may help
    let late = |why: String| Err(Status::new(500, "", why));
    if spec.text("nodeName") != node {
        let (said, node) = (go_quote(spec.text("nodeName")), go_quote(node));
        let why =
            format!("PodCertificateRequest.Spec.NodeName={said}, which is not the requesting node {node}");
        return Err(forbidden(a, &why));
    }
    let Some(live) = cached(call, "", "nodes", node) else {
        return late(format!(
            "while retrieving node {} named in the PodCertificateRequest: node {} not found",
            go_quote(node),
            go_quote(node)
        ));
    };
    if meta::uid(&live) != spec.text("nodeUID") {
        let (said, live) = (go_quote(spec.text("nodeUID")), go_quote(meta::uid(&live)));
        return late(format!(
            "PodCertificateRequest for pod {shown} names node UID {said}, inconsistent with the running node ({live})"
        ));
    }
    let Some(pod) = cached(call, "", "pods", &full) else {
        return late(format!(
            "while retrieving pod {shown} named in the PodCertificateRequest: pod {} not found",
            go_quote(pod_name)
        ));
    };
    if meta::uid(&pod) != spec.text("podUID") {
        let (said, live) = (go_quote(spec.text("podUID")), go_quote(meta::uid(&pod)));
        return late(format!(
            "PodCertificateRequest for pod {shown} contains pod UID ({said}) which differs from running pod {live}"
        ));
    }
    if pod.at("spec").text("nodeName") != node {
        let why = format!(
            "pod {shown} is not running on node {} named in the PodCertificateRequest",
            go_quote(node)
        );
        return Err(forbidden(a, &why));
    }
    if meta::annotations(&pod).is_some_and(|m| m.contains_key(MIRROR)) {
        return Err(forbidden(a, &format!("pod {shown} is a mirror pod")));
    }
    let runs_as = pod.at("spec").text("serviceAccountName");
    if account != runs_as {
        let (said, live) = (go_quote(account), go_quote(runs_as));
        let why = format!(
            "PodCertificateRequest for pod {shown} contains serviceAccountName ({said}) that differs from running pod ({live})"
        );
        return Err(forbidden(a, &why));
    }
    let key = format!("{}/{account}", a.namespace);
    let Some(live) = cached(call, "", "serviceaccounts", &key) else {
        return late(format!(
            "while retrieving service account {} named in the PodCertificateRequest: serviceaccount {} not found",
            go_quote(&key),
            go_quote(account)
        ));
    };
    if meta::uid(&live) != spec.text("serviceAccountUID") {
        let (said, live) = (go_quote(spec.text("serviceAccountUID")), go_quote(meta::uid(&live)));
        return late(format!(
            "PodCertificateRequest for pod {shown} names service account UID {said}, which differs from the running service account ({live})"
        ));
    }
    Ok(())
}
