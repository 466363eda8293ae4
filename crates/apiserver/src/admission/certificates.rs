//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign for whom.

use base64::Engine;
use futures_util::FutureExt;
use machinery::{Get, Status};

use super::{Attributes, Operation, Plugin, forbidden};
use crate::authz;
use crate::registry::Call;

pub static APPROVAL: Plugin = Plugin {
    name: "CertificateApproval",
    mutate: None,
    validate: Some(|call, a| async move { may(call, a, "approval", "approve").await }.boxed()),
};

pub static SIGNING: Plugin = Plugin {
    name: "CertificateSigning",
    mutate: None,
    validate: Some(|call, a| async move { may(call, a, "status", "sign").await }.boxed()),
};

pub static SUBJECT: Plugin = Plugin {
    name: "CertificateSubjectRestriction",
    mutate: None,
    validate: Some(|_, a| async move { subject(a) }.boxed()),
};

pub static ATTEST: Plugin = Plugin {
    name: "ClusterTrustBundleAttest",
    mutate: None,
    validate: Some(|call, a| attest(call, a).boxed()),
};

const GROUP: &str = "certificates.k8s.io";

fn is_request(a: &Attributes) -> bool {
    a.resource.group == GROUP && a.resource.name == "certificatesigningrequests"
}

async fn may(call: &Call, a: &Attributes, subresource: &str, verb: &'static str) -> Result<(), Status> {
    if !is_request(a) || a.subresource != subresource || a.operation != Operation::Update {
        return Ok(());
    }
    let (new, old) = (a.object(), a.old());
    // status without a new certificate or failure signs nothing
    let same = |key: &str| new.at("status").at(key) == old.at("status").at(key);
    if verb == "sign" && same("certificate") && same("conditions") {
        return Ok(());
    }
    let signer = old.at("spec").text("signerName");
    if is_allowed_for_signer(call, verb, signer).await {
        return Ok(());
    }
    let why = format!(
        "user not permitted to {verb} requests with signerName {}",
        machinery::field::go_quote(signer)
    );
    Err(forbidden(a, &why))
}

/// May the user do this for the signer, or for all of the signer's domain?
async fn is_allowed_for_signer(call: &Call, verb: &'static str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let ask = authz::Attributes {
            is_resource: true,
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name: &name,
            ..authz::Attributes::default()
        };
        if authz::check(&call.core, &call.user, &ask).await.is_ok() {
            return true;
        }
    }
    false
}

/// Who writes a bundle of a signer speaks for that signer.
async fn attest(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    let write = matches!(a.operation, Operation::Create | Operation::Update);
    if !a.is(GROUP, "clustertrustbundles") || !write {
        return Ok(());
    }
    let signer = a.object().at("spec").text("signerName");
    let unchanged =
        a.operation == Operation::Update && super::escalation::only_garbage_fields(a.object(), a.old());
    if signer.is_empty() || unchanged || is_allowed_for_signer(call, "attest", signer).await {
        return Ok(());
    }
    let signer = machinery::field::go_quote(signer);
    Err(forbidden(a, &format!("user not permitted to attest for signerName {signer}")))
}

/// The signer for API clients must not make members of `system:masters`.
fn subject(a: &Attributes) -> Result<(), Status> {
    if !is_request(a) || !a.subresource.is_empty() || a.operation != Operation::Create {
        return Ok(());
    }
    let spec = a.object().at("spec");
    if spec.text("signerName") != "kubernetes.io/kube-apiserver-client" {
        return Ok(());
    }
    let pem = base64::engine::general_purpose::STANDARD.decode(spec.text("request")).unwrap_or_default();
    let Ok(subject) = pki::asked(&pem) else { return Ok(()) };
    if subject.organizations.iter().any(|o| o == "system:masters") {
        return Err(forbidden(
            a,
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        ));
    }
    Ok(())
}
