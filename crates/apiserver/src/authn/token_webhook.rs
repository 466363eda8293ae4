//! Asks another server whose a token is: a TokenReview as JSON.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication>

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use machinery::{Get, Value, json};
use parking_lot::Mutex;

use super::{Proof, User};
use crate::remote::Client;

const KEPT: usize = 4096;
const TRIES: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(30);

type Digest = [u8; 32];

pub struct TokenWebhook {
    client: Client,
    version: String,
    ttl: Duration,
    /// Answers by digest of token and audiences; failures to answer are not kept.
    known: Mutex<HashMap<Digest, (Instant, Option<Proof>)>>,
}

impl TokenWebhook {
    pub fn new(path: &Path, settings: &crate::config::TokenWebhook) -> Result<Self, String> {
        if !matches!(settings.version.as_str(), "v1" | "v1beta1") {
            return Err(format!(
                "unsupported authentication webhook version {:?}, supported versions are \"v1\", \"v1beta1\"",
                settings.version
            ));
        }
        Ok(Self {
            client: Client::from_kubeconfig(path)?,
            version: settings.version.clone(),
            ttl: settings.cache_ttl,
            known: Mutex::default(),
        })
    }

    pub async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        implicit: &[String],
    ) -> Result<Option<Proof>, String> {
        let key = digest(token, audiences);
        let now = Instant::now();
        let known = self.known.lock().get(&key).filter(|(until, _)| *until > now).map(|(_, p)| p.clone());
        if let Some(answer) = known {
            return Ok(answer);
        }
        let review = json!({"kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.version), "metadata": {},
            "spec": {"token": token, "audiences": audiences}, "status": {"user": {}}});
        let answer = read(&self.ask(review.to_string()).await?, audiences, implicit)?;
        if !self.ttl.is_zero() {
            let mut known = self.known.lock();
            if known.len() >= KEPT {
                known.retain(|_, (until, _)| *until > now);
                if known.len() >= KEPT {
                    known.clear();
                }
            }
            known.insert(key, (now + self.ttl, answer.clone()));
        }
        Ok(answer)
    }

    async fn ask(&self, body: String) -> Result<Value, String> {
        let mut wait = Duration::from_millis(500);
        for attempt in 1.. {
            let asked = tokio::time::timeout(TIMEOUT, self.client.post(body.clone())).await;
            match asked {
                Ok(Ok(bytes)) => return serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
                Ok(Err(error)) if !error.passes() || attempt >= TRIES => {
                    tracing::warn!(%error, "the token webhook failed");
                    return Err(error.to_string());
                }
                Ok(Err(_)) => {}
                Err(_) => return Err("context deadline exceeded".to_owned()),
            }
            tokio::time::sleep(wait).await;
            wait = wait.mul_f64(1.5);
        }
        unreachable!("the loop ends by returning")
    }
}

fn digest(token: &str, audiences: &[String]) -> Digest {
    let text = format!("{token}\0{}", audiences.join("\0"));
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn read(review: &Value, audiences: &[String], implicit: &[String]) -> Result<Option<Proof>, String> {
    let status = review.at("status");
    let strings = |value: &Value, key: &str| -> Vec<String> {
        value.list(key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let said = strings(status, "audiences");
    let theirs = if said.is_empty() { implicit.to_vec() } else { said };
    let common: Vec<String> = audiences.iter().filter(|a| theirs.contains(a)).cloned().collect();
    if common.is_empty() {
        return Ok(None);
    }
    if status.flag("authenticated") != Some(true) {
        let error = status.text("error");
        return if error.is_empty() { Ok(None) } else { Err(error.to_owned()) };
    }
    let user = status.at("user");
    let extra = user.map("extra").into_iter().flatten().map(|(key, values)| {
        let values = values.as_array().into_iter().flatten();
        (key.clone(), values.filter_map(Value::as_str).map(str::to_owned).collect())
    });
    let user = User {
        name: user.text("username").to_owned(),
        uid: user.text("uid").to_owned(),
        groups: strings(user, "groups"),
        ..User::default()
    }
    .with_extra(extra.collect());
    Ok(Some(Proof { user, audiences: common }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_reviews() {
        let (asked, ours) = (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]);
        let yes = json!({"status": {"authenticated": true, "user": {"username": "jane", "groups": ["g"]}}});
        let proof = read(&yes, &asked, &ours).unwrap().unwrap();
        assert_eq!((proof.user.name.as_str(), &proof.audiences), ("jane", &asked));
        let elsewhere = json!({"status": {"authenticated": true, "audiences": ["x"], "user": {}}});
        assert_eq!(read(&elsewhere, &asked, &ours), Ok(None));
        let no = json!({"status": {"authenticated": false, "error": "expired"}});
        assert_eq!(read(&no, &asked, &ours), Err("expired".to_owned()));
    }
}
