//! The configured kinds of tokens, asked in upstream's order until one knows the token.

use std::sync::Arc;

use super::anonymous::Anonymous;
use super::jwt::{Configuration, Issuers};
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
    issuers: Arc<Issuers>,
    webhook: Option<TokenWebhook>,
    pub anonymous: Anonymous,
    /// What the configuration file said of it at start, which may not change.
    anonymous_file: Option<Anonymous>,
}

impl Sources {
    /// Needs a runtime: providers are looked for at once.
    pub fn new(config: &Config) -> Result<Self, String> {
        let access = &config.access;
        let file = access.token_auth_file.as_deref().map(|path| {
            let text = std::fs::read_to_string(path).map_err(|e| e.to_string());
            text.and_then(|t| Tokens::parse(&t))
                .map_err(|e| format!("--token-auth-file {}: {e}", path.display()))
        });
        // upstream lets everybody do everything or come unnamed, not both
        let open = access.authorization_config.is_none()
            && access.authorization_modes.iter().any(|mode| mode == "AlwaysAllow");
        let flag = if config.anonymous && !open { Anonymous::Always } else { Anonymous::Never };
        let oidc = access.oidc != crate::config::Oidc::default();
        let read = match &access.authentication_config {
            Some(_) if oidc => {
                return Err("authentication-config file and oidc-* flags are mutually exclusive".to_owned());
            }
            Some(path) => Configuration::read(path, &config.issuers)?,
            None if oidc => Configuration::from_flags(&access.oidc, &config.issuers)?,
            None => Configuration::default(),
        };
        if read.anonymous.is_some() && access.anonymous_given {
            return Err("anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file".to_owned());
        }
        let webhook = access.token_webhook.config_file.as_deref().map(|path| {
            TokenWebhook::new(path, &access.token_webhook)
                .map_err(|e| format!("--authentication-token-webhook-config-file: {e}"))
        });
        Ok(Self {
            file: file.transpose()?,
            issuers: Issuers::new(&read.issuers),
            webhook: webhook.transpose()?,
            anonymous: read.anonymous.clone().unwrap_or(flag),
            anonymous_file: read.anonymous,
        })
    }

    /// Takes the issuers of a changed `AuthenticationConfiguration`, once they can be reached.
    pub fn reread(&self, text: &str, own: &[String]) -> Result<(), String> {
        let read = Configuration::parse(text, own)?;
        if read.anonymous != self.anonymous_file {
            return Err("anonymous: Forbidden: changed from initial configuration file".to_owned());
        }
        self.issuers.replace(read.issuers);
        Ok(())
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
            for issuer in self.issuers.now().iter() {
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
