//! The configured kinds of tokens, asked in upstream's order until one knows the token.

use std::sync::Arc;

use super::anonymous::Anonymous;
use super::jwt::{self, Issuer};
use super::token_file::Tokens;
use super::token_webhook::TokenWebhook;
use super::{User, bootstrap_token, legacy_token, token};
use crate::authz::aggregate;
use crate::config::Config;
use crate::server::Core;

/// Who a token belongs to, and for which of the asked audiences.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    pub user: User,
    pub audiences: Vec<String>,
}

pub struct Sources {
    file: Option<Tokens>,
    issuers: Vec<Arc<Issuer>>,
    webhook: Option<TokenWebhook>,
    pub anonymous: Anonymous,
}

impl Sources {
    pub fn new(config: &Config) -> Result<Self, String> {
        let access = &config.access;
        let file = access.token_auth_file.as_deref().map(|path| {
            let text = std::fs::read_to_string(path).map_err(|e| e.to_string());
            text.and_then(|t| Tokens::parse(&t))
                .map_err(|e| format!("--token-auth-file {}: {e}", path.display()))
        });
        let mut anonymous = if config.anonymous { Anonymous::Always } else { Anonymous::Never };
        let mut issuers = Vec::new();
        if let Some(path) = &access.authentication_config {
            if !access.oidc.issuer_url.is_empty() {
                return Err("authentication-config file and oidc-* flags are mutually exclusive".to_owned());
            }
            let read = jwt::Configuration::read(path)
                .map_err(|e| format!("--authentication-config {}: {e}", path.display()))?;
            issuers = read.issuers;
            anonymous = read.anonymous.unwrap_or(anonymous);
        } else if !access.oidc.issuer_url.is_empty() {
            issuers.push(Issuer::from_flags(&access.oidc)?);
        }
        for issuer in &issuers {
            if config.issuers.contains(&issuer.url) {
                return Err(format!("the issuer {:?} is the one of service account tokens", issuer.url));
            }
        }
        let webhook = access.token_webhook.config_file.as_deref().map(|path| {
            TokenWebhook::new(path, &access.token_webhook)
                .map_err(|e| format!("--authentication-token-webhook-config-file: {e}"))
        });
        Ok(Self { file: file.transpose()?, issuers, webhook: webhook.transpose()?, anonymous })
    }

    /// The first source that knows the token; none; or what sources had against it.
    pub async fn check(
        &self,
        core: &Arc<Core>,
        text: &str,
        audiences: &[String],
        warnings: &mut Vec<String>,
    ) -> Result<Option<Proof>, String> {
        let mut errors = Vec::new();
        // these know nothing of audiences: their tokens are for the API server
        let ours: Vec<String> =
            core.config.api_audiences().iter().filter(|a| audiences.contains(a)).cloned().collect();
        let plain = |user: User| Proof { user, audiences: ours.clone() };
        if !ours.is_empty()
            && let Some(user) = self.file.as_ref().and_then(|f| f.get(text))
        {
            return Ok(Some(plain(user)));
        }
        let legacy = legacy_token::authenticate(core, text, audiences, warnings).await;
        let bound = token::authenticate(core, text, audiences).await;
        for answer in [legacy, bound] {
            match answer {
                Ok(Some(proof)) => return Ok(Some(proof)),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if !ours.is_empty() {
            if core.config.bootstrap_tokens
                && let Some(user) = bootstrap_token::authenticate(core, text)
            {
                return Ok(Some(plain(user)));
            }
            for issuer in &self.issuers {
                match issuer.authenticate(text).await {
                    Ok(Some(user)) => return Ok(Some(plain(user))),
                    Ok(None) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        if let Some(webhook) = &self.webhook {
            match webhook.authenticate(text, audiences, core.config.api_audiences()).await {
                Ok(Some(proof)) => return Ok(Some(proof)),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(None) } else { Err(aggregate(&errors)) }
    }
}
