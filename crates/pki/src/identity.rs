//! Whom a client certificate names (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>).

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, Result};

/// Kubernetes' own attribute (KEP-4710).
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// The subject of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub common_name: String,
    /// The user's groups.
    pub organizations: Vec<String>,
    /// The user's UID, in the subject's attribute 1.3.6.1.4.1.57683.2; more than one is an error.
    pub uids: Vec<String>,
    /// SHA-256 of the certificate, as upstream's `authentication.kubernetes.io/credential-id` shows it.
    pub credential_id: String,
    /// Until when the certificate is good, in seconds since 1970.
    pub not_after: i64,
}

/// Reads the subject of a DER certificate. The chain must have been verified by the TLS layer.
pub fn identity(der: &[u8]) -> Result<Identity> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| Error::Certificate(e.to_string()))?;
    let subject = certificate.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue| value.as_str().map(str::to_owned).ok();
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    Ok(Identity {
        common_name: subject.iter_common_name().find_map(text).unwrap_or_default(),
        organizations: subject.iter_organization().filter_map(text).collect(),
        uids: subject
            .iter_attributes()
            .filter(|a| a.attr_type().to_id_string() == UID_ATTRIBUTE)
            .map(|a| text(a).unwrap_or_default())
            .collect(),
        credential_id: format!("X509SHA256={}", hex(digest.as_ref())),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
pub(crate) fn identity_of_pem(pem: &str) -> Result<Identity> {
    use rustls_pki_types::pem::PemObject;
    let der = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    identity(&der)
}
