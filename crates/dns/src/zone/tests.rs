use super::*;
use crate::wire::PTR;
use serde_json::json;

pub(crate) fn zone() -> Zone {
    let svc = |ns: &str, name: &str, spec: serde_json::Value| json!({"metadata": {"namespace": ns, "name": name}, "spec": spec});
    let port = json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let services = vec![
        svc(
            "default",
            "kubernetes",
            json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}),
        ),
        svc(
            "default",
            "web",
            json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:96::7"], "ports": port}),
        ),
        svc("default", "db", json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        svc("default", "idle", json!({"clusterIP": "None"})),
        svc("default", "out", json!({"type": "ExternalName", "externalName": "Example.org."})),
        svc(
            "default",
            "inner",
            json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
        ),
    ];
    let slice = |service: &str, family: &str, endpoints: serde_json::Value| {
        json!({"metadata": {"namespace": "default", "name": format!("{service}-{family}"),
            "labels": {"kubernetes.io/service-name": service}}, "addressType": family, "endpoints": endpoints,
            "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}]})
    };
    let slices = vec![
        slice(
            "db",
            "IPv4",
            json!([
            {"addresses": ["10.244.0.5"], "hostname": "db-0"},
            {"addresses": ["10.244.0.6"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.7"], "hostname": "db-2", "conditions": {"ready": false}}]),
        ),
        slice("db", "IPv6", json!([{"addresses": ["fd00:10::5"], "hostname": "db-0"}])),
        slice("web", "IPv4", json!([{"addresses": ["10.244.0.9"], "hostname": "w"}])),
    ];
    let namespaces = vec![json!({"metadata": {"name": "default"}})];
    Zone::new(
        "cluster.local",
        store(services),
        store(slices),
        store(namespaces),
        vec![[10, 96, 0, 10].into()],
    )
}

/// What a name has: records as text, or NXDOMAIN, NODATA, or where to ask on.
fn look(name: &str, kind: u16) -> String {
    let text = |r: &Record| match &r.data {
        Data::A(ip) => ip.to_string(),
        Data::Aaaa(ip) => ip.to_string(),
        Data::Cname(n) | Data::Ns(n) | Data::Ptr(n) => n.clone(),
        Data::Srv { weight, port, target, .. } => format!("{weight}/{port}/{target}"),
        Data::Txt(t) => format!("{t:?}"),
        Data::Soa { minimum, .. } => format!("soa {minimum}"),
    };
    let list = |records: &[Record]| records.iter().map(text).collect::<Vec<_>>().join(" ");
    match answer(name, kind, &zone()) {
        Answer::NotOurs => "not ours".into(),
        Answer::Alias(response, to) => format!("{} ask {to}", list(&response.answers)),
        Answer::Known(r) if r.answers.is_empty() => {
            assert!(name.ends_with("arpa") || list(&r.authority) == "soa 30", "{name}");
            if r.rcode == NXDOMAIN { "NXDOMAIN".into() } else { "NODATA".into() }
        }
        Answer::Known(r) => {
            assert!(r.authoritative && r.rcode == NOERROR && r.authority.is_empty());
            list(&r.answers)
        }
    }
}

#[test]
fn names() {
    for (name, kind, expected) in [
        ("kubernetes.default.svc.cluster.local", A, "10.96.0.1"),
        ("kubernetes.default.svc.cluster.local", AAAA, "NODATA"),
        ("web.default.svc.cluster.local", A, "10.96.0.7"),
        ("web.default.svc.cluster.local", AAAA, "fd00:96::7"),
        ("web.default.svc.cluster.local", TXT, "NODATA"),
        ("none.default.svc.cluster.local", A, "NXDOMAIN"),
        ("web.other.svc.cluster.local", A, "NXDOMAIN"),
        ("w.web.default.svc.cluster.local", A, "NXDOMAIN"),
        // Search domains make these of "kubernetes" and "example.org".
        ("kubernetes.svc.cluster.local", A, "NXDOMAIN"),
        ("kubernetes.cluster.local", A, "NXDOMAIN"),
        ("example.org.default.svc.cluster.local", A, "NXDOMAIN"),
        ("example.org", A, "not ours"),
        ("xcluster.local", A, "not ours"),
        ("default.svc.cluster.local", A, "NODATA"),
        ("other.svc.cluster.local", A, "NXDOMAIN"),
        ("svc.cluster.local", A, "NODATA"),
        // Headless.
        ("db.default.svc.cluster.local", A, "10.244.0.5 10.244.0.6"),
        ("db.default.svc.cluster.local", AAAA, "fd00:10::5"),
        ("idle.default.svc.cluster.local", A, "NXDOMAIN"),
        ("db-0.db.default.svc.cluster.local", A, "10.244.0.5"),
        ("db-0.db.default.svc.cluster.local", AAAA, "fd00:10::5"),
        ("db-2.db.default.svc.cluster.local", A, "NXDOMAIN"),
        ("10-244-0-6.db.default.svc.cluster.local", A, "10.244.0.6"),
        // Ports.
        ("_http._tcp.web.default.svc.cluster.local", SRV, "100/80/web.default.svc.cluster.local"),
        ("_http._udp.web.default.svc.cluster.local", SRV, "NXDOMAIN"),
        ("_http._tcp.web.default.svc.cluster.local", A, "NODATA"),
        ("_tcp.web.default.svc.cluster.local", SRV, "NODATA"),
        (
            "_pg._tcp.db.default.svc.cluster.local",
            SRV,
            "33/5432/db-0.db.default.svc.cluster.local 33/5432/10-244-0-6.db.default.svc.cluster.local",
        ),
        (
            "web.default.svc.cluster.local",
            SRV,
            "100/80/web.default.svc.cluster.local 100/53/web.default.svc.cluster.local",
        ),
        // Aliases.
        ("out.default.svc.cluster.local", A, "example.org ask example.org"),
        ("out.default.svc.cluster.local", CNAME, "example.org"),
        ("inner.default.svc.cluster.local", A, "web.default.svc.cluster.local 10.96.0.7"),
        // Pods.
        ("10-244-0-99.default.pod.cluster.local", A, "10.244.0.99"),
        ("fd00--9.default.pod.cluster.local", AAAA, "fd00::9"),
        ("10-244-0-99.other.pod.cluster.local", A, "NXDOMAIN"),
        ("web.default.pod.cluster.local", A, "NXDOMAIN"),
        // The zone itself.
        ("dns-version.cluster.local", TXT, "\"1.1.0\""),
        ("cluster.local", SOA, "soa 30"),
        ("cluster.local", NS, "ns.dns.cluster.local"),
        ("cluster.local", A, "NODATA"),
        ("ns.dns.cluster.local", A, "10.96.0.10"),
        // Addresses.
        ("7.0.96.10.in-addr.arpa", PTR, "web.default.svc.cluster.local"),
        ("5.0.244.10.in-addr.arpa", PTR, "db-0.db.default.svc.cluster.local"),
        ("6.0.244.10.in-addr.arpa", PTR, "10-244-0-6.db.default.svc.cluster.local"),
        ("9.0.244.10.in-addr.arpa", PTR, "not ours"),
        ("7.0.96.10.in-addr.arpa", A, "NODATA"),
        (
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa",
            PTR,
            "web.default.svc.cluster.local",
        ),
        ("x.in-addr.arpa", PTR, "not ours"),
    ] {
        assert_eq!(look(name, kind), expected, "{name} {kind}");
    }
}

use crate::wire::{A, AAAA};
