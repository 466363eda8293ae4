//! Questions of the DNS specification, by table.

use client::Key;
use hickory_proto::rr::Name;

use super::*;
use crate::objects::{Conditions, Endpoint, EndpointSlice, Metadata, Service, ServiceSpec};

fn metadata(name: &str) -> Metadata {
    Metadata { name: name.into(), namespace: "prod".into(), ..Metadata::default() }
}

fn port(name: &str, port: u16) -> Port {
    Port { name: Some(name.into()), protocol: Some("TCP".into()), port: Some(port) }
}

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local", "10.96.0.10".parse().unwrap()).unwrap();
    let mut service = |name: &str, spec: ServiceSpec| {
        let service = Service { metadata: metadata(name), spec };
        zone.set_service(&Key::new("prod", name), Some(&service));
    };
    let ips = |ips: &[&str]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
    service(
        "web",
        ServiceSpec {
            cluster_ips: ips(&["10.96.1.1", "fd00::1"]),
            ports: vec![port("http", 80)],
            ..ServiceSpec::default()
        },
    );
    service(
        "db",
        ServiceSpec { cluster_ip: "None".into(), ports: vec![port("sql", 5432)], ..ServiceSpec::default() },
    );
    service("empty", ServiceSpec { cluster_ip: "None".into(), ..ServiceSpec::default() });
    service(
        "out",
        ServiceSpec {
            type_: "ExternalName".into(),
            external_name: "Example.org".into(),
            ..ServiceSpec::default()
        },
    );
    service(
        "inner",
        ServiceSpec {
            type_: "ExternalName".into(),
            external_name: "web.prod.svc.cluster.local".into(),
            ..ServiceSpec::default()
        },
    );
    let endpoint = |address: &str, hostname: Option<&str>, ready| Endpoint {
        addresses: vec![address.into()],
        hostname: hostname.map(Into::into),
        conditions: Conditions { ready: Some(ready) },
    };
    let mut slice = EndpointSlice {
        metadata: metadata("db-abc"),
        ports: vec![port("sql", 5432)],
        ..EndpointSlice::default()
    };
    slice.metadata.labels.insert("kubernetes.io/service-name".into(), "db".into());
    slice.endpoints = vec![
        endpoint("10.244.0.7", Some("db-0"), true),
        endpoint("10.244.0.8", None, true),
        endpoint("10.244.0.9", Some("db-2"), false),
    ];
    zone.set_slice(&Key::new("prod", "db-abc"), Some(&slice));
    zone
}

/// Answers as `TYPE DATA` lines, then `+ …` additionals, or the response code.
fn ask(name: &str, kind: RecordType) -> String {
    let query = Query::query(Name::from_str(name).unwrap(), kind);
    let Some(found) = answer(&query, &zone()) else { return "upstream".into() };
    if found.answers.is_empty() {
        assert_eq!(found.authorities.len(), 1, "{name}: negative answers carry the SOA");
        return match found.code {
            Some(ResponseCode::NoError) => "nodata".into(),
            _ => "nxdomain".into(),
        };
    }
    assert!(found.answers.iter().all(|r| r.ttl == TTL));
    let line = |record: &Record| format!("{} {}", record.record_type(), record.data);
    let mut lines: Vec<String> = found.answers.iter().map(line).collect();
    lines.extend(found.additionals.iter().map(|r| format!("+ {} {}", r.name, r.data)));
    lines.extend(found.continue_at.map(|name| format!("continue at {name}")));
    lines.join("; ")
}

#[test]
fn the_specification_by_table() {
    use RecordType::{A, AAAA, CNAME, PTR, SRV, TXT};
    for (name, kind, want) in [
        ("web.prod.svc.cluster.local.", A, "A 10.96.1.1"),
        ("WEB.Prod.svc.CLUSTER.local.", A, "A 10.96.1.1"),
        ("web.prod.svc.cluster.local.", AAAA, "AAAA fd00::1"),
        ("web.prod.svc.cluster.local.", TXT, "nodata"),
        ("none.prod.svc.cluster.local.", A, "nxdomain"),
        ("web.none.svc.cluster.local.", A, "nxdomain"),
        ("prod.svc.cluster.local.", A, "nodata"),
        ("none.svc.cluster.local.", A, "nxdomain"),
        ("svc.cluster.local.", A, "nodata"),
        ("cluster.local.", A, "nodata"),
        ("db.prod.svc.cluster.local.", A, "A 10.244.0.7; A 10.244.0.8"),
        ("db.prod.svc.cluster.local.", AAAA, "nodata"),
        ("empty.prod.svc.cluster.local.", A, "nxdomain"),
        ("db-0.db.prod.svc.cluster.local.", A, "A 10.244.0.7"),
        ("10-244-0-8.db.prod.svc.cluster.local.", A, "A 10.244.0.8"),
        ("db-2.db.prod.svc.cluster.local.", A, "nxdomain"),
        ("db-0.web.prod.svc.cluster.local.", A, "nxdomain"),
        (
            "_http._tcp.web.prod.svc.cluster.local.",
            SRV,
            "SRV 0 100 80 web.prod.svc.cluster.local.; + web.prod.svc.cluster.local. 10.96.1.1; + web.prod.svc.cluster.local. fd00::1",
        ),
        (
            "_sql._tcp.db.prod.svc.cluster.local.",
            SRV,
            "SRV 0 50 5432 db-0.db.prod.svc.cluster.local.; SRV 0 50 5432 10-244-0-8.db.prod.svc.cluster.local.; + db-0.db.prod.svc.cluster.local. 10.244.0.7; + 10-244-0-8.db.prod.svc.cluster.local. 10.244.0.8",
        ),
        ("_http._udp.web.prod.svc.cluster.local.", SRV, "nxdomain"),
        ("_http._tcp.web.prod.svc.cluster.local.", A, "nodata"),
        ("_tcp.web.prod.svc.cluster.local.", A, "nodata"),
        ("out.prod.svc.cluster.local.", A, "CNAME example.org.; continue at example.org."),
        ("out.prod.svc.cluster.local.", CNAME, "CNAME example.org."),
        ("inner.prod.svc.cluster.local.", A, "CNAME web.prod.svc.cluster.local.; A 10.96.1.1"),
        ("10-244-0-8.prod.pod.cluster.local.", A, "A 10.244.0.8"),
        ("x.prod.pod.cluster.local.", A, "nxdomain"),
        ("dns-version.cluster.local.", TXT, "TXT 1.1.0"),
        ("ns.dns.cluster.local.", A, "A 10.96.0.10"),
        ("1.1.96.10.in-addr.arpa.", PTR, "PTR web.prod.svc.cluster.local."),
        ("7.0.244.10.in-addr.arpa.", PTR, "PTR db-0.db.prod.svc.cluster.local."),
        ("9.0.244.10.in-addr.arpa.", PTR, "upstream"),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
            PTR,
            "PTR web.prod.svc.cluster.local.",
        ),
        ("8.8.8.8.in-addr.arpa.", PTR, "upstream"),
        ("example.org.", A, "upstream"),
        ("notcluster.local.", A, "upstream"),
    ] {
        assert_eq!(ask(name, kind), want, "{name} {kind}");
    }
}

#[test]
fn what_is_taken_out_is_gone() {
    let mut zone = zone();
    zone.set_service(&Key::new("prod", "web"), None);
    zone.set_slice(&Key::new("prod", "db-abc"), None);
    assert!(zone.service("prod", "web").is_none() && zone.service_of("10.96.1.1".parse().unwrap()).is_none());
    assert!(
        zone.endpoints("prod", "db").is_empty()
            && zone.endpoints_of("10.244.0.7".parse().unwrap()).is_empty()
    );
    for name in ["db", "empty", "out", "inner"] {
        assert!(zone.has_namespace("prod"));
        zone.set_service(&Key::new("prod", name), None);
    }
    assert!(!zone.has_namespace("prod"));
}
