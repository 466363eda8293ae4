//! A pod's resolver settings and hosts file.
//!
//! Source: <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>.

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use crate::pod::{PodExt, SpecExt};

/// What stands in a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
const MAX_DOMAIN: usize = 253;
const HOSTNAME_MAX: usize = 63;

impl Resolver {
    /// Reads a resolv.conf; lines it does not understand count for nothing.
    pub fn parse(text: &str) -> Self {
        let mut out = Resolver::default();
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
                Some("search") => {
                    let domains = words.filter(|w| *w != ".");
                    out.searches = domains.map(|w| w.strip_suffix('.').unwrap_or(w).to_owned()).collect();
                }
                Some("options") => words.for_each(|w| set_option(&mut out.options, w.to_owned())),
                _ => {}
            }
        }
        out
    }
}

fn set_option(options: &mut Vec<String>, option: String) {
    let name = |o: &str| o.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|o| name(o) == name(&option)) {
        Some(slot) => *slot = option,
        None => options.push(option),
    }
}

/// The node's part in a pod's resolver.
#[derive(Clone, Debug, Default)]
pub struct NodeDns {
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub host: Resolver,
}

/// The pod's resolver settings, and messages for `DNSConfigForming` and `MissingClusterDNS` events.
pub fn resolver(pod: &Pod, node: &NodeDns) -> (Resolver, Vec<(&'static str, String)>) {
    let spec = pod.spec();
    let mut warnings = vec![];
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster =
        policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !spec.is_host_network());
    let mut out = match policy {
        "None" => Resolver::default(),
        _ if cluster && !node.cluster_dns.is_empty() => cluster_first(pod, node),
        _ => {
            if cluster {
                let text = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                    \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
                warnings.push(("MissingClusterDNS", format!("pod: {:?}. {text}", pod.describe())));
            }
            node.host.clone()
        }
    };
    if let Some(config) = &spec.dns_config {
        out.servers.extend(config.nameservers.iter().flatten().cloned());
        out.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let value = option.value.as_deref().filter(|v| !v.is_empty());
            set_option(&mut out.options, value.map_or(name.clone(), |v| format!("{name}:{v}")));
        }
        dedup(&mut out.servers);
        dedup(&mut out.searches);
    }
    limit(&mut out, &mut warnings);
    (out, warnings)
}

fn cluster_first(pod: &Pod, node: &NodeDns) -> Resolver {
    let domain = &node.cluster_domain;
    let mut searches = vec![];
    if !domain.is_empty() {
        searches.push(format!("{}.svc.{domain}", pod.namespace()));
        searches.push(format!("svc.{domain}"));
        searches.push(domain.clone());
    }
    searches.extend(node.host.searches.iter().cloned());
    dedup(&mut searches);
    Resolver { servers: node.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

fn limit(out: &mut Resolver, warnings: &mut Vec<(&'static str, String)>) {
    if out.servers.len() > MAX_SERVERS {
        out.servers.truncate(MAX_SERVERS);
        warnings.push((
            "DNSConfigForming",
            format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                out.servers.join(" ")
            ),
        ));
    }
    let before = out.searches.len();
    out.searches.truncate(MAX_SEARCHES);
    out.searches.retain(|s| s.len() <= MAX_DOMAIN);
    while out.searches.join(" ").len() > MAX_SEARCH_CHARS {
        out.searches.pop();
    }
    if out.searches.len() != before {
        warnings.push((
            "DNSConfigForming",
            format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                out.searches.join(" ")
            ),
        ));
    }
}

/// The pod's host name and domain (empty for none).
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec();
    let truncate = |name: &str| {
        if name.len() <= HOSTNAME_MAX {
            return name.to_owned();
        }
        let mut end = HOSTNAME_MAX;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name[..end].trim_end_matches(['-', '.']).to_owned()
    };
    if let Some(name) = spec.hostname_override.as_deref().filter(|n| !n.is_empty()) {
        return (truncate(name), String::new());
    }
    let name = spec.hostname.as_deref().filter(|n| !n.is_empty()).unwrap_or(pod.name());
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace()),
        None => String::new(),
    };
    (truncate(name), domain)
}

/// What the sandbox is to be called: the short name, or with `setHostnameAsFQDN` the full one.
pub fn sandbox_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (name, domain) = hostname(pod, cluster_domain);
    if pod.spec().set_hostname_as_fqdn != Some(true) || domain.is_empty() {
        return Ok(name);
    }
    let full = format!("{name}.{domain}");
    // The kernel's limit is 64 bytes.
    if full.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is \
             the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// The hosts file of a pod; `host` is the node's, for pods on the node's network.
pub fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str, host: Option<&str>) -> String {
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    let mut out = match host {
        Some(host) => format!("# Kubernetes-managed hosts file (host network).\n{host}"),
        None => {
            let mut out = String::from(
                "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
            );
            let (name, domain) = hostname(pod, cluster_domain);
            for ip in ips {
                if domain.is_empty() {
                    out.push_str(&format!("{ip}\t{name}\n"));
                } else {
                    out.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n"));
                }
            }
            out
        }
    };
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for HostAlias { ip, hostnames } in aliases {
            out.push_str(&format!("{ip}\t{}\n", hostnames.as_deref().unwrap_or_default().join("\t")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    fn with(extra: Value) -> Value {
        let mut spec = json!({"containers": []});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    }

    fn node() -> NodeDns {
        NodeDns {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            host: Resolver::parse(
                "# x\nnameserver 8.8.8.8\nsearch corp.example. lan\noptions timeout:1\noptions timeout:2 rotate\n",
            ),
        }
    }

    fn check(spec: Value, expected: &str) {
        let (r, _) = resolver(&pod(with(spec)), &node());
        assert_eq!(
            format!("{} | {} | {}", r.servers.join(" "), r.searches.join(" "), r.options.join(" ")),
            expected
        );
    }

    #[test]
    fn policies() {
        let cluster =
            "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp.example lan | ndots:5";
        let host = "8.8.8.8 | corp.example lan | timeout:2 rotate";
        check(json!({}), cluster);
        check(json!({"hostNetwork": true}), host);
        check(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster);
        check(json!({"dnsPolicy": "Default"}), host);
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            "1.1.1.1 | a | ndots:2 edns0",
        );
        check(
            json!({"dnsPolicy": "Default", "dnsConfig": {"nameservers": ["8.8.8.8", "9.9.9.9"], "options": [{"name": "timeout", "value": "9"}]}}),
            "8.8.8.8 9.9.9.9 | corp.example lan | timeout:9 rotate",
        );
        let many = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1", "2", "3", "4"]}});
        let (r, warnings) = resolver(&pod(with(many)), &node());
        assert_eq!((r.servers.len(), warnings.len()), (3, 1));
        let (_, warnings) = resolver(&pod(with(json!({}))), &NodeDns::default());
        assert_eq!(warnings[0].0, "MissingClusterDNS");
    }

    #[test]
    fn names() {
        let domain = "cluster.local";
        assert_eq!(hostname(&pod(with(json!({}))), domain), ("p".into(), String::new()));
        let both = pod(with(json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true})));
        assert_eq!(hostname(&both, domain), ("h".into(), "s.n.svc.cluster.local".into()));
        assert_eq!(sandbox_hostname(&both, domain).as_deref(), Ok("h.s.n.svc.cluster.local"));
        let long =
            pod(with(json!({"hostname": "h".repeat(50), "subdomain": "s", "setHostnameAsFQDN": true})));
        assert!(sandbox_hostname(&long, domain).is_err());
        let own = pod(with(json!({"hostnameOverride": "a.b"})));
        assert_eq!(hostname(&own, domain).0, "a.b");
    }

    #[test]
    fn hosts() {
        let pod =
            pod(with(json!({"subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]})));
        let text = hosts_file(&pod, &["10.0.0.5".into()], "cluster.local", None);
        assert!(text.contains("10.0.0.5\tp.s.n.svc.cluster.local\tp\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
        let text = hosts_file(&pod, &[], "cluster.local", Some("127.0.0.1 localhost\n"));
        assert!(
            text.starts_with("# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n\n#")
        );
    }
}
