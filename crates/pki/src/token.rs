//! JSON Web Tokens of service accounts: compact JWS (RFC 7515) with exactly the algorithms of our keys.
//! What the claims mean is the API server's business; here they are signed and checked for integrity only.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::{PrivateKey, PublicKey, Result};

/// Makes tokens.
pub struct Signer {
    key: PrivateKey,
    header: String,
}

impl Signer {
    pub fn new(key: PrivateKey) -> Self {
        let header = json!({"alg": key.algorithm(), "kid": key.public().id()});
        Self { header: URL_SAFE_NO_PAD.encode(header.to_string()), key }
    }

    pub fn from_pem(pem: &str) -> Result<Self> {
        Ok(Self::new(PrivateKey::from_pem(pem)?))
    }

    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The JOSE name of the algorithm tokens are signed with.
    pub fn algorithm(&self) -> &'static str {
        self.key.algorithm()
    }

    /// A signed token over these claims.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

/// Checks tokens against a set of keys.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    keys: Vec<(String, PublicKey)>,
}

impl Verifier {
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.id(), key)).collect() }
    }

    /// From a JSON Web Key Set; keys of kinds that we do not know are left out. A key without an id fits only tokens that
    /// name none.
    pub fn from_jwks(set: &Value) -> Self {
        let keys = set.get("keys").and_then(Value::as_array).into_iter().flatten();
        let keys = keys.filter_map(|jwk| {
            let key = PublicKey::from_jwk(jwk)?;
            Some((jwk.get("kid").and_then(Value::as_str).unwrap_or_default().to_owned(), key))
        });
        Self { keys: keys.collect() }
    }

    /// The claims, if one of our keys signed them. Issuer, audience and times are not looked at.
    pub fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let (header, claims) = signed.split_once('.')?;
        let header = decode(header)?;
        let algorithm = header.get("alg")?.as_str()?;
        // RFC 7515: what is critical and not understood makes it invalid
        if header.get("crit").is_some() {
            return None;
        }
        let wanted = header.get("kid").and_then(Value::as_str).filter(|id| !id.is_empty());
        let mut candidates = self.keys.iter().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == id));
        candidates
            .any(|(_, key)| key.verifies(algorithm, signed.as_bytes(), &signature))
            .then(|| decode(claims))
            .flatten()
    }

    /// The JSON Web Key Set (RFC 7517) that `/openid/v1/jwks` serves.
    pub fn jwks(&self) -> Value {
        json!({"keys": self.keys.iter().map(|(_, key)| key.jwk()).collect::<Vec<_>>()})
    }
}

/// The claims of a token without checking its signature: only to route it to the right authenticator.
pub fn unverified_claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() { None } else { decode(claims) }
}

/// The algorithm that a token says it is signed with.
pub fn algorithm(token: &str) -> Option<String> {
    Some(decode(token.split('.').next()?)?.get("alg")?.as_str()?.to_owned())
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
    }

    #[test]
    fn only_our_own_unchanged_tokens_verify() {
        let (ours, other) = (Signer::new(key()), Signer::new(key()));
        let verifier = Verifier::new([ours.public()]);
        let claims = json!({"sub": "system:serviceaccount:a:b"});
        let token = ours.sign(&claims).unwrap();
        assert_eq!(verifier.verify(&token), Some(claims.clone()));
        assert_eq!(verifier.verify(&other.sign(&claims).unwrap()), None);
        let parts: Vec<_> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"sub":"root"}"#);
        assert_eq!(verifier.verify(&format!("{}.{forged}.{}", parts[0], parts[2])), None);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert_eq!(verifier.verify(&format!("{none}.{}.", parts[1])), None);
        for bad in ["", ".", "..", "a.b", "a.b.c.d", "ä.ö.ü"] {
            assert_eq!(verifier.verify(bad), None);
        }
    }
}
