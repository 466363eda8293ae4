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
    /// `--anonymous-auth` was given, which that file may then say nothing of.
    pub anonymous_given: bool,
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

/// `--oidc-*`. The default ones: none was given.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug)]
pub struct Audit {
    pub policy_file: Option<PathBuf>,
    /// `-` is standard output.
    pub log_path: Option<PathBuf>,
    /// Days and files that old logs are kept for, as; 0: no limit.
    pub log_max_age: u32,
    pub log_max_backup: u32,
    /// MiB after which a new log is begun; 0: never.
    pub log_max_size: u32,
    /// gzip rotated files.
    pub log_compress: bool,
    /// `--audit-log-format=legacy`: a line of text for each event.
    pub log_legacy: bool,
    pub log_delivery: Delivery,
    pub webhook_config_file: Option<PathBuf>,
    pub webhook_initial_backoff: Duration,
    pub webhook_delivery: Delivery,
}

/// `--audit-{log,webhook}-mode`: does a request wait for its events?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditMode {
    Batch,
    Blocking,
    /// And it fails if its first event is lost.
    BlockingStrict,
}

/// `--audit-{log,webhook}-batch-*` and `-truncate-*`; those of batches count in their mode only.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub mode: AuditMode,
    /// Events that are kept until they are taken; what comes when it is full is lost.
    pub buffer: usize,
    pub batch: usize,
    pub wait: Duration,
    /// Batches; none: as fast as they come.
    pub throttle: Option<Throttle>,
    /// None: events are of any size.
    pub truncate: Option<Truncate>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    pub per_second: f32,
    pub burst: u32,
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate {
    pub event: u64,
}

impl Default for Audit {
    fn default() -> Self {
        let batches = Delivery {
            mode: AuditMode::Batch,
            buffer: 10_000,
            batch: 400,
            wait: Duration::from_secs(30),
            throttle: Some(Throttle { per_second: 10.0, burst: 15 }),
            truncate: None,
        };
        let lines = Delivery { mode: AuditMode::Blocking, batch: 1, throttle: None, ..batches };
        Self {
            policy_file: None,
            log_path: None,
            log_max_age: 366,
            log_max_backup: 100,
            log_max_size: 100,
            log_compress: false,
            log_legacy: false,
            log_delivery: lines,
            webhook_config_file: None,
            webhook_initial_backoff: Duration::from_secs(10),
            webhook_delivery: batches,
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            client_ca_file: None,
            client_ca_base: None,
            token_auth_file: None,
            authentication_config: None,
            anonymous_given: false,
            token_webhook: TokenWebhook {
                config_file: None,
                version: "v1beta1".to_owned(),
                cache_ttl: Duration::from_secs(120),
            },
            oidc: Oidc::default(),
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

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer_url: String::new(),
            client_id: String::new(),
            username_claim: "sub".to_owned(),
            username_prefix: String::new(),
            groups_claim: String::new(),
            groups_prefix: String::new(),
            required_claims: Vec::new(),
            ca_file: None,
            signing_algorithms: vec!["RS256".to_owned()],
        }
    }
}
