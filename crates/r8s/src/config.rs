//! Settings of `r8s server`: flags over the file over defaults, parsed and validated once.

mod access;

pub use access::AccessSettings;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::host;

/// As given, by flags or in the file (camelCase keys of the same names); what is not given has a default.
#[derive(clap::Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The node's name [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The node's address [default: the one of the default route]
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// Address the API server listens on [default: all]
    #[arg(long, value_name = "IP")]
    pub bind_address: Option<IpAddr>,
    /// Port the API server listens on [default: 6443]
    #[arg(long, value_name = "PORT")]
    pub secure_port: Option<u16>,
    /// Addresses of Services [default: 10.96.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub service_cluster_ip_range: Option<String>,
    /// Addresses of Pods [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Domain of the cluster's DNS names [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// API versions to serve or not, as kube-apiserver's flag (api/all=true,GROUP/VERSION=false)
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub runtime_config: Option<String>,
    /// Feature gates, as kube-apiserver's flag (NAME=true,NAME=false)
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub feature_gates: Option<String>,
    /// Use this CRI runtime instead of the built-in one (unix:///path/to/socket)
    #[arg(long, value_name = "ENDPOINT")]
    pub container_runtime_endpoint: Option<String>,
    /// Let the CNI plugins configured in this directory connect pods, instead of the built-in network
    #[arg(long, value_name = "DIR", conflicts_with = "container_runtime_endpoint")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are [default: /opt/cni/bin and /usr/lib/cni]
    #[arg(long, value_name = "DIR", requires = "cni_conf_dir")]
    pub cni_bin_dir: Option<PathBuf>,
    /// Keep the cluster's state in this etcd cluster instead of in files of this host (client URLs)
    #[arg(long, value_name = "URL,…")]
    pub etcd_servers: Option<String>,
    /// Authorities that sign the etcd members' certificates (PEM)
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    /// Client key for etcd (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// Compact the etcd cluster's history this often, in minutes; 0: leave it to others [default: 5]
    #[arg(long, value_name = "MINUTES")]
    pub etcd_compaction_interval: Option<u64>,
    /// Take a snapshot of the cluster's state this often, in minutes [default: never]
    #[arg(long, value_name = "MINUTES")]
    pub snapshot_every: Option<u64>,
    /// Where snapshots go [default: var/lib/r8s/snapshots under the root]
    #[arg(long, value_name = "DIR")]
    pub snapshot_dir: Option<PathBuf>,
    /// How many snapshots are kept [default: 5]
    #[arg(long, value_name = "N")]
    pub snapshot_keep: Option<usize>,
    /// Requests that may run at once, writes apart [default: 400]
    #[arg(long, value_name = "N")]
    pub max_requests_inflight: Option<usize>,
    /// Writes that may run at once [default: 200]
    #[arg(long, value_name = "N")]
    pub max_mutating_requests_inflight: Option<usize>,
    /// Share the API server among its users by priority levels [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_priority_and_fairness: Option<bool>,
    /// When pods are evicted, as the kubelet's flag (memory.available<100Mi,nodefs.available<10%,…)
    #[arg(long, value_name = "SIGNAL<LIMIT,…")]
    pub eviction_hard: Option<String>,
    /// Also serve API versions that Kubernetes removed (extensions/v1beta1, apps/v1beta1, policy/v1beta1, …)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub serve_removed_apis: Option<bool>,
    /// Reach aggregated API servers by the endpoints of their Services instead of the cluster IP
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_aggregator_routing: Option<bool>,
    /// Client certificate for aggregated API servers (PEM) [default: made and signed by the front-proxy authority]
    #[arg(long, value_name = "FILE", requires = "proxy_client_key_file")]
    pub proxy_client_cert_file: Option<PathBuf>,
    /// Client key for aggregated API servers (PEM)
    #[arg(long, value_name = "FILE", requires = "proxy_client_cert_file")]
    pub proxy_client_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub apiserver: AccessSettings,
}

impl Settings {
    /// Reads a settings file (YAML or JSON).
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_saphyr::from_str(&text).map_err(|error| {
            let at = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
            // One line: the snippet that the library draws is left out.
            let why = error.without_snippet().to_string();
            anyhow::anyhow!("{}{at}: {}", path.display(), why.lines().next().unwrap_or("not readable"))
        })
    }

    /// These settings where given, else `other`'s.
    pub fn or(self, other: Self) -> Self {
        Self {
            node_name: self.node_name.or(other.node_name),
            node_ip: self.node_ip.or(other.node_ip),
            bind_address: self.bind_address.or(other.bind_address),
            secure_port: self.secure_port.or(other.secure_port),
            service_cluster_ip_range: self.service_cluster_ip_range.or(other.service_cluster_ip_range),
            cluster_cidr: self.cluster_cidr.or(other.cluster_cidr),
            cluster_domain: self.cluster_domain.or(other.cluster_domain),
            runtime_config: self.runtime_config.or(other.runtime_config),
            feature_gates: self.feature_gates.or(other.feature_gates),
            container_runtime_endpoint: self.container_runtime_endpoint.or(other.container_runtime_endpoint),
            cni_conf_dir: self.cni_conf_dir.or(other.cni_conf_dir),
            cni_bin_dir: self.cni_bin_dir.or(other.cni_bin_dir),
            max_requests_inflight: self.max_requests_inflight.or(other.max_requests_inflight),
            max_mutating_requests_inflight: self
                .max_mutating_requests_inflight
                .or(other.max_mutating_requests_inflight),
            enable_priority_and_fairness: self
                .enable_priority_and_fairness
                .or(other.enable_priority_and_fairness),
            eviction_hard: self.eviction_hard.or(other.eviction_hard),
            serve_removed_apis: self.serve_removed_apis.or(other.serve_removed_apis),
            enable_aggregator_routing: self.enable_aggregator_routing.or(other.enable_aggregator_routing),
            proxy_client_cert_file: self.proxy_client_cert_file.or(other.proxy_client_cert_file),
            proxy_client_key_file: self.proxy_client_key_file.or(other.proxy_client_key_file),
            etcd_servers: self.etcd_servers.or(other.etcd_servers),
            etcd_cafile: self.etcd_cafile.or(other.etcd_cafile),
            etcd_certfile: self.etcd_certfile.or(other.etcd_certfile),
            etcd_keyfile: self.etcd_keyfile.or(other.etcd_keyfile),
            etcd_compaction_interval: self.etcd_compaction_interval.or(other.etcd_compaction_interval),
            snapshot_every: self.snapshot_every.or(other.snapshot_every),
            snapshot_dir: self.snapshot_dir.or(other.snapshot_dir),
            snapshot_keep: self.snapshot_keep.or(other.snapshot_keep),
            apiserver: self.apiserver.or(other.apiserver),
        }
    }
}

/// The validated configuration of a server.
#[derive(Clone, Debug)]
pub struct Server {
    pub node_name: String,
    pub node_ip: IpAddr,
    pub bind_address: IpAddr,
    pub secure_port: u16,
    pub service_cidr: Cidr,
    pub cluster_cidr: Cidr,
    pub cluster_domain: String,
    pub runtime_config: Vec<(String, bool)>,
    pub feature_gates: Vec<(String, bool)>,
    pub container_runtime_endpoint: Option<PathBuf>,
    pub cni: Option<Cni>,
    pub max_requests_inflight: usize,
    pub max_mutating_requests_inflight: usize,
    pub enable_priority_and_fairness: bool,
    /// Signals and their limits; `None` leaves the kubelet's own.
    pub eviction_hard: Option<BTreeMap<String, String>>,
    pub serve_removed_apis: bool,
    pub aggregator_routing: bool,
    /// Certificate and key; `None`: made at start.
    pub proxy_client: Option<(PathBuf, PathBuf)>,
    /// `None`: the embedded store.
    pub etcd: Option<store::etcd::Config>,
    pub apiserver: AccessSettings,
    /// How often the etcd cluster is compacted; the embedded store does so by itself.
    pub compact_every: Option<Duration>,
    pub snapshots: Option<Snapshots>,
}

/// When snapshots are taken and where they go.
#[derive(Clone, Debug)]
pub struct Snapshots {
    pub every: Duration,
    /// `None`: beside the store.
    pub dir: Option<PathBuf>,
    pub keep: usize,
}

impl Server {
    pub fn resolve(settings: Settings) -> Result<Self> {
        let Settings {
            node_name,
            node_ip,
            bind_address,
            secure_port,
            service_cluster_ip_range,
            cluster_cidr,
            cluster_domain,
            runtime_config,
            feature_gates,
            container_runtime_endpoint,
            cni_conf_dir,
            cni_bin_dir,
            etcd_servers,
            etcd_cafile,
            etcd_certfile,
            etcd_keyfile,
            etcd_compaction_interval,
            snapshot_every,
            snapshot_dir,
            snapshot_keep,
            eviction_hard,
            serve_removed_apis,
            enable_aggregator_routing,
            proxy_client_cert_file,
            proxy_client_key_file,
            max_requests_inflight,
            max_mutating_requests_inflight,
            enable_priority_and_fairness,
            apiserver,
        } = settings;
        let minutes = |n: u64| (n > 0).then(|| Duration::from_secs(n.saturating_mul(60)));
        let node_name = match node_name {
            Some(name) => name,
            None => host::node_name()?,
        };
        if !is_dns_subdomain(&node_name) {
            bail!(
                "node name {node_name:?} is not a DNS name (lower-case letters, digits, '-' and '.')\nhint: give another with --node-name"
            );
        }
        let cidr = |flag: &str, text: Option<String>, default: &str| {
            let text = text.unwrap_or_else(|| default.to_owned());
            Cidr::parse(&text).with_context(|| format!("--{flag}"))
        };
        let (service_cidr, cluster_cidr) = (
            cidr("service-cluster-ip-range", service_cluster_ip_range, "10.96.0.0/16")?,
            cidr("cluster-cidr", cluster_cidr, "10.244.0.0/16")?,
        );
        ranges(&service_cidr, &cluster_cidr)?;
        Ok(Self {
            node_name,
            node_ip: node_ip.unwrap_or_else(host::primary_address),
            bind_address: bind_address.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            secure_port: secure_port.unwrap_or(6443),
            service_cidr,
            cluster_cidr,
            cluster_domain: cluster_domain.unwrap_or_else(|| "cluster.local".to_owned()),
            runtime_config: switches(
                "runtime-config",
                runtime_config.as_deref(),
                apiserver::check_runtime_config,
            )?,
            feature_gates: switches("feature-gates", feature_gates.as_deref(), apiserver::gates::check)?,
            container_runtime_endpoint: container_runtime_endpoint.map(|e| socket(&e)).transpose()?,
            cni: cni_conf_dir.map(|conf_dir| Cni { conf_dir, bin_dirs: bin_dirs(cni_bin_dir) }),
            max_requests_inflight: max_requests_inflight.unwrap_or(400),
            max_mutating_requests_inflight: max_mutating_requests_inflight.unwrap_or(200),
            enable_priority_and_fairness: enable_priority_and_fairness.unwrap_or(true),
            eviction_hard: eviction_hard.as_deref().map(thresholds).transpose()?,
            compact_every: minutes(etcd_compaction_interval.unwrap_or(5)),
            snapshots: snapshot_every.and_then(minutes).map(|every| Snapshots {
                every,
                dir: snapshot_dir,
                keep: snapshot_keep.unwrap_or(5).max(1),
            }),
            serve_removed_apis: serve_removed_apis.unwrap_or(false),
            aggregator_routing: enable_aggregator_routing.unwrap_or(false),
            proxy_client: proxy_client_cert_file.zip(proxy_client_key_file),
            apiserver,
            etcd: etcd_servers
                .map(|servers| etcd(&servers, etcd_cafile, etcd_certfile.zip(etcd_keyfile)))
                .transpose()?,
        })
    }
}

impl Server {
    /// The address of the cluster's DNS Service: the tenth of the range, as kubeadm has it.
    pub fn dns_address(&self) -> IpAddr {
        self.service_cidr.nth(10)
    }
}

/// What would fail later in ways that are hard to read.
fn ranges(services: &Cidr, pods: &Cidr) -> Result<()> {
    let bits = |cidr: &Cidr| if cidr.network.is_ipv4() { 32 } else { 128 };
    if bits(services) - services.prefix < 4 {
        bail!("--service-cluster-ip-range: {services} is too small: the cluster's DNS has its tenth address");
    }
    // Nodes get a /24 (IPv6: /64) each, as upstream's controller manager gives them.
    let node = if pods.network.is_ipv4() { 24 } else { 64 };
    if pods.prefix > node {
        bail!("--cluster-cidr: {pods} is too small: each node gets a /{node} of it");
    }
    let shorter = services.prefix.min(pods.prefix);
    if bits(services) == bits(pods) && mask(services.network, shorter) == mask(pods.network, shorter) {
        bail!("--cluster-cidr {pods} and --service-cluster-ip-range {services} overlap");
    }
    Ok(())
}

/// CNI plugins, where they connect the pods.
#[derive(Clone, Debug)]
pub struct Cni {
    pub conf_dir: PathBuf,
    pub bin_dirs: Vec<PathBuf>,
}

/// Where plugins are looked for.
pub fn bin_dirs(given: Option<PathBuf>) -> Vec<PathBuf> {
    match given {
        Some(dir) => vec![dir],
        // Upstream's place, and Debian's.
        None => vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
    }
}

/// `NAME:PASSWORD` for an etcd cluster with users; not a flag, which everybody on the host could read.
const ETCD_USER: &str = "R8S_ETCD_USER";

/// How to reach the etcd cluster at these client URLs.
pub fn etcd(
    servers: &str,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
) -> Result<store::etcd::Config> {
    let read =
        |path: PathBuf| std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
    let servers = servers.split(',').map(str::trim).filter(|url| !url.is_empty());
    let identity = match identity {
        Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
        None => None,
    };
    let user = match std::env::var(ETCD_USER) {
        Ok(user) => {
            let (name, password) =
                user.split_once(':').with_context(|| format!("{ETCD_USER} is not NAME:PASSWORD"))?;
            Some((name.to_owned(), password.to_owned()))
        }
        Err(_) => None,
    };
    let ca = ca.map(read).transpose()?;
    Ok(store::etcd::Config { ca, identity, user, ..store::etcd::Config::new(servers) })
}

/// An address range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub network: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || format!("{text:?} is not an address range like 10.96.0.0/16");
        let (address, prefix) = text.split_once('/').with_context(wrong)?;
        let network: IpAddr = address.parse().with_context(wrong)?;
        let prefix: u8 = prefix.parse().with_context(wrong)?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            bail!("{}", wrong());
        }
        if network != mask(network, prefix) {
            bail!(
                "{text:?} has bits set behind the prefix; did you mean {}/{prefix}?",
                mask(network, prefix)
            );
        }
        Ok(Self { network, prefix })
    }

    /// The same for the crates that work with the kernel.
    pub fn kernel(&self) -> kernel::net::Cidr {
        kernel::net::Cidr::new(self.network, self.prefix)
    }

    /// The n-th address of the range.
    pub fn nth(&self, n: u32) -> IpAddr {
        match self.network {
            IpAddr::V4(v4) => IpAddr::from((u32::from(v4) + n).to_be_bytes()),
            IpAddr::V6(v6) => IpAddr::from((u128::from(v6) + u128::from(n)).to_be_bytes()),
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
    }
}

/// `A=true,B=false`, if the names are known.
fn switches(
    flag: &str,
    text: Option<&str>,
    check: impl Fn(&[(String, bool)]) -> Result<(), String>,
) -> Result<Vec<(String, bool)>> {
    let parse = |pair: &str| {
        // As upstream: an API group alone is switched on, a feature gate is always given its value.
        let bare = (pair, if flag == "runtime-config" { "true" } else { "" });
        let (key, value) = pair.split_once('=').unwrap_or(bare);
        let Ok(value) = value.parse() else { bail!("--{flag}: {pair:?} must be NAME=true or NAME=false") };
        Ok((key.to_owned(), value))
    };
    let pairs = text.unwrap_or("").split(',').filter(|pair| !pair.is_empty());
    let set: Vec<(String, bool)> = pairs.map(parse).collect::<Result<_>>()?;
    check(&set).map_err(|why| anyhow::anyhow!("--{flag}: {why}"))?;
    Ok(set)
}

/// `memory.available<100Mi,nodefs.available<5%`.
fn thresholds(text: &str) -> Result<BTreeMap<String, String>> {
    let parse = |pair: &str| {
        let (signal, limit) = pair.split_once('<').with_context(|| {
            format!("--eviction-hard: {pair:?} must be SIGNAL<LIMIT, like memory.available<100Mi")
        })?;
        let (signal, limit) = (signal.trim(), limit.trim());
        if !SIGNALS.contains(&signal) {
            bail!("--eviction-hard: there is no signal {signal:?}; the signals are {}", SIGNALS.join(", "));
        }
        if !is_limit(limit) {
            bail!("--eviction-hard: {limit:?} is neither a quantity like 100Mi nor a percentage like 10%");
        }
        Ok((signal.to_owned(), limit.to_owned()))
    };
    text.split(',').filter(|pair| !pair.is_empty()).map(parse).collect()
}

/// Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals>
const SIGNALS: &[&str] = &[
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
];

fn is_limit(text: &str) -> bool {
    if let Some(percent) = text.strip_suffix('%') {
        return percent.parse::<f64>().is_ok_and(|percent| (0.0..=100.0).contains(&percent));
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffixes = ["", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    suffixes.contains(&&text[digits.len()..]) && digits.parse::<f64>().is_ok_and(|amount| amount >= 0.0)
}

fn socket(endpoint: &str) -> Result<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !path.starts_with('/') {
        bail!(
            "--container-runtime-endpoint: {endpoint:?} is not a unix socket like unix:///run/containerd/containerd.sock"
        );
    }
    Ok(PathBuf::from(path))
}

/// RFC 1123 subdomain, as Node names must be.
fn is_dns_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = label.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if alnum(*a) && alnum(*b))
            && bytes.iter().all(|c| alnum(*c) || *c == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = Cidr::parse("10.96.0.0/16").unwrap();
        assert_eq!(range.nth(10).to_string(), "10.96.0.10");
        assert_eq!(Cidr::parse("fd00::/108").unwrap().nth(1).to_string(), "fd00::1");
        for (bad, says) in [
            ("10.96.0.0", "not an address range"),
            ("10.96.0.1/16", "10.96.0.0/16"),
            ("1.2.3.4/33", "not an"),
        ] {
            let error = format!("{:#}", Cidr::parse(bad).unwrap_err());
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings { node_name: Some("a".into()), ..Settings::default() };
            change(&mut settings);
            Server::resolve(settings).map(drop).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(
            with(|s| s.eviction_hard = Some("memory.available<100Mi,nodefs.available<5%".into())),
            Ok(())
        );
        let table: &[(fn(&mut Settings), &str)] = &[
            (|s| s.service_cluster_ip_range = Some("10.96.0.0/30".into()), "too small"),
            (|s| s.cluster_cidr = Some("10.0.0.0/25".into()), "gets a /24"),
            (|s| s.cluster_cidr = Some("10.96.0.0/12".into()), "overlap"),
            (|s| s.cluster_cidr = Some("10.0.0.1/8".into()), "did you mean 10.0.0.0/8"),
            (|s| s.eviction_hard = Some("memory<1".into()), "the signals are"),
            (|s| s.eviction_hard = Some("memory.available<<1".into()), "neither a quantity"),
            (|s| s.eviction_hard = Some("memory.available<101%".into()), "neither a quantity"),
            (|s| s.eviction_hard = Some("memory.available".into()), "SIGNAL<LIMIT"),
            (|s| s.feature_gates = Some("Foo".into()), "NAME=true"),
            (|s| s.runtime_config = Some("api/all=maybe".into()), "NAME=true"),
            (|s| s.node_name = Some("A_b".into()), "not a DNS name"),
            (|s| s.container_runtime_endpoint = Some("http://x".into()), "not a unix socket"),
        ];
        for (change, says) in table {
            let error = with(*change).expect_err(says);
            assert!(error.contains(says), "{error}");
            assert!(!error.split("\nhint: ").next().unwrap().contains('\n'), "one line: {error}");
        }
    }

    #[test]
    fn unknown_settings_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "nodeName: a\nnodeIpp: 1.2.3.4\n").unwrap();
        let error = Settings::read(&file).unwrap_err().to_string();
        assert!(error.contains("nodeIpp") && error.contains("config.yaml:2:"), "{error}");
        assert!(!error.contains('\n'), "one line: {error}");
        std::fs::write(&file, "nodeName: a\nnodeIp: 1.2.3.4\n").unwrap();
        let flags = Settings { node_name: Some("b".into()), ..Settings::default() };
        let both = flags.or(Settings::read(&file).unwrap());
        assert_eq!((both.node_name.as_deref(), both.node_ip), (Some("b"), Some([1, 2, 3, 4].into())));
    }
}
