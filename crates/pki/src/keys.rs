//! Keys that sign tokens: RSA (2048 bits and more) and ECDSA (P-256, P-384), read from PEM as upstream reads them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::{Error, Result};

/// Signs tokens.
pub enum PrivateKey {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
}

impl PrivateKey {
    /// A new 2048-bit RSA key as PKCS#8 PEM. Takes about 80 ms, sometimes three times as long.
    pub fn generate_rsa_pem() -> Result<String> {
        let mut random = rsa::rand_core::UnwrapErr(getrandom::SysRng);
        let key = RsaPrivateKey::new(&mut random, 2048).map_err(|e| Error::Key(e.to_string()))?;
        let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|e| Error::Key(e.to_string()))?;
        Ok(pem.to_string())
    }

    pub fn from_pem(pem: &str) -> Result<Self> {
        let bad = |e: &dyn std::fmt::Display| Error::Key(e.to_string());
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| bad(&e))?;
        match &der {
            PrivateKeyDer::Pkcs1(rsa) => {
                Ok(Self::Rsa(RsaKeyPair::from_der(rsa.secret_pkcs1_der()).map_err(|e| bad(&e))?))
            }
            PrivateKeyDer::Pkcs8(any) => {
                let any = any.secret_pkcs8_der();
                let random = SystemRandom::new();
                if let Ok(key) = RsaKeyPair::from_pkcs8(any) {
                    return Ok(Self::Rsa(key));
                }
                let p256 = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                if let Ok(key) = EcdsaKeyPair::from_pkcs8(p256, any, &random) {
                    return Ok(Self::P256(key));
                }
                let p384 = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
                let key = EcdsaKeyPair::from_pkcs8(p384, any, &random).map_err(|e| {
                    Error::Key(format!("neither an RSA key of at least 2048 bits nor P-256 or P-384: {e}"))
                })?;
                Ok(Self::P384(key))
            }
            _ => Err(Error::Key("want a PKCS#1 or PKCS#8 private key in PEM".into())),
        }
    }

    /// The JOSE name of the algorithm it signs with.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
        }
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut out = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out)
                    .map_err(|_| Error::Key("cannot sign".into()))?;
                Ok(out)
            }
            Self::P256(key) | Self::P384(key) => {
                let out = key.sign(&random, message).map_err(|_| Error::Key("cannot sign".into()))?;
                Ok(out.as_ref().to_vec())
            }
        }
    }

    pub fn public(&self) -> PublicKey {
        match self {
            Self::Rsa(key) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                PublicKey::Rsa { n: trim(&n), e: trim(&e) }
            }
            Self::P256(key) => PublicKey::P256(key.public_key().as_ref().to_vec()),
            Self::P384(key) => PublicKey::P384(key.public_key().as_ref().to_vec()),
        }
    }
}

/// Verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent, big endian without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
}

impl PublicKey {
    /// All keys in a PEM file: public keys, certificates, or private keys (then their public halves).
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>> {
        let mut keys = Vec::new();
        for spki in SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()).flatten() {
            keys.push(Self::from_spki(&spki)?);
        }
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()).flatten() {
            let (_, parsed) =
                X509Certificate::from_der(&certificate).map_err(|e| Error::Key(e.to_string()))?;
            keys.push(Self::from_parsed(parsed.public_key())?);
        }
        if keys.is_empty() {
            keys.push(PrivateKey::from_pem(pem)?.public());
        }
        Ok(keys)
    }

    /// From a DER SubjectPublicKeyInfo.
    pub fn from_spki(der: &[u8]) -> Result<Self> {
        let (_, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|e| Error::Key(e.to_string()))?;
        Self::from_parsed(&spki)
    }

    fn from_parsed(spki: &SubjectPublicKeyInfo) -> Result<Self> {
        match spki.parsed().map_err(|e| Error::Key(e.to_string()))? {
            Parsed::RSA(rsa) => Ok(Self::Rsa { n: trim(rsa.modulus), e: trim(rsa.exponent) }),
            Parsed::EC(point) if point.data().len() == 65 => Ok(Self::P256(point.data().to_vec())),
            Parsed::EC(point) if point.data().len() == 97 => Ok(Self::P384(point.data().to_vec())),
            _ => Err(Error::Key("want an RSA, P-256 or P-384 public key".into())),
        }
    }

    /// From an entry of a JSON Web Key Set (RFC 7517); none if it is of another kind or not for signatures.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |key: &str| jwk.get(key).and_then(Value::as_str);
        let bytes = |key: &str| URL_SAFE_NO_PAD.decode(text(key)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|u| u != "sig") {
            return None;
        }
        let point = |length: usize| {
            let mut out = vec![4];
            for coordinate in [bytes("x")?, bytes("y")?] {
                out.extend(std::iter::repeat_n(0, length.checked_sub(coordinate.len())?));
                out.extend(coordinate);
            }
            Some(out)
        };
        match (text("kty")?, text("crv")) {
            ("RSA", _) => Some(Self::Rsa { n: trim(&bytes("n")?), e: trim(&bytes("e")?) }),
            ("EC", Some("P-256")) => Some(Self::P256(point(32)?)),
            ("EC", Some("P-384")) => Some(Self::P384(point(48)?)),
            _ => None,
        }
    }

    /// Does `signature` over `message` hold, made by `algorithm` (JOSE name)? An algorithm of another key kind never does.
    pub fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let rsa = |params, n: &[u8], e: &[u8]| {
            RsaPublicKeyComponents { n, e }.verify(params, message, signature).is_ok()
        };
        let ec = |alg, point: &[u8]| {
            signature::UnparsedPublicKey::new(alg, point).verify(message, signature).is_ok()
        };
        match (self, algorithm) {
            (Self::Rsa { n, e }, "RS256") => rsa(&signature::RSA_PKCS1_2048_8192_SHA256, n, e),
            (Self::Rsa { n, e }, "RS384") => rsa(&signature::RSA_PKCS1_2048_8192_SHA384, n, e),
            (Self::Rsa { n, e }, "RS512") => rsa(&signature::RSA_PKCS1_2048_8192_SHA512, n, e),
            (Self::Rsa { n, e }, "PS256") => rsa(&signature::RSA_PSS_2048_8192_SHA256, n, e),
            (Self::Rsa { n, e }, "PS384") => rsa(&signature::RSA_PSS_2048_8192_SHA384, n, e),
            (Self::Rsa { n, e }, "PS512") => rsa(&signature::RSA_PSS_2048_8192_SHA512, n, e),
            (Self::P256(point), "ES256") => ec(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Self::P384(point), "ES384") => ec(&signature::ECDSA_P384_SHA384_FIXED, point),
            _ => false,
        }
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        const RSA: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        const P256: &[u8] = &[
            0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
        ];
        const P384: &[u8] =
            &[0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 0x04, 0, 0x22];
        let (algorithm, key) = match self {
            Self::Rsa { n, e } => (RSA, der(0x30, &[integer(n), integer(e)].concat())),
            Self::P256(point) => (P256, point.clone()),
            Self::P384(point) => (P384, point.clone()),
        };
        let bits = der(3, &[&[0][..], &key].concat());
        der(0x30, &[algorithm, &bits].concat())
    }

    /// The key id upstream uses: base64url of the SHA-256 of the SubjectPublicKeyInfo.
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &self.spki()))
    }

    /// As an entry of a JSON Web Key Set (RFC 7517), `use: sig`.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let ec = |curve: &str, alg: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at((point.len() - 1) / 2);
            json!({"use": "sig", "kty": "EC", "kid": self.id(), "crv": curve, "alg": alg, "x": text(x), "y": text(y)})
        };
        match self {
            Self::Rsa { n, e } => {
                json!({"use": "sig", "kty": "RSA", "kid": self.id(), "alg": "RS256", "n": text(n), "e": text(e)})
            }
            Self::P256(point) => ec("P-256", "ES256", point),
            Self::P384(point) => ec("P-384", "ES384", point),
        }
    }
}

fn trim(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|b| *b == 0).collect()
}

/// A DER value with its tag and length.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => {
            let bytes: Vec<u8> = trim(&long.to_be_bytes());
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A non-negative DER integer.
fn integer(magnitude: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if magnitude.first().is_some_and(|b| b & 0x80 != 0) { &[0] } else { &[] };
    der(2, &[sign, magnitude].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_keys_round_trip_through_spki_and_verify() {
        let key = PrivateKey::from_pem(&PrivateKey::generate_rsa_pem().unwrap()).unwrap();
        let public = key.public();
        assert_eq!(PublicKey::from_spki(&public.spki()).unwrap(), public);
        assert_eq!(PublicKey::from_jwk(&public.jwk()), Some(public.clone()));
        let signed = key.sign(b"message").unwrap();
        assert!(public.verifies("RS256", b"message", &signed));
        assert!(!public.verifies("RS256", b"massage", &signed));
        assert!(!public.verifies("ES256", b"message", &signed));
        assert!(!public.verifies("none", b"message", &signed));
    }

    #[test]
    fn elliptic_keys_round_trip() {
        let random = SystemRandom::new();
        let alg = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &random).unwrap();
        let key = PrivateKey::P256(EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref(), &random).unwrap());
        assert_eq!(PublicKey::from_spki(&key.public().spki()).unwrap(), key.public());
        assert_eq!(PublicKey::from_jwk(&key.public().jwk()), Some(key.public()));
        assert!(key.public().verifies("ES256", b"m", &key.sign(b"m").unwrap()));
    }
}
