//! A certificate authority on disk (`NAME.crt`, `NAME.key`), and what it issues.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use time::OffsetDateTime;

use crate::{Error, Result, files};

/// Ten years, as kubeadm's authorities.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of other hosts may be behind by this much.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// A certificate authority.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Client,
    Server,
    Both,
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The user's name for client certificates.
    pub common_name: &'a str,
    /// The user's group; X.509 via this function carries one.
    pub organization: Option<&'a str>,
    pub dns_names: &'a [String],
    pub addresses: &'a [IpAddr],
    pub usage: Usage,
    pub life: Duration,
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads `dir/NAME.crt` and `dir/NAME.key`, or makes and writes them. Half of the pair is an error: we never
    /// overwrite a key.
    pub fn load_or_create(dir: &Path, name: &str, common_name: &str) -> Result<Self> {
        let (certificate_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        match (files::read(&certificate_path)?, files::read(&key_path)?) {
            (Some(certificate), Some(key)) => {
                Self::from_pem(certificate, &key).map_err(|why| Error::Damaged {
                    path: certificate_path.display().to_string(),
                    why: format!("not a usable certificate authority: {why}"),
                })
            }
            (None, None) => {
                let (authority, key) = Self::create(common_name)?;
                files::write_private(&key_path, key.as_bytes())?;
                files::write(&certificate_path, authority.certificate_pem.as_bytes(), 0o644)?;
                Ok(authority)
            }
            (found, _) => {
                let (there, missing) = match found {
                    Some(_) => (&certificate_path, &key_path),
                    None => (&key_path, &certificate_path),
                };
                Err(Error::Damaged {
                    path: missing.display().to_string(),
                    why: format!("is missing while {} exists; restore it from a backup", there.display()),
                })
            }
        }
    }

    /// A new authority, and its key as PEM.
    pub fn create(common_name: &str) -> Result<(Self, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.subject_alt_names = dns_san(common_name).into_iter().collect();
        valid(&mut params, AUTHORITY_LIFE)?;
        let key = KeyPair::generate().map_err(key_error)?;
        let key_pem = key.serialize_pem();
        let certificate = params.self_signed(&key).map_err(certificate_error)?;
        let authority = Self { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) };
        Ok((authority, key_pem))
    }

    /// From PEM texts (any key kind that ring signs with).
    pub fn from_pem(certificate_pem: String, key_pem: &str) -> Result<Self> {
        let key = KeyPair::from_pem(key_pem).map_err(key_error)?;
        usable(&certificate_pem, &key)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(certificate_error)?;
        Ok(Self { certificate_pem, issuer })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A new P-256 key with a certificate over it.
    pub fn issue(&self, request: &Request) -> Result<Issued> {
        let Request { common_name, organization, dns_names, addresses, usage, life } = request;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        params.distinguished_name.push(DnType::CommonName, *common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        for name in *dns_names {
            params.subject_alt_names.push(
                dns_san(name).ok_or_else(|| Error::Certificate(format!("{name:?} is not a DNS name")))?,
            );
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, *life)?;
        let key = KeyPair::generate().map_err(key_error)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(certificate_error)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs a PEM certificate request with the given usages (`client auth`, `server auth`, `digital signature`, …,
    /// as in a CertificateSigningRequest object); unknown usages are an error.
    pub fn sign(&self, csr_pem: &str, usages: &[String], life: Duration) -> Result<String> {
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem).map_err(certificate_error)?;
        csr.params.key_usages.clear();
        csr.params.extended_key_usages.clear();
        for usage in usages {
            match usage.as_str() {
                "digital signature" => csr.params.key_usages.push(KeyUsagePurpose::DigitalSignature),
                "key encipherment" => csr.params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                "client auth" => csr.params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
                "server auth" => csr.params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
                other => return Err(Error::Certificate(format!("usage {other:?} is not supported"))),
            }
        }
        csr.params.is_ca = IsCa::ExplicitNoCa;
        valid(&mut csr.params, life)?;
        Ok(csr.signed_by(&self.issuer).map_err(certificate_error)?.pem())
    }
}

/// What would otherwise show only as clients that refuse every certificate: another's key, a past end, no authority.
fn usable(certificate_pem: &str, key: &KeyPair) -> Result<()> {
    let bad = |why: String| Error::Certificate(why);
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
    let certificate = pem.parse_x509().map_err(|e| bad(e.to_string()))?;
    if certificate.public_key().subject_public_key.data != key.public_key_raw() {
        return Err(bad("the key beside it is that of another certificate".into()));
    }
    if !certificate.is_ca() {
        return Err(bad("it may not sign others (no CA certificate)".into()));
    }
    let end = certificate.validity().not_after;
    if end.to_datetime() < OffsetDateTime::now_utc() {
        return Err(bad(format!("it ended on {end}; renew it with the same key")));
    }
    Ok(())
}

/// Not before a little ago, not after `life` from now, with a random 127-bit serial number.
fn valid(params: &mut CertificateParams, life: Duration) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SKEW;
    params.not_after = now + life;
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| Error::Key("no randomness".into()))?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

fn dns_san(name: &str) -> Option<SanType> {
    Some(SanType::DnsName(name.to_owned().try_into().ok()?))
}

fn certificate_error(e: rcgen::Error) -> Error {
    Error::Certificate(e.to_string())
}

fn key_error(e: rcgen::Error) -> Error {
    Error::Key(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(common_name: &'a str, organization: Option<&'a str>) -> Request<'a> {
        let life = Duration::from_secs(3600);
        Request { common_name, organization, dns_names: &[], addresses: &[], usage: Usage::Client, life }
    }

    #[test]
    fn an_authority_survives_reloading_and_its_certificates_name_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let made = Authority::load_or_create(dir.path(), "ca", "kubernetes").unwrap();
        let read = Authority::load_or_create(dir.path(), "ca", "kubernetes").unwrap();
        assert_eq!(made.certificate_pem(), read.certificate_pem());
        let issued = read.issue(&request("admin", Some("system:masters"))).unwrap();
        let who = crate::identity::identity_of_pem(&issued.certificate_pem).unwrap();
        assert_eq!(
            (who.common_name.as_str(), &who.organizations[..]),
            ("admin", &["system:masters".to_owned()][..])
        );
    }

    #[test]
    fn half_an_authority_is_an_error_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), "ca", "kubernetes").unwrap();
        std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
        let key = std::fs::read(dir.path().join("ca.key")).unwrap();
        let error = Authority::load_or_create(dir.path(), "ca", "kubernetes").err().unwrap().to_string();
        assert!(error.contains("ca.crt") && error.contains("missing"), "{error}");
        assert_eq!(std::fs::read(dir.path().join("ca.key")).unwrap(), key);
    }

    #[test]
    fn an_authority_that_nobody_would_trust_is_refused() {
        let (authority, key) = Authority::create("kubernetes").unwrap();
        let (_, other) = Authority::create("kubernetes").unwrap();
        let leaf = authority.issue(&request("admin", None)).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = OffsetDateTime::now_utc() - AUTHORITY_LIFE;
        params.not_after = OffsetDateTime::now_utc() - Duration::from_secs(60);
        let past = params.self_signed(&KeyPair::from_pem(&key).unwrap()).unwrap().pem();
        let good = authority.certificate_pem().to_owned();
        for (certificate, key, says) in [
            (good.clone(), &other, "another certificate"),
            (leaf.certificate_pem, &leaf.key_pem, "may not sign"),
            (past, &key, "it ended on"),
        ] {
            let error = Authority::from_pem(certificate, key).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
        Authority::from_pem(good, &key).unwrap();
    }
}
