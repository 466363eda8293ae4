//! Settings about who may do what: each named as upstream's flag. Files are read at start, and again when they change where
//! upstream does so.

use std::path::PathBuf;
use std::time::Duration;

/// `Access::default()` is upstream's defaults with `--authorization-mode=Node,RBAC`.
#[derive(Clone, Debug)]
pub struct Access {
    /// `--client-ca-file`, to read it again when it changes; its text at start is in `client_ca_pem`.
    pub client_ca_file: Option<PathBuf>,
    /// Authorities (PEM) that are believed besides that file's.
    pub client_ca_base: Option<String>,
    /// `--token-auth-file`: lines `token,user,uid,"group,group"`.
    pub token_auth_file: Option<PathBuf>,
    /// `--authentication-config`: an `AuthenticationConfiguration`.
    pub authentication_config: Option<PathBuf>,
    pub token_webhook: TokenWebhook,
    pub oidc: Oidc,
    pub request_headers: RequestHeaders,
    /// `--service-account-extend-token-expiration`.
    pub extend_token_expiration: bool,
    /// `--service-account-max-token-expiration`.
    pub max_token_expiration: Option<Duration>,
    /// `--service-account-jwks-uri`.
    pub jwks_uri: Option<String>,
    /// `--authorization-mode`: `Node`, `RBAC`, `Webhook`, `AlwaysAllow`, `AlwaysDeny`, in order.
    pub authorization_modes: Vec<String>,
    /// `--authorization-config`: an `AuthorizationConfiguration`, instead of the modes.
    pub authorization_config: Option<PathBuf>,
    pub authorization_webhook: AuthorizationWebhook,
    pub audit: Audit,
    /// `--encryption-provider-config`: an `EncryptionConfiguration`.
    pub encryption_config: Option<PathBuf>,
    /// `--encryption-provider-config-automatic-reload`.
    pub encryption_reload: bool,
    /// `--enable-admission-plugins`, beyond those that are on by default.
    pub enabled_admission: Vec<String>,
    /// `--admission-control-config-file`: an `AdmissionConfiguration`.
    pub admission_config: Option<PathBuf>,
}

/// `--authentication-token-webhook-*`.
#[derive(Clone, Debug)]
pub struct TokenWebhook {
    pub config_file: Option<PathBuf>,
    /// `v1` or `v1beta1`.
    pub version: String,
    pub cache_ttl: Duration,
}

/// `--oidc-*`.
#[derive(Clone, Debug)]
pub struct Oidc {
    pub issuer_url: String,
    pub client_id: String,
    pub username_claim: String,
    pub username_prefix: String,
    pub groups_claim: String,
    pub groups_prefix: String,
    pub required_claims: Vec<(String, String)>,
    pub ca_file: Option<PathBuf>,
    pub signing_algorithms: Vec<String>,
}

/// `--requestheader-*-headers` and `--requestheader-extra-headers-prefix`.
#[derive(Clone, Debug)]
pub struct RequestHeaders {
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefixes: Vec<String>,
}

/// `--authorization-webhook-*`.
#[derive(Clone, Debug)]
pub struct AuthorizationWebhook {
    pub config_file: Option<PathBuf>,
    /// `v1` or `v1beta1`.
    pub version: String,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
}

/// `--audit-*`.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    pub policy_file: Option<PathBuf>,
    /// `-` is standard output.
    pub log_path: Option<PathBuf>,
    /// Days, files and mebibytes that the log is kept for, as; 0: no limit.
    pub log_max_age: u32,
    pub log_max_backup: u32,
    pub log_max_size: u32,
    /// gzip rotated files.
    pub log_compress: bool,
    pub webhook_config_file: Option<PathBuf>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            client_ca_file: None,
            client_ca_base: None,
            token_auth_file: None,
            authentication_config: None,
            token_webhook: TokenWebhook {
                config_file: None,
                version: "v1beta1".to_owned(),
                cache_ttl: Duration::from_secs(120),
            },
            oidc: Oidc {
                issuer_url: String::new(),
                client_id: String::new(),
                username_claim: "sub".to_owned(),
                username_prefix: String::new(),
                groups_claim: String::new(),
                groups_prefix: String::new(),
                required_claims: Vec::new(),
                ca_file: None,
                signing_algorithms: vec!["RS256".to_owned()],
            },
            request_headers: RequestHeaders {
                username: vec!["X-Remote-User".to_owned()],
                uid: vec!["X-Remote-Uid".to_owned()],
                group: vec!["X-Remote-Group".to_owned()],
                extra_prefixes: vec!["X-Remote-Extra-".to_owned()],
            },
            extend_token_expiration: true,
            max_token_expiration: None,
            jwks_uri: None,
            authorization_modes: vec!["Node".to_owned(), "RBAC".to_owned()],
            authorization_config: None,
            authorization_webhook: AuthorizationWebhook {
                config_file: None,
                version: "v1beta1".to_owned(),
                authorized_ttl: Duration::from_secs(300),
                unauthorized_ttl: Duration::from_secs(30),
            },
            audit: Audit::default(),
            encryption_config: None,
            encryption_reload: false,
            enabled_admission: Vec::new(),
            admission_config: None,
        }
    }
}
