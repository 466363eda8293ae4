//! Settings about who may do what: kube-apiserver's flags, or the same in camel case under `apiserver:` in the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::config::{
    Access, AuditMode, AuditSettings, AuthorizationWebhook, Delivery, Oidc, RequestHeaders, Throttle,
    TokenWebhook, Truncate,
};
use serde::Deserialize;

/// As given; what is not given has upstream's default.
#[derive(clap::Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[command(next_help_heading = "Access (as kube-apiserver's flags)")]
pub struct AccessSettings {
    /// Further authorities of clients' certificates (PEM); read again when the file changes
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Whether requests without credentials are let in as system:anonymous [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// Static tokens: lines of TOKEN,USER,UID,"GROUP,…"
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// An AuthenticationConfiguration: OpenID providers, anonymous access
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
    /// kubeconfig of a server that says whose a token is
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// Version of the TokenReview that it is sent, v1 or v1beta1 [default: v1beta1]
    #[arg(long, value_name = "VERSION")]
    pub authentication_token_webhook_version: Option<String>,
    /// How long its answers are kept [default: 2m]
    #[arg(long, value_name = "DURATION")]
    pub authentication_token_webhook_cache_ttl: Option<String>,
    /// URL of an OpenID provider
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// The audience that its tokens must be for
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// Claim with the user's name [default: sub]
    #[arg(long, value_name = "CLAIM")]
    pub oidc_username_claim: Option<String>,
    /// What goes before users' names; - for nothing
    #[arg(long, value_name = "TEXT")]
    pub oidc_username_prefix: Option<String>,
    /// Claim with the user's groups
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// What goes before groups' names
    #[arg(long, value_name = "TEXT")]
    pub oidc_groups_prefix: Option<String>,
    /// Claims that tokens must have
    #[arg(long, value_name = "KEY=VALUE")]
    pub oidc_required_claim: Vec<String>,
    /// Authorities of the provider's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Algorithms that its tokens may be signed with [default: RS256]
    #[arg(long, value_name = "ALG,…")]
    pub oidc_signing_algs: Option<String>,
    /// Authorities of front proxies' certificates (PEM), instead of the cluster's own
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that front proxies may have
    #[arg(long, value_name = "NAME,…")]
    pub requestheader_allowed_names: Option<String>,
    /// Headers with the user's name [default: X-Remote-User]
    #[arg(long, value_name = "NAME,…")]
    pub requestheader_username_headers: Option<String>,
    /// Headers with the user's UID [default: X-Remote-Uid]
    #[arg(long, value_name = "NAME,…")]
    pub requestheader_uid_headers: Option<String>,
    /// Headers with the user's groups [default: X-Remote-Group]
    #[arg(long, value_name = "NAME,…")]
    pub requestheader_group_headers: Option<String>,
    /// What extra headers begin with [default: X-Remote-Extra-]
    #[arg(long, value_name = "TEXT,…")]
    pub requestheader_extra_headers_prefix: Option<String>,
    /// Issuer of service account tokens; the first signs, all are accepted
    #[arg(long, value_name = "URL")]
    pub service_account_issuer: Vec<String>,
    /// Where the issuer's keys are, if not at this server
    #[arg(long, value_name = "URL")]
    pub service_account_jwks_uri: Option<String>,
    /// Audiences that tokens are for if a request does not say [default: the issuers]
    #[arg(long, value_name = "NAME,…")]
    pub api_audiences: Option<String>,
    /// Longest life of a service account's token
    #[arg(long, value_name = "DURATION")]
    pub service_account_max_token_expiration: Option<String>,
    /// Whether tokens of old clients live a year [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub service_account_extend_token_expiration: Option<bool>,
    /// Authorizers in order: Node,RBAC,Webhook,AlwaysAllow,AlwaysDeny [default: Node,RBAC]
    #[arg(long, value_name = "MODE,…")]
    pub authorization_mode: Option<String>,
    /// An AuthorizationConfiguration, instead of the modes
    #[arg(long, value_name = "FILE", conflicts_with = "authorization_mode")]
    pub authorization_config: Option<PathBuf>,
    /// kubeconfig of a server that says who may do what
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// Version of the SubjectAccessReview that it is sent, v1 or v1beta1 [default: v1beta1]
    #[arg(long, value_name = "VERSION")]
    pub authorization_webhook_version: Option<String>,
    /// How long its yes is kept [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub authorization_webhook_cache_authorized_ttl: Option<String>,
    /// How long its no is kept [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub authorization_webhook_cache_unauthorized_ttl: Option<String>,
    /// What is written down of which requests: a Policy of audit.k8s.io/v1
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// Where it is written, a JSON document a line; - for standard output
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// Days that old files are kept
    #[arg(long, value_name = "DAYS")]
    pub audit_log_maxage: Option<u32>,
    /// Old files that are kept
    #[arg(long, value_name = "N")]
    pub audit_log_maxbackup: Option<u32>,
    /// Size in MiB at which a new file is begun
    #[arg(long, value_name = "MIB")]
    pub audit_log_maxsize: Option<u32>,
    /// gzip old files
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub audit_log_compress: Option<bool>,
    /// json, or legacy: a line of text for each event [default: json]
    #[arg(long, value_name = "FORMAT")]
    pub audit_log_format: Option<String>,
    /// Does a request wait for its event to be written: batch, blocking or blocking-strict [default: blocking]
    #[arg(long, value_name = "MODE")]
    pub audit_log_mode: Option<String>,
    /// Events that wait at most, in batch mode [default: 10000]
    #[arg(long, value_name = "N")]
    pub audit_log_batch_buffer_size: Option<usize>,
    /// Events in a batch at most [default: 1]
    #[arg(long, value_name = "N")]
    pub audit_log_batch_max_size: Option<usize>,
    /// How long a batch that is not full waits [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub audit_log_batch_max_wait: Option<String>,
    /// Whether batches are sent at a limited rate [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub audit_log_batch_throttle_enable: Option<bool>,
    /// Batches a second [default: 10]
    #[arg(long, value_name = "N")]
    pub audit_log_batch_throttle_qps: Option<f32>,
    /// Batches at once [default: 15]
    #[arg(long, value_name = "N")]
    pub audit_log_batch_throttle_burst: Option<u32>,
    /// Whether events that are too large lose their objects
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub audit_log_truncate_enabled: Option<bool>,
    /// Size of an event in bytes beyond which it loses its objects [default: 102400]
    #[arg(long, value_name = "BYTES")]
    pub audit_log_truncate_max_event_size: Option<u64>,
    /// Size of a batch in bytes at which it is split [default: 10485760]
    #[arg(long, value_name = "BYTES")]
    pub audit_log_truncate_max_batch_size: Option<u64>,
    /// Version of the events, audit.k8s.io/v1
    #[arg(long, value_name = "VERSION")]
    pub audit_log_version: Option<String>,
    /// kubeconfig of a server that is sent the events
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// How long it is left alone after a failure, at first [default: 10s]
    #[arg(long, alias = "audit-webhook-batch-initial-backoff", value_name = "DURATION")]
    pub audit_webhook_initial_backoff: Option<String>,
    /// Does a request wait for its event to be sent: batch, blocking or blocking-strict [default: batch]
    #[arg(long, value_name = "MODE")]
    pub audit_webhook_mode: Option<String>,
    /// Events that wait at most, in batch mode [default: 10000]
    #[arg(long, value_name = "N")]
    pub audit_webhook_batch_buffer_size: Option<usize>,
    /// Events in a batch at most [default: 400]
    #[arg(long, value_name = "N")]
    pub audit_webhook_batch_max_size: Option<usize>,
    /// How long a batch that is not full waits [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub audit_webhook_batch_max_wait: Option<String>,
    /// Whether batches are sent at a limited rate [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub audit_webhook_batch_throttle_enable: Option<bool>,
    /// Batches a second [default: 10]
    #[arg(long, value_name = "N")]
    pub audit_webhook_batch_throttle_qps: Option<f32>,
    /// Batches at once [default: 15]
    #[arg(long, value_name = "N")]
    pub audit_webhook_batch_throttle_burst: Option<u32>,
    /// Whether events that are too large lose their objects
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub audit_webhook_truncate_enabled: Option<bool>,
    /// Size of an event in bytes beyond which it loses its objects [default: 102400]
    #[arg(long, value_name = "BYTES")]
    pub audit_webhook_truncate_max_event_size: Option<u64>,
    /// Size of a batch in bytes at which it is split [default: 10485760]
    #[arg(long, value_name = "BYTES")]
    pub audit_webhook_truncate_max_batch_size: Option<u64>,
    /// Version of the events, audit.k8s.io/v1
    #[arg(long, value_name = "VERSION")]
    pub audit_webhook_version: Option<String>,
    /// How long a request may take that is not a stream [default: 1m0s]
    #[arg(long, value_name = "DURATION")]
    pub request_timeout: Option<String>,
    /// Seconds that a watch lasts at least, if it does not say [default: 1800]
    #[arg(long, value_name = "SECONDS")]
    pub min_request_timeout: Option<u64>,
    /// How likely a request ends its HTTP/2 connection in order, 0 to 0.02 [default: 0]
    #[arg(long, value_name = "FRACTION")]
    pub goaway_chance: Option<f64>,
    /// Requests at once on an HTTP/2 connection [default: 100]
    #[arg(long, value_name = "N")]
    pub http2_max_streams_per_connection: Option<u32>,
    /// How long requests are still taken when the server ends, while /readyz fails [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub shutdown_delay_duration: Option<String>,
    /// An EncryptionConfiguration: what is stored enciphered
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Read it again when it changes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub encryption_provider_config_automatic_reload: Option<bool>,
    /// Admission plugins beyond those that are on by default
    #[arg(long, value_name = "NAME,…")]
    pub enable_admission_plugins: Option<String>,
    /// Admission plugins that are off
    #[arg(long, value_name = "NAME,…")]
    pub disable_admission_plugins: Option<String>,
    /// An AdmissionConfiguration
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
}

macro_rules! first {
    ($a:ident, $b:ident; $($option:ident)*; $($list:ident)*) => {
        AccessSettings {
            $($option: $a.$option.or($b.$option),)*
            $($list: if $a.$list.is_empty() { $b.$list } else { $a.$list },)*
        }
    };
}

impl AccessSettings {
    /// These settings where given, else `other`'s.
    pub fn or(self, other: Self) -> Self {
        first!(self, other;
            client_ca_file anonymous_auth token_auth_file authentication_config
            authentication_token_webhook_config_file authentication_token_webhook_version
            authentication_token_webhook_cache_ttl oidc_issuer_url oidc_client_id oidc_username_claim
            oidc_username_prefix oidc_groups_claim oidc_groups_prefix oidc_ca_file oidc_signing_algs
            requestheader_client_ca_file requestheader_allowed_names requestheader_username_headers
            requestheader_uid_headers requestheader_group_headers requestheader_extra_headers_prefix
            service_account_jwks_uri api_audiences service_account_max_token_expiration
            service_account_extend_token_expiration authorization_mode authorization_config
            authorization_webhook_config_file authorization_webhook_version
            authorization_webhook_cache_authorized_ttl authorization_webhook_cache_unauthorized_ttl
            audit_policy_file audit_log_path audit_log_maxage audit_log_maxbackup audit_log_maxsize
            audit_log_compress audit_webhook_config_file audit_log_mode audit_log_batch_buffer_size
            audit_log_batch_max_size audit_log_batch_max_wait audit_log_batch_throttle_enable
            audit_log_batch_throttle_qps audit_log_batch_throttle_burst audit_log_truncate_enabled
            audit_log_truncate_max_event_size audit_log_truncate_max_batch_size audit_log_version
            audit_webhook_mode audit_webhook_batch_buffer_size audit_webhook_batch_max_size
            audit_webhook_batch_max_wait audit_webhook_batch_throttle_enable audit_webhook_batch_throttle_qps
            audit_webhook_batch_throttle_burst audit_webhook_truncate_enabled
            audit_webhook_truncate_max_event_size audit_webhook_truncate_max_batch_size audit_webhook_version
            audit_log_format audit_webhook_initial_backoff
            encryption_provider_config
            encryption_provider_config_automatic_reload request_timeout min_request_timeout goaway_chance
            http2_max_streams_per_connection shutdown_delay_duration enable_admission_plugins disable_admission_plugins
            admission_control_config_file;
            oidc_required_claim service_account_issuer)
    }

    /// Puts what was given into the API server's configuration.
    pub fn apply(&self, config: &mut apiserver::Config) -> Result<()> {
        let given = self.clone();
        let own = config.client_ca_pem.clone();
        if let Some(path) = &given.client_ca_file {
            let more = read(path, "client-ca-file")?;
            config.client_ca_pem = Some(format!("{}\n{more}", own.as_deref().unwrap_or_default()));
        }
        if let Some(path) = &given.requestheader_client_ca_file {
            config.front_proxy_ca_pem = Some(read(path, "requestheader-client-ca-file")?);
            config.front_proxy_names = Vec::new();
        }
        if let Some(names) = &given.requestheader_allowed_names {
            config.front_proxy_names = list(names);
        }
        config.anonymous = given.anonymous_auth.unwrap_or(config.anonymous);
        if !given.service_account_issuer.is_empty() {
            config.issuers = given.service_account_issuer.clone();
        }
        if let Some(audiences) = &given.api_audiences {
            config.audiences = list(audiences);
        }
        if let Some(names) = &given.disable_admission_plugins {
            config.disabled_admission = list(names);
        }
        config.request_timeout =
            duration(given.request_timeout.clone(), "request-timeout", config.request_timeout)?;
        if let Some(seconds) = given.min_request_timeout {
            config.min_request_timeout = Duration::from_secs(seconds);
        }
        let serving = &mut config.serving;
        serving.goaway_chance = given.goaway_chance.unwrap_or(serving.goaway_chance);
        if !(0.0..=0.02).contains(&serving.goaway_chance) {
            bail!("--goaway-chance can not be less than 0 or greater than 0.02");
        }
        // 0 is the default, as upstream has it
        serving.max_streams =
            given.http2_max_streams_per_connection.filter(|n| *n > 0).unwrap_or(serving.max_streams);
        serving.shutdown_delay = duration(
            given.shutdown_delay_duration.clone(),
            "shutdown-delay-duration",
            serving.shutdown_delay,
        )?;
        config.access = Access { client_ca_base: own, ..given.access()? };
        Ok(())
    }

    fn access(self) -> Result<Access> {
        let usual = Access::default();
        let lists = |given: Option<String>, usual: Vec<String>| given.map_or(usual, |text| list(&text));
        let text = |given: Option<String>, usual: String| given.unwrap_or(usual);
        Ok(Access {
            client_ca_file: self.client_ca_file,
            client_ca_base: None,
            token_auth_file: self.token_auth_file,
            authentication_config: self.authentication_config,
            anonymous_given: self.anonymous_auth.is_some(),
            token_webhook: TokenWebhook {
                config_file: self.authentication_token_webhook_config_file,
                version: text(self.authentication_token_webhook_version, usual.token_webhook.version),
                cache_ttl: duration(
                    self.authentication_token_webhook_cache_ttl,
                    "authentication-token-webhook-cache-ttl",
                    usual.token_webhook.cache_ttl,
                )?,
            },
            oidc: Oidc {
                issuer_url: self.oidc_issuer_url.unwrap_or_default(),
                client_id: self.oidc_client_id.unwrap_or_default(),
                username_claim: text(self.oidc_username_claim, usual.oidc.username_claim),
                username_prefix: self.oidc_username_prefix.unwrap_or_default(),
                groups_claim: self.oidc_groups_claim.unwrap_or_default(),
                groups_prefix: self.oidc_groups_prefix.unwrap_or_default(),
                required_claims: pairs(&self.oidc_required_claim)?,
                ca_file: self.oidc_ca_file,
                signing_algorithms: lists(self.oidc_signing_algs, usual.oidc.signing_algorithms),
            },
            request_headers: RequestHeaders {
                username: lists(self.requestheader_username_headers, usual.request_headers.username),
                uid: lists(self.requestheader_uid_headers, usual.request_headers.uid),
                group: lists(self.requestheader_group_headers, usual.request_headers.group),
                extra_prefixes: lists(
                    self.requestheader_extra_headers_prefix,
                    usual.request_headers.extra_prefixes,
                ),
            },
            extend_token_expiration: self.service_account_extend_token_expiration.unwrap_or(true),
            max_token_expiration: match self.service_account_max_token_expiration {
                Some(given) => {
                    let most = duration(Some(given), "service-account-max-token-expiration", Duration::ZERO)?;
                    if most < Duration::from_secs(3600) {
                        bail!("--service-account-max-token-expiration must be at least 1h");
                    }
                    Some(most)
                }
                None => None,
            },
            jwks_uri: self.service_account_jwks_uri,
            authorization_modes: lists(self.authorization_mode, usual.authorization_modes),
            authorization_config: self.authorization_config,
            authorization_webhook: AuthorizationWebhook {
                config_file: self.authorization_webhook_config_file,
                version: text(self.authorization_webhook_version, usual.authorization_webhook.version),
                authorized_ttl: duration(
                    self.authorization_webhook_cache_authorized_ttl,
                    "authorization-webhook-cache-authorized-ttl",
                    usual.authorization_webhook.authorized_ttl,
                )?,
                unauthorized_ttl: duration(
                    self.authorization_webhook_cache_unauthorized_ttl,
                    "authorization-webhook-cache-unauthorized-ttl",
                    usual.authorization_webhook.unauthorized_ttl,
                )?,
            },
            audit: AuditSettings {
                policy_file: self.audit_policy_file,
                log_path: self.audit_log_path,
                log_max_age: self.audit_log_maxage.unwrap_or(usual.audit.log_max_age),
                log_max_backup: self.audit_log_maxbackup.unwrap_or(usual.audit.log_max_backup),
                log_max_size: self.audit_log_maxsize.unwrap_or(usual.audit.log_max_size),
                log_compress: self.audit_log_compress.unwrap_or(false),
                log_legacy: match self.audit_log_format.as_deref() {
                    None | Some("json") => false,
                    Some("legacy") => true,
                    Some(other) => {
                        bail!("invalid audit log format {other}, allowed formats are \"legacy,json\"")
                    }
                },
                log_delivery: delivery(
                    "log",
                    Given {
                        mode: self.audit_log_mode,
                        buffer: self.audit_log_batch_buffer_size,
                        batch: self.audit_log_batch_max_size,
                        wait: self.audit_log_batch_max_wait,
                        throttle: self.audit_log_batch_throttle_enable,
                        rate: self.audit_log_batch_throttle_qps,
                        burst: self.audit_log_batch_throttle_burst,
                        truncate: self.audit_log_truncate_enabled,
                        event: self.audit_log_truncate_max_event_size,
                        bytes: self.audit_log_truncate_max_batch_size,
                        version: self.audit_log_version,
                    },
                    usual.audit.log_delivery,
                )?,
                webhook_config_file: self.audit_webhook_config_file,
                webhook_initial_backoff: duration(
                    self.audit_webhook_initial_backoff,
                    "audit-webhook-initial-backoff",
                    usual.audit.webhook_initial_backoff,
                )?,
                webhook_delivery: delivery(
                    "webhook",
                    Given {
                        mode: self.audit_webhook_mode,
                        buffer: self.audit_webhook_batch_buffer_size,
                        batch: self.audit_webhook_batch_max_size,
                        wait: self.audit_webhook_batch_max_wait,
                        throttle: self.audit_webhook_batch_throttle_enable,
                        rate: self.audit_webhook_batch_throttle_qps,
                        burst: self.audit_webhook_batch_throttle_burst,
                        truncate: self.audit_webhook_truncate_enabled,
                        event: self.audit_webhook_truncate_max_event_size,
                        bytes: self.audit_webhook_truncate_max_batch_size,
                        version: self.audit_webhook_version,
                    },
                    usual.audit.webhook_delivery,
                )?,
            },
            encryption_config: self.encryption_provider_config,
            encryption_reload: self.encryption_provider_config_automatic_reload.unwrap_or(false),
            enabled_admission: lists(self.enable_admission_plugins, Vec::new()),
            admission_config: self.admission_control_config_file,
        })
    }
}

/// `--audit-log-*` and `--audit-webhook-*` that both have.
struct Given {
    mode: Option<String>,
    buffer: Option<usize>,
    batch: Option<usize>,
    wait: Option<String>,
    throttle: Option<bool>,
    rate: Option<f32>,
    burst: Option<u32>,
    truncate: Option<bool>,
    event: Option<u64>,
    bytes: Option<u64>,
    version: Option<String>,
}

fn delivery(plugin: &str, given: Given, usual: Delivery) -> Result<Delivery> {
    let mode = match given.mode.as_deref() {
        None => usual.mode,
        Some("batch") => AuditMode::Batch,
        Some("blocking") => AuditMode::Blocking,
        Some("blocking-strict") => AuditMode::BlockingStrict,
        Some(other) => {
            bail!("invalid audit {plugin} mode {other}, allowed modes are \"batch,blocking,blocking-strict\"")
        }
    };
    if given.version.as_ref().is_some_and(|v| v != "audit.k8s.io/v1") {
        bail!("invalid group version, allowed versions are [\"audit.k8s.io/v1\"]");
    }
    let buffer = given.buffer.unwrap_or(usual.buffer);
    let batch = given.batch.unwrap_or(usual.batch);
    let often = given.throttle.unwrap_or(usual.throttle.is_some());
    let throttle = Throttle { per_second: given.rate.unwrap_or(10.0), burst: given.burst.unwrap_or(15) };
    if mode == AuditMode::Batch {
        for (what, bad) in [
            ("buffer size", buffer == 0),
            ("max batch size", batch == 0),
            ("throttle QPS", often && throttle.per_second.is_nan() || throttle.per_second <= 0.0),
            ("throttle burst", often && throttle.burst == 0),
        ] {
            if bad {
                bail!("invalid audit batch {plugin} {what}, must be a positive number");
            }
        }
    }
    let (event, bytes) = (given.event.unwrap_or(100 * 1024), given.bytes.unwrap_or(10 * 1024 * 1024));
    if event == 0 {
        bail!("invalid audit truncate {plugin} max event size 0, must be a positive number");
    }
    if bytes < event {
        bail!(
            "invalid audit truncate {plugin} max batch size {bytes}, must be greater than max event size ({event})"
        );
    }
    Ok(Delivery {
        mode,
        buffer,
        batch,
        wait: duration(given.wait, &format!("audit-{plugin}-batch-max-wait"), usual.wait)?,
        throttle: often.then_some(throttle),
        // an event comes alone: its size is what can be too large
        truncate: given.truncate.unwrap_or(false).then_some(Truncate { event }),
    })
}

fn read(path: &Path, flag: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("--{flag}: cannot read {}", path.display()))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn pairs(given: &[String]) -> Result<Vec<(String, String)>> {
    let parse = |pair: &str| {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("--oidc-required-claim: {pair:?} must be KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(|pair| parse(pair)).collect()
}

/// `1h30m`, `45s`.
fn duration(given: Option<String>, flag: &str, usual: Duration) -> Result<Duration> {
    let Some(text) = given else { return Ok(usual) };
    apiserver::config::duration(&text)
        .with_context(|| format!("--{flag}: {text:?} is not a duration like 30s, 5m or 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_reach_the_server() {
        let given = AccessSettings {
            authorization_mode: Some("RBAC, Webhook".into()),
            oidc_required_claim: vec!["a=b".into(), "c=d,e".into()],
            audit_log_maxsize: Some(5),
            authorization_webhook_cache_authorized_ttl: Some("1m30s".into()),
            ..AccessSettings::default()
        };
        let mut config = apiserver::Config::default();
        given.apply(&mut config).unwrap();
        let access = &config.access;
        assert_eq!(access.authorization_modes, ["RBAC", "Webhook"]);
        assert_eq!(access.oidc.required_claims.len(), 2);
        assert_eq!(access.audit.log_max_size, 5);
        assert_eq!(access.authorization_webhook.authorized_ttl, Duration::from_secs(90));
        let bad = AccessSettings {
            authentication_token_webhook_cache_ttl: Some("soon".into()),
            ..AccessSettings::default()
        };
        let error = format!("{:#}", bad.apply(&mut config).unwrap_err());
        assert!(error.contains("--authentication-token-webhook-cache-ttl"), "{error}");
    }
}
