//! What a certificate request asks to be certified (RFC 2986).

use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::{Error, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
}

/// Reads a PEM `CERTIFICATE REQUEST`.
pub fn asked(pem: &[u8]) -> Result<Asked> {
    let bad = |why: String| Error::Certificate(why);
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|e| bad(e.to_string()))?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(bad("PEM block type must be CERTIFICATE REQUEST".into()));
    }
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| bad(e.to_string()))?;
    let subject = &request.certification_request_info.subject;
    let text = |a: &x509_parser::x509::AttributeTypeAndValue| a.as_str().ok().map(str::to_owned);
    let mut out = Asked {
        common_name: subject.iter_common_name().find_map(text).unwrap_or_default(),
        organizations: subject.iter_organization().filter_map(text).collect(),
        ..Asked::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => out.dns_names.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => out.emails.push((*name).to_owned()),
                GeneralName::URI(uri) => out.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => out.addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Ok(out)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params =
            rcgen::CertificateParams::new(vec!["node.example".into(), "192.0.2.7".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:a");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let asked = asked(pem.as_bytes()).unwrap();
        assert_eq!(asked.common_name, "system:node:a");
        assert_eq!(asked.organizations, ["system:nodes"]);
        assert_eq!(asked.dns_names, ["node.example"]);
        assert_eq!(asked.addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(super::asked(b"nonsense").is_err());
    }
}
