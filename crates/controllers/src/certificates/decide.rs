//! Which approved requests are signed, and for how long.

use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pki::Asked;

/// The longest that a certificate lives (upstream: `--cluster-signing-duration`).
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
const SHORTEST: Duration = Duration::from_secs(600);

/// The signers of this controller.
const SIGNERS: [&str; 4] = [
    "kubernetes.io/kube-apiserver-client",
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/legacy-unknown",
];

/// Is a request approved and still without an answer, and is it ours to sign?
pub(super) fn is_due(csr: &CertificateSigningRequest) -> bool {
    let status = csr.status.clone().unwrap_or_default();
    let has = |kind: &str| status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True");
    SIGNERS.contains(&csr.spec.signer_name.as_str())
        && has("Approved")
        && !has("Denied")
        && !has("Failed")
        && status.certificate.is_none_or(|certificate| certificate.0.is_empty())
}

/// How long the certificate lives.
pub(super) fn life(csr: &CertificateSigningRequest) -> Duration {
    let asked = csr.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    asked.map_or(LONGEST, |seconds| Duration::from_secs(seconds).clamp(SHORTEST, LONGEST))
}

/// Does a request keep the rules of its signer? The error is upstream's text for the Failed condition.
pub(super) fn check(signer: &str, asked: &Asked, usages: &[String]) -> Result<(), String> {
    match signer {
        "kubernetes.io/kube-apiserver-client" => client_usages(usages),
        "kubernetes.io/kube-apiserver-client-kubelet" => kubelet_client(asked, usages),
        "kubernetes.io/kubelet-serving" => kubelet_serving(asked, usages),
        _ => Ok(()),
    }
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("missing required usage for client certificate: client auth".into());
    }
    Ok(())
}

const NO_NODES: &str = "subject organization is not system:nodes";
const NO_NODE: &str = "subject common name does not begin with system:node:";

fn kubelet_client(asked: &Asked, usages: &[String]) -> Result<(), String> {
    let refused = [
        (asked.organizations != ["system:nodes"], NO_NODES),
        (!asked.dns_names.is_empty(), "DNS subjectAltNames are not allowed"),
        (!asked.emails.is_empty(), "Email subjectAltNames are not allowed"),
        (!asked.addresses.is_empty(), "IP subjectAltNames are not allowed"),
        (!asked.uris.is_empty(), "URI subjectAltNames are not allowed"),
        (!asked.common_name.starts_with("system:node:"), NO_NODE),
    ];
    first(&refused)?;
    exactly(usages, "client auth")
}

fn kubelet_serving(asked: &Asked, usages: &[String]) -> Result<(), String> {
    let nameless = asked.dns_names.is_empty() && asked.addresses.is_empty();
    let refused = [
        (asked.organizations != ["system:nodes"], NO_NODES),
        (nameless, "DNS or IP subjectAltName is required"),
        (!asked.emails.is_empty(), "Email subjectAltNames are not allowed"),
        (!asked.uris.is_empty(), "URI subjectAltNames are not allowed"),
    ];
    first(&refused)?;
    exactly(usages, "server auth")?;
    first(&[(!asked.common_name.starts_with("system:node:"), NO_NODE)])
}

fn first(refused: &[(bool, &str)]) -> Result<(), String> {
    refused.iter().find(|(is, _)| *is).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
}

/// A digital signature, `auth`, and at most key encipherment besides.
fn exactly(usages: &[String], auth: &str) -> Result<(), String> {
    let mut given: Vec<&str> = usages.iter().map(String::as_str).collect();
    given.sort_unstable();
    given.dedup();
    let mut all = [auth, "digital signature", "key encipherment"];
    all.sort_unstable();
    let without: Vec<&str> = all.into_iter().filter(|usage| *usage != "key encipherment").collect();
    if given == all || given == without {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", all.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn only_approved_requests_of_our_signers_are_due() {
        let csr = |signer: &str, kinds: &[&str], certificate: &str| -> CertificateSigningRequest {
            let conditions: Vec<_> =
                kinds.iter().map(|kind| serde_json::json!({"type": kind, "status": "True"})).collect();
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "a"}, "spec": {"request": "", "signerName": signer},
                "status": {"conditions": conditions, "certificate": certificate}}))
            .unwrap()
        };
        let ours = SIGNERS[0];
        assert!(is_due(&csr(ours, &["Approved"], "")));
        assert!(!is_due(&csr(ours, &[], "")));
        assert!(!is_due(&csr(ours, &["Approved", "Denied"], "")));
        assert!(!is_due(&csr(ours, &["Approved", "Failed"], "")));
        assert!(!is_due(&csr(ours, &["Approved"], "YQ==")));
        assert!(!is_due(&csr("example.com/other", &["Approved"], "")));
    }

    #[test]
    fn signers_have_rules() {
        let node = Asked {
            common_name: "system:node:a".into(),
            organizations: texts(&["system:nodes"]),
            ..Asked::default()
        };
        let client = texts(&["client auth", "digital signature"]);
        let server = texts(&["digital signature", "key encipherment", "server auth"]);
        let user = Asked { common_name: "jane".into(), ..Asked::default() };
        let serving = Asked { dns_names: texts(&["a"]), ..node.clone() };
        let check = |signer: &str, asked: &Asked, usages: &[String], want: &str| {
            let signer = format!("kubernetes.io/{signer}");
            assert_eq!(super::check(&signer, asked, usages).err().unwrap_or_default(), want, "{signer}");
        };
        check("kube-apiserver-client", &user, &client, "");
        let invalid = "invalid usage for client certificate: server auth";
        check("kube-apiserver-client", &user, &server, invalid);
        let missing = "missing required usage for client certificate: client auth";
        check("kube-apiserver-client", &user, &texts(&["digital signature"]), missing);
        check("kube-apiserver-client-kubelet", &node, &client, "");
        check("kube-apiserver-client-kubelet", &user, &client, NO_NODES);
        check("kube-apiserver-client-kubelet", &serving, &client, "DNS subjectAltNames are not allowed");
        let usages = "usages did not match [client auth digital signature key encipherment]";
        check("kube-apiserver-client-kubelet", &node, &server, usages);
        check("kubelet-serving", &serving, &server, "");
        check("kubelet-serving", &node, &server, "DNS or IP subjectAltName is required");
        check("legacy-unknown", &user, &server, "");
    }

    #[test]
    fn lives_are_bounded() {
        let csr = |seconds: Option<i32>| {
            let mut csr = CertificateSigningRequest::default();
            csr.spec.expiration_seconds = seconds;
            life(&csr).as_secs()
        };
        assert_eq!((csr(None), csr(Some(1)), csr(Some(3600))), (LONGEST.as_secs(), 600, 3600));
    }
}
