//! Policies, and one request's events as lines.

use http::Method;
use machinery::json;

use super::*;
use crate::front::Query;

fn info(method: &str, path: &str) -> RequestInfo {
    RequestInfo::new(&method.parse::<Method>().unwrap(), path, &Query::parse(""))
}

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: RequestResponse
  resources: [{group: "", resources: [configmaps], resourceNames: [c]}]
- level: Request
  resources: [{group: "", resources: ["pods/*", "*/status"]}]
  omitManagedFields: false
- level: Metadata
  namespaces: [kube-system]
  userGroups: [g]
"#;

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = Policy::parse(POLICY).unwrap();
    let check = |user: &str, groups: &[&str], method: &str, path: &str, want: Level| {
        let user = User::new(user, groups);
        let subject = Subject { user: Some(&user), info: &info(method, path) };
        assert_eq!(policy.judge(&subject).level, want, "{user:?} {method} {path}");
    };
    check("system:kube-proxy", &[], "GET", "/api/v1/watch/services", Level::None);
    check("a", &[], "GET", "/healthz/etcd", Level::None);
    check("a", &[], "GET", "/api/v1/namespaces/d/configmaps/c", Level::RequestResponse);
    check("a", &[], "GET", "/api/v1/namespaces/d/configmaps/d", Level::None);
    check("a", &[], "POST", "/api/v1/namespaces/d/pods/p/exec", Level::Request);
    check("a", &[], "PUT", "/api/v1/nodes/n/status", Level::Request);
    check("a", &["g"], "GET", "/api/v1/namespaces/kube-system/secrets", Level::Metadata);
    check("a", &[], "GET", "/api/v1/namespaces/kube-system/secrets", Level::None);
    let wanted = policy.judge(&Subject { user: None, info: &info("PUT", "/api/v1/nodes/n/status") });
    assert!(!wanted.omit_managed_fields && wanted.omit_stages == [Stage::RequestReceived]);
}

#[test]
fn bad_policies_are_refused() {
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    for (body, says) in [
        ("", "loaded illegal policy with 0 rules"),
        (
            "rules: [{level: All}]",
            "rules[0].level: Unsupported value: \"All\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"",
        ),
        ("rules: [{}]", "rules[0].level: Required value"),
        (
            "omitStages: [X]\nrules: [{level: None, nonResourceURLs: [x, '/a*b'], omitStages: [Panic]}]",
            "[omitStages[0]: Invalid value: \"X\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic, rules[0].nonResourceURLs[0]: Invalid value: \"x\": non-resource URL rules must begin with a '/' character, rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final character of the rule]",
        ),
        (
            "rules: [{level: None, nonResourceURLs: ['/a'], namespaces: [ns], resources: [{resourceNames: [r]}]}]",
            "[rules[0].resources.resourceNames: Invalid value: [\"r\"]: using resourceNames requires at least one resource, rules[0].nonResourceURLs: Invalid value: [\"/a\"]: rules cannot apply to both regular resources and non-resource URLs]",
        ),
        (
            "rules: [{level: None, omitManagedFields: 1}]",
            "failed decoding: json: cannot unmarshal number into Go struct field Policy.rules[0].omitManagedFields of type bool",
        ),
    ] {
        assert_eq!(Policy::parse(&format!("{head}{body}")).err().as_deref(), Some(says), "{body}");
    }
    let group = Policy::parse(&format!("{head}rules: [{{level: None, resources: [{{group: apps/v1}}]}}]"));
    let error = group.err().unwrap_or_default();
    assert!(
        error.starts_with("rules[0].resources.group: Invalid value: \"apps/v1\": a lowercase"),
        "{error}"
    );
    // upstream reads those once more, leniently
    let text = "metadata: {name: x}\nrules: [{level: None, verbz: [get]}]\nrules: [{level: Metadata}]";
    let policy = Policy::parse(&format!("{head}{text}")).unwrap();
    let subject = Subject { user: None, info: &info("GET", "/api/v1/nodes") };
    assert_eq!(policy.judge(&subject).level, Level::Metadata);
    assert!(Policy::parse("apiVersion: v1\nkind: Policy\nrules: [{level: None}]").is_err());
}

#[tokio::test]
async fn events_have_upstreams_shape() {
    let dir = std::env::temp_dir().join(format!("r8s-audit-event-{}", std::process::id()));
    let path = dir.join("audit.log");
    let auditor = Arc::new(Auditor {
        policy: Policy::parse(&POLICY.replace("omitStages: [RequestReceived]", "")).unwrap(),
        sinks: vec![Sink::start(
            Backend::Log { log: log::Log::open(&path, log::Limits::default()).unwrap(), legacy: false },
            &AuditSettings::default().log_delivery,
        )],
    });
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", "kubectl/v1".parse().unwrap());
    headers.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
    let info = info("PUT", "/api/v1/namespaces/d/configmaps/c");
    let uri = "/api/v1/namespaces/d/configmaps/c?dryRun=All".parse().unwrap();
    let head = Head {
        id: "id",
        info: &info,
        uri: &uri,
        headers: &headers,
        address: [127, 0, 0, 1].into(),
        received: Timestamp::from_second(0).unwrap(),
    };
    let audit = Audit::begin(&auditor, &head, &User::new("jane", &["dev"])).await.unwrap();
    audit.decision(true, "RBAC: allowed", "");
    let object = json!({"kind": "ConfigMap", "metadata": {"uid": "u", "managedFields": []}});
    audit.request_object(&object, &GroupVersionKind::new("", "v1", "ConfigMap"), "configmaps", None);
    let answer = crate::front::respond::bytes(200, "application/json", object.to_string());
    audit.respond(answer, false).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"id","stage":"RequestReceived","requestURI":"/api/v1/namespaces/d/configmaps/c?dryRun=All","verb":"update","user":{"#), "{}", lines[0]);
    let last: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(last["sourceIPs"], json!(["192.0.2.7", "127.0.0.1"]));
    assert_eq!(last["responseStatus"], json!({"metadata": {}, "code": 200}));
    assert_eq!(last["objectRef"]["uid"], "u");
    assert_eq!(last["responseObject"], json!({"kind": "ConfigMap", "metadata": {"uid": "u"}}));
    assert_eq!(last["requestReceivedTimestamp"], "1970-01-01T00:00:00.000000Z");
    assert_eq!(last["annotations"]["authorization.k8s.io/decision"], "allow");
    std::fs::remove_dir_all(dir).unwrap();
}
