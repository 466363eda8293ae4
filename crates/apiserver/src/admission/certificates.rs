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
    validate: Some(|call, a| async move { may(call, a, "approval", "approve") }.boxed()),
};

pub static SIGNING: Plugin = Plugin {
    name: "CertificateSigning",
    mutate: None,
    validate: Some(|call, a| async move { may(call, a, "status", "sign") }.boxed()),
};

pub static SUBJECT: Plugin = Plugin {
    name: "CertificateSubjectRestriction",
    mutate: None,
    validate: Some(|_, a| async move { subject(a) }.boxed()),
};

const GROUP: &str = "certificates.k8s.io";

fn is_request(a: &Attributes) -> bool {
    a.resource.group == GROUP && a.resource.name == "certificatesigningrequests"
}

fn may(call: &Call, a: &Attributes, subresource: &str, verb: &'static str) -> Result<(), Status> {
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
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let allowed = [signer.to_owned(), format!("{domain}/*")].iter().any(|name| {
        let ask = authz::Attributes {
            is_resource: true,
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..authz::Attributes::default()
        };
        authz::check(&call.core, &call.user, &ask).is_ok()
    });
    if allowed {
        return Ok(());
    }
    let why = format!(
        "user not permitted to {verb} requests with signerName {}",
        machinery::field::go_quote(signer)
    );
    Err(forbidden(a, &why))
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
    let Some(organizations) = request_organizations(&pem) else { return Ok(()) };
    if organizations.iter().any(|o| o == "system:masters") {
        return Err(forbidden(
            a,
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        ));
    }
    Ok(())
}

fn request_organizations(pem: &[u8]) -> Option<Vec<String>> {
    use x509_parser::prelude::FromDer;
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, request) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    Some(subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect())
}
