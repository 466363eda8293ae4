//! The settings in force, by the names and in the forms of kube-apiserver's flags. Certificates, keys and the like are
//! not among them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Access, AuditMode, Config, Delivery};

pub fn flags(config: &Config) -> BTreeMap<&'static str, String> {
    let mut out = general(config);
    out.extend(access(&config.access));
    out
}

fn general(config: &Config) -> BTreeMap<&'static str, String> {
    let gates: Vec<String> = config.feature_gates.iter().map(|(name, on)| format!(":{name}={on}")).collect();
    let mut runtime: Vec<String> =
        config.runtime_config.iter().map(|(name, on)| format!("{name}={on}")).collect();
    runtime.sort();
    let ports = &config.node_ports;
    BTreeMap::from([
        ("advertise-address", config.advertise_address.to_string()),
        ("secure-port", config.secure_port.to_string()),
        ("external-hostname", config.external_address.clone()),
        ("service-cluster-ip-range", config.service_cidrs.join(",")),
        ("service-node-port-range", format!("{}-{}", ports.start(), ports.end())),
        ("runtime-config", runtime.join(",")),
        ("feature-gates", gates.join(",")),
        ("service-account-issuer", list(&config.issuers)),
        ("api-audiences", list(&config.audiences)),
        ("requestheader-allowed-names", list(&config.front_proxy_names)),
        ("enable-aggregator-routing", config.aggregator_routing.to_string()),
        ("enable-bootstrap-token-auth", config.bootstrap_tokens.to_string()),
        ("anonymous-auth", config.anonymous.to_string()),
        ("allow-privileged", config.allow_privileged.to_string()),
        ("event-ttl", duration(config.event_ttl)),
        ("request-timeout", duration(config.request_timeout)),
        ("min-request-timeout", config.min_request_timeout.as_secs().to_string()),
        ("goaway-chance", config.serving.goaway_chance.to_string()),
        ("http2-max-streams-per-connection", config.serving.max_streams.to_string()),
        ("shutdown-delay-duration", duration(config.serving.shutdown_delay)),
        ("enable-priority-and-fairness", config.priority_and_fairness.to_string()),
        ("max-requests-inflight", config.max_requests_inflight.to_string()),
        ("max-mutating-requests-inflight", config.max_mutating_requests_inflight.to_string()),
        ("default-not-ready-toleration-seconds", config.default_not_ready_toleration.to_string()),
        ("default-unreachable-toleration-seconds", config.default_unreachable_toleration.to_string()),
        ("disable-admission-plugins", list(&config.disabled_admission)),
    ])
}

fn access(access: &Access) -> BTreeMap<&'static str, String> {
    let Access {
        client_ca_file,
        client_ca_base: _,
        token_auth_file,
        authentication_config,
        anonymous_given: _,
        token_webhook,
        oidc,
        request_headers,
        extend_token_expiration,
        max_token_expiration,
        jwks_uri,
        authorization_modes,
        authorization_config,
        authorization_webhook,
        audit,
        encryption_config,
        encryption_reload,
        enabled_admission,
        admission_config,
    } = access;
    let claims: Vec<String> =
        oidc.required_claims.iter().map(|(claim, value)| format!("{claim}={value}")).collect();
    let mut out = BTreeMap::from([
        ("client-ca-file", file(client_ca_file)),
        ("token-auth-file", file(token_auth_file)),
        ("authentication-config", file(authentication_config)),
        ("authentication-token-webhook-config-file", file(&token_webhook.config_file)),
        ("authentication-token-webhook-version", token_webhook.version.clone()),
        ("authentication-token-webhook-cache-ttl", duration(token_webhook.cache_ttl)),
        ("oidc-issuer-url", oidc.issuer_url.clone()),
        ("oidc-client-id", oidc.client_id.clone()),
        ("oidc-username-claim", oidc.username_claim.clone()),
        ("oidc-username-prefix", oidc.username_prefix.clone()),
        ("oidc-groups-claim", oidc.groups_claim.clone()),
        ("oidc-groups-prefix", oidc.groups_prefix.clone()),
        ("oidc-required-claim", claims.join(",")),
        ("oidc-ca-file", file(&oidc.ca_file)),
        ("oidc-signing-algs", list(&oidc.signing_algorithms)),
        ("requestheader-username-headers", list(&request_headers.username)),
        ("requestheader-uid-headers", list(&request_headers.uid)),
        ("requestheader-group-headers", list(&request_headers.group)),
        ("requestheader-extra-headers-prefix", list(&request_headers.extra_prefixes)),
        ("service-account-extend-token-expiration", extend_token_expiration.to_string()),
        ("service-account-max-token-expiration", duration(max_token_expiration.unwrap_or_default())),
        ("service-account-jwks-uri", jwks_uri.clone().unwrap_or_default()),
        ("authorization-mode", list(authorization_modes)),
        ("authorization-config", file(authorization_config)),
        ("authorization-webhook-config-file", file(&authorization_webhook.config_file)),
        ("authorization-webhook-version", authorization_webhook.version.clone()),
        ("authorization-webhook-cache-authorized-ttl", duration(authorization_webhook.authorized_ttl)),
        ("authorization-webhook-cache-unauthorized-ttl", duration(authorization_webhook.unauthorized_ttl)),
        ("audit-policy-file", file(&audit.policy_file)),
        ("audit-log-path", file(&audit.log_path)),
        ("audit-log-maxage", audit.log_max_age.to_string()),
        ("audit-log-maxbackup", audit.log_max_backup.to_string()),
        ("audit-log-maxsize", audit.log_max_size.to_string()),
        ("audit-log-compress", audit.log_compress.to_string()),
        ("audit-log-format", if audit.log_legacy { "legacy" } else { "json" }.to_owned()),
        ("audit-webhook-config-file", file(&audit.webhook_config_file)),
        ("audit-webhook-initial-backoff", duration(audit.webhook_initial_backoff)),
        ("encryption-provider-config", file(encryption_config)),
        ("encryption-provider-config-automatic-reload", encryption_reload.to_string()),
        ("enable-admission-plugins", list(enabled_admission)),
        ("admission-control-config-file", file(admission_config)),
    ]);
    out.extend(delivery(&LOG, &audit.log_delivery));
    out.extend(delivery(&WEBHOOK, &audit.webhook_delivery));
    out
}

/// The flags of a way of delivery, in the order in which [`delivery`] gives their values.
const LOG: [&str; 9] = [
    "audit-log-mode",
    "audit-log-batch-buffer-size",
    "audit-log-batch-max-size",
    "audit-log-batch-max-wait",
    "audit-log-batch-throttle-enable",
    "audit-log-batch-throttle-qps",
    "audit-log-batch-throttle-burst",
    "audit-log-truncate-enabled",
    "audit-log-truncate-max-event-size",
];
const WEBHOOK: [&str; 9] = [
    "audit-webhook-mode",
    "audit-webhook-batch-buffer-size",
    "audit-webhook-batch-max-size",
    "audit-webhook-batch-max-wait",
    "audit-webhook-batch-throttle-enable",
    "audit-webhook-batch-throttle-qps",
    "audit-webhook-batch-throttle-burst",
    "audit-webhook-truncate-enabled",
    "audit-webhook-truncate-max-event-size",
];

fn delivery(names: &[&'static str; 9], of: &Delivery) -> Vec<(&'static str, String)> {
    let mode = match of.mode {
        AuditMode::Batch => "batch",
        AuditMode::Blocking => "blocking",
        AuditMode::BlockingStrict => "blocking-strict",
    };
    let values = [
        mode.to_owned(),
        of.buffer.to_string(),
        of.batch.to_string(),
        duration(of.wait),
        of.throttle.is_some().to_string(),
        of.throttle.map_or(0.0, |t| t.per_second).to_string(),
        of.throttle.map_or(0, |t| t.burst).to_string(),
        of.truncate.is_some().to_string(),
        of.truncate.map_or(0, |t| t.event).to_string(),
    ];
    names.iter().copied().zip(values).collect()
}

fn list(of: &[String]) -> String {
    format!("[{}]", of.join(","))
}

fn file(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

/// As Go prints durations: `1h0m0s`, `5m0s`, `30s`, `1.5s`.
pub fn duration(of: Duration) -> String {
    let (hours, minutes) = (of.as_secs() / 3600, of.as_secs() / 60 % 60);
    let seconds = (of.as_secs() % 60) as f64 + f64::from(of.subsec_millis()) / 1e3;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}
