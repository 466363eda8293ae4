//! Service-account tokens for projected volumes: requested once, renewed before they end.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, PostParams};
use std::collections::HashMap;

use crate::pod::PodExt;
use crate::volumes::{TokenKey, token_keys};

/// A token is renewed when this old, however long it is valid.
const MAX_AGE_SECONDS: i64 = 24 * 3600;

struct Token {
    text: String,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

/// The tokens of one pod.
#[derive(Default)]
pub struct Tokens {
    held: HashMap<TokenKey, Token>,
}

/// Tokens by what was asked for, or why there is none.
pub type Issued = HashMap<TokenKey, Result<String, String>>;

impl Tokens {
    /// All tokens the pod's volumes ask for, renewed where due. A token that cannot be renewed serves until it ends.
    pub async fn issue(&mut self, client: &kube::Client, pod: &Pod, now: Timestamp) -> Issued {
        let volumes = pod.spec().volumes.iter().flatten();
        let wanted: Vec<TokenKey> =
            volumes.filter_map(|v| v.projected.as_ref()).flat_map(token_keys).collect();
        self.held.retain(|key, _| wanted.contains(key));
        let mut issued = Issued::new();
        for key in wanted {
            if self.held.get(&key).is_none_or(|t| now >= t.renew_at) {
                match request(client, pod, &key, now).await {
                    Ok(token) => {
                        self.held.insert(key.clone(), token);
                    }
                    Err(error) => {
                        if let Some(held) = self.held.get_mut(&key).filter(|t| now < t.expires_at) {
                            // Not at every look, but soon.
                            held.renew_at = now + SignedDuration::from_secs(30);
                        } else {
                            issued.insert(key, Err(error.to_string()));
                            continue;
                        }
                    }
                }
            }
            let text = self.held.get(&key).map(|t| t.text.clone()).unwrap_or_default();
            issued.insert(key, Ok(text));
        }
        issued
    }

    /// When the next token is to be renewed.
    pub fn next_renewal(&self) -> Option<Timestamp> {
        self.held.values().map(|t| t.renew_at).min()
    }
}

async fn request(
    client: &kube::Client,
    pod: &Pod,
    (audience, seconds): &TokenKey,
    now: Timestamp,
) -> Result<Token, kube::Error> {
    let account = pod.spec().service_account_name.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), pod.namespace());
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience.clone()]),
            expiration_seconds: Some(*seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(pod.name().to_owned()),
                uid: Some(pod.uid().to_owned()),
            }),
        }),
        ..Default::default()
    };
    let answer = api.create_token_request(account, &PostParams::default(), &body).await?;
    let status = answer.status.unwrap_or_default();
    let expires_at = status.expiration_timestamp.map_or(now, |t| t.0);
    Ok(Token { text: status.token.unwrap_or_default(), renew_at: renew_at(now, expires_at), expires_at })
}

/// After four fifths of its time, or a day.
fn renew_at(now: Timestamp, expires: Timestamp) -> Timestamp {
    let left = expires.duration_since(now).as_secs().max(0);
    now + SignedDuration::from_secs((left * 4 / 5).min(MAX_AGE_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(renew_at(at(0), at(3600)), at(2880));
        assert_eq!(renew_at(at(0), at(365 * 86400)), at(86400));
        assert_eq!(renew_at(at(10), at(0)), at(10));
    }
}
