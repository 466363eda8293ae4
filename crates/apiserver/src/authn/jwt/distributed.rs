//! Claims that stand in another token, at an endpoint that the first token names.
//! <https://openid.net/specs/openid-connect-core-1_0.html#AggregatedDistributedClaims>

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use machinery::{Get, Value};
use parking_lot::Mutex;

use super::provider::{Provider, Trust};
use super::{Issuer, check, issuer_of};

/// How long a source that was not known before may take to be found.
const FIRST: Duration = Duration::from_secs(5);
/// A provider's tokens name no more issuers than this.
const MOST: usize = 64;

/// Who signs the tokens that others refer to, by issuer.
#[derive(Default)]
pub struct Sources(Mutex<HashMap<String, Arc<Provider>>>);

impl Sources {
    async fn provider(&self, issuer: &str, trust: &Trust) -> Result<Arc<Provider>, String> {
        let fresh = {
            let mut known = self.0.lock();
            match known.get(issuer) {
                Some(provider) => return Ok(provider.clone()),
                None if known.len() >= MOST => return Err(format!("more than {MOST} issuers")),
                None => {}
            }
            let provider = Provider::new(issuer, "", trust.clone());
            known.insert(issuer.to_owned(), provider.clone());
            provider
        };
        fresh.start();
        let _ = tokio::time::timeout(FIRST, fresh.tried()).await;
        Ok(fresh)
    }
}

impl Issuer {
    /// Adds the claim if it stands elsewhere.
    pub(super) async fn expand(&self, claim: &str, claims: &mut Value) -> Result<(), String> {
        if claims.has(claim) || !claims.has("_claim_names") {
            return Ok(());
        }
        if !claims.has("_claim_sources") {
            return Err("oidc: no claim sources".to_owned());
        }
        let source = claims.at("_claim_names").text(claim).to_owned();
        if source.is_empty() {
            return Ok(());
        }
        let sources = claims.at("_claim_sources");
        if !sources.has(&source) {
            return Err(format!(
                "id token _claim_names contained a source {source} missing in _claims_sources"
            ));
        }
        let endpoint = sources.at(&source).text("endpoint").to_owned();
        if endpoint.is_empty() {
            return Ok(());
        }
        let access = sources.at(&source).text("access_token").to_owned();
        let trust = self.provider.trust();
        let answer = trust.get(&endpoint, Some(access.as_str()).filter(|t| !t.is_empty())).await;
        let (_, token) = answer.map_err(|e| format!("while getting distributed claim {claim:?}: {e}"))?;
        let token = String::from_utf8_lossy(&token).into_owned();
        let issuer = issuer_of(&token).ok_or_else(|| {
            format!("getting untrusted issuer from endpoint {endpoint} failed for claim {claim:?}")
        })?;
        let failed = |e: String| format!("verifying untrusted issuer {issuer} failed: {e}");
        let provider = self.sources.provider(&issuer, trust).await.map_err(failed)?;
        let verified = check(&provider, &issuer, &token, &self.algorithms, &self.audiences).await;
        let found = verified
            .map_err(|_| failed(format!("verifier not initialized for issuer: {issuer:?}")))?
            .map_err(|e| format!("verify distributed claim token: {e}"))?;
        let Some(value) = found.as_object().and_then(|all| all.get(claim)) else {
            return Err(format!(
                "jwt returned by distributed claim endpoint {endpoint:?} did not contain claim: {claim}"
            ));
        };
        claims[claim] = value.clone();
        Ok(())
    }
}
