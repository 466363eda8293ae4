//! Every setting of the server, as upstream's kube-apiserver flags mean them.

mod access;
mod serving;
pub(crate) mod strict;

pub use access::{
    Access, Audit as AuditSettings, AuditMode, AuthorizationWebhook, Delivery, Oidc, RequestHeaders,
    Throttle, TokenWebhook, Truncate,
};

pub use serving::Serving;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What the server is told once, at start. `Config::default()` is a server for tests: no certificates, no tokens.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--advertise-address` and the secure port: where the endpoints of the `kubernetes` Service point.
    pub advertise_address: IpAddr,
    pub secure_port: u16,
    /// `--external-hostname`: the address in `/api`, `HOST:PORT`; "" for the advertised one.
    pub external_address: String,
    /// `--service-cluster-ip-range`: one CIDR, or one of each family, the first being the default family.
    pub service_cidrs: Vec<String>,
    /// `--service-node-port-range`.
    pub node_ports: RangeInclusive<u16>,
    /// `--runtime-config` as given: `api/all=true`, `resource.k8s.io/v1beta1=false`, `apps/v1/deployments=true`.
    pub runtime_config: Vec<(String, bool)>,
    /// `--feature-gates`.
    pub feature_gates: Vec<(String, bool)>,
    /// `--service-account-issuer`: the first one signs, all are accepted.
    pub issuers: Vec<String>,
    /// `--api-audiences`; empty for the issuers.
    pub audiences: Vec<String>,
    /// `--service-account-signing-key-file`: a PEM private key (RSA or EC P-256).
    pub signing_key_pem: Option<String>,
    /// `--service-account-key-file`: PEM public (or private) keys that tokens may be signed with.
    pub verifying_keys_pem: Vec<String>,
    /// `--client-ca-file`: PEM certificates.
    pub client_ca_pem: Option<String>,
    /// `--tls-cert-file`, `--tls-private-key-file`: PEM chain and key.
    pub serving_cert_pem: Option<String>,
    pub serving_key_pem: Option<String>,
    /// `--requestheader-client-ca-file`, `--requestheader-allowed-names`.
    pub front_proxy_ca_pem: Option<String>,
    pub front_proxy_names: Vec<String>,
    /// `--proxy-client-cert-file`, `--proxy-client-key-file`: PEM; who this server is to aggregated API servers.
    pub proxy_client_cert_pem: Option<String>,
    pub proxy_client_key_pem: Option<String>,
    /// `--serve-removed-apis`: API versions that upstream removed, as another shape of today's.
    pub serve_removed_apis: bool,
    /// `--enable-aggregator-routing`: to the endpoints of a Service rather than to its cluster IP.
    pub aggregator_routing: bool,
    /// `--kubelet-client-certificate`, `--kubelet-client-key`, `--kubelet-certificate-authority`.
    pub kubelet_client_cert_pem: Option<String>,
    pub kubelet_client_key_pem: Option<String>,
    pub kubelet_ca_pem: Option<String>,
    /// `--cluster-signing` CA published in `kube-root-ca.crt`-like places; the CA clients should trust.
    pub root_ca_pem: Option<String>,
    /// `--enable-bootstrap-token-auth`.
    pub bootstrap_tokens: bool,
    /// `--anonymous-auth`.
    pub anonymous: bool,
    /// `--allow-privileged`.
    pub allow_privileged: bool,
    /// `--event-ttl`.
    pub event_ttl: Duration,
    /// `--request-timeout`: for everything but watches and streams.
    pub request_timeout: Duration,
    /// `--min-request-timeout`: a watch lasts between this and twice this if the client does not say.
    pub min_request_timeout: Duration,
    /// Lists are answered as of versions up to this old at least, and twice this at most (upstream compacts every
    /// five minutes).
    pub list_history: Duration,
    /// `--enable-priority-and-fairness`.
    pub priority_and_fairness: bool,
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight`: with priorities, their sum is what the levels
    /// share; without, each is a limit (0: none).
    pub max_requests_inflight: usize,
    pub max_mutating_requests_inflight: usize,
    /// `--max-request-bytes` of bodies.
    pub max_body: usize,
    /// `--default-not-ready-toleration-seconds`, `--default-unreachable-toleration-seconds`.
    pub default_not_ready_toleration: i64,
    pub default_unreachable_toleration: i64,
    /// `--disable-admission-plugins`.
    pub disabled_admission: Vec<String>,
    /// Authentication, authorization, audit, encryption, admission.
    pub access: Access,
    pub serving: Serving,
    /// How many changes of one resource stay watchable.
    pub watch_window: usize,
    /// No other process writes to the store: a read need not ask it for its revision.
    pub exclusive_store: bool,
    /// What `/version` says beyond 1.36.
    pub git_version: String,
    /// What other parts of the process add to `/metrics`: families in Prometheus' text form.
    pub more_metrics: Option<fn() -> String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            advertise_address: IpAddr::from([127, 0, 0, 1]),
            secure_port: 6443,
            external_address: String::new(),
            service_cidrs: vec!["10.96.0.0/16".to_owned()],
            node_ports: 30000..=32767,
            runtime_config: Vec::new(),
            feature_gates: Vec::new(),
            issuers: vec!["https://kubernetes.default.svc.cluster.local".to_owned()],
            audiences: Vec::new(),
            signing_key_pem: None,
            verifying_keys_pem: Vec::new(),
            client_ca_pem: None,
            serving_cert_pem: None,
            serving_key_pem: None,
            front_proxy_ca_pem: None,
            front_proxy_names: Vec::new(),
            proxy_client_cert_pem: None,
            proxy_client_key_pem: None,
            serve_removed_apis: false,
            aggregator_routing: false,
            kubelet_client_cert_pem: None,
            kubelet_client_key_pem: None,
            kubelet_ca_pem: None,
            root_ca_pem: None,
            bootstrap_tokens: true,
            anonymous: true,
            allow_privileged: true,
            event_ttl: Duration::from_secs(3600),
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            list_history: Duration::from_secs(300),
            priority_and_fairness: true,
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            max_body: 3 * 1024 * 1024,
            default_not_ready_toleration: 300,
            default_unreachable_toleration: 300,
            disabled_admission: Vec::new(),
            access: Access::default(),
            serving: Serving::default(),
            watch_window: 4096,
            exclusive_store: true,
            git_version: "v1.36.1".to_owned(),
            more_metrics: None,
        }
    }
}

/// A duration as flags and files have it: `1h30m`, `45s`.
pub fn duration(text: &str) -> Option<Duration> {
    crate::front::query::go_duration(text).ok()
}

impl Config {
    /// The audiences that tokens are issued for and accepted with when a request does not say.
    pub fn api_audiences(&self) -> &[String] {
        if self.audiences.is_empty() { &self.issuers } else { &self.audiences }
    }

    pub fn external_address(&self) -> String {
        if !self.external_address.is_empty() {
            return self.external_address.clone();
        }
        std::net::SocketAddr::new(self.advertise_address, self.secure_port).to_string()
    }

    /// Gates that were switched on by hand.
    pub fn features(&self) -> Vec<String> {
        self.feature_gates.iter().filter(|(_, on)| *on).map(|(name, _)| name.clone()).collect()
    }
}
