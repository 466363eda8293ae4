//! FlowSchemas: which requests they match, and which of those belong to one flow.

use std::hash::{DefaultHasher, Hash, Hasher};

use machinery::{Get, Value, meta};

use crate::authn::User;
use crate::front::RequestInfo;

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub name: String,
    pub uid: String,
    pub precedence: i64,
    /// The priority level's name.
    pub level: String,
    by: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    /// (verbs, paths)
    others: Vec<(Vec<String>, Vec<String>)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Subject {
    User(String),
    Group(String),
    /// `system:serviceaccount:NAMESPACE:NAME`.
    Account(String),
    /// `system:serviceaccount:NAMESPACE:`.
    AccountsOf(String),
}

#[derive(Clone, Debug, PartialEq)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster: bool,
    namespaces: Vec<String>,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    value.list(field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Schema {
    pub fn new(object: &Value) -> Self {
        let spec = object.at("spec");
        Self {
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
            precedence: spec.int("matchingPrecedence").unwrap_or(0),
            level: spec.at("priorityLevelConfiguration").text("name").to_owned(),
            by: match spec.at("distinguisherMethod").text("type") {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::Nothing,
            },
            rules: spec.list("rules").iter().map(Rule::new).collect(),
        }
    }

    pub fn matches(&self, info: &RequestInfo, user: &User) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|s| s.is(user))
                && if info.is_resource {
                    rule.resources.iter().any(|r| r.matches(info))
                } else {
                    rule.others.iter().any(|(verbs, paths)| {
                        has(verbs, &info.verb) && paths.iter().any(|path| is_path(path, &info.path))
                    })
                }
        })
    }

    pub fn distinguisher<'a>(&self, info: &'a RequestInfo, user: &'a User) -> &'a str {
        match self.by {
            Distinguisher::Nothing => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => &info.namespace,
        }
    }

    pub fn hash_of_flow(&self, distinguisher: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.name, distinguisher).hash(&mut hasher);
        hasher.finish()
    }
}

impl Rule {
    fn new(rule: &Value) -> Self {
        Self {
            subjects: rule.list("subjects").iter().filter_map(Subject::new).collect(),
            resources: rule
                .list("resourceRules")
                .iter()
                .map(|r| ResourceRule {
                    verbs: texts(r, "verbs"),
                    groups: texts(r, "apiGroups"),
                    resources: texts(r, "resources"),
                    cluster: r.flag("clusterScope") == Some(true),
                    namespaces: texts(r, "namespaces"),
                })
                .collect(),
            others: rule
                .list("nonResourceRules")
                .iter()
                .map(|r| (texts(r, "verbs"), texts(r, "nonResourceURLs")))
                .collect(),
        }
    }
}

impl Subject {
    fn new(subject: &Value) -> Option<Self> {
        let name = |key: &str| subject.get(key).map(|s| s.text("name").to_owned());
        Some(match subject.text("kind") {
            "User" => Subject::User(name("user")?),
            "Group" => Subject::Group(name("group")?),
            "ServiceAccount" => {
                let account = subject.get("serviceAccount")?;
                let (namespace, name) = (account.text("namespace"), account.text("name"));
                match name {
                    "*" => Subject::AccountsOf(format!("system:serviceaccount:{namespace}:")),
                    _ => Subject::Account(format!("system:serviceaccount:{namespace}:{name}")),
                }
            }
            _ => return None,
        })
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => name == "*" || *name == user.name,
            Subject::Group(name) => name == "*" || user.groups.iter().any(|g| g == name),
            Subject::Account(name) => *name == user.name,
            Subject::AccountsOf(prefix) => user.name.starts_with(prefix.as_str()),
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        has(&self.verbs, &info.verb)
            && has_resource(&self.resources, info)
            && has(&self.groups, &info.group)
            && if info.namespace.is_empty() { self.cluster } else { has(&self.namespaces, &info.namespace) }
    }
}

/// Is it in the list, or is the list nothing but a star?
fn has(list: &[String], value: &str) -> bool {
    matches!(list, [one] if one == "*") || list.iter().any(|x| x == value)
}

fn has_resource(list: &[String], info: &RequestInfo) -> bool {
    if info.subresource.is_empty() {
        return has(list, &info.resource);
    }
    let is = |x: &String| {
        x.strip_prefix(info.resource.as_str()).and_then(|rest| rest.strip_prefix('/'))
            == Some(info.subresource.as_str())
    };
    matches!(list, [one] if one == "*") || list.iter().any(is)
}

/// `/healthz` stands for itself and all below it, `/openapi/*` for all below.
fn is_path(rule: &str, path: &str) -> bool {
    if rule == "*" || rule == path {
        return true;
    }
    let prefix = rule.strip_suffix('*').unwrap_or(rule);
    let below = path.strip_prefix(prefix.strip_suffix('/').unwrap_or(prefix));
    below.is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use machinery::json;

    use super::*;
    use crate::front::Query;

    fn schema(rule: Value) -> Schema {
        Schema::new(&json!({"metadata": {"name": "x"}, "spec": {"rules": [rule]}}))
    }

    fn info(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::new(&method, path, &Query::parse(query))
    }

    #[test]
    fn matches_as_the_documentation_says() {
        let node = User::new("system:node:a", &["system:nodes"]);
        let account = User::new("system:serviceaccount:kube-system:x", &["system:serviceaccounts"]);
        let nodes = schema(json!({"subjects": [{"kind": "Group", "group": {"name": "system:nodes"}}],
            "resourceRules": [{"verbs": ["update", "get"], "apiGroups": [""], "resources": ["nodes/status"],
                "clusterScope": true}, {"verbs": ["*"], "apiGroups": ["*"], "resources": ["pods"],
                "namespaces": ["a", "b"]}]}));
        let yes = [(Method::PUT, "/api/v1/nodes/n/status"), (Method::GET, "/api/v1/namespaces/a/pods")];
        for (method, uri) in yes {
            assert!(nodes.matches(&info(method.clone(), uri), &node), "{uri}");
            assert!(!nodes.matches(&info(method, uri), &account), "{uri}");
        }
        for (method, uri) in [
            (Method::PUT, "/api/v1/nodes/n"),
            (Method::DELETE, "/api/v1/nodes/n/status"),
            (Method::GET, "/api/v1/namespaces/c/pods"),
            (Method::GET, "/api/v1/pods"),
            (Method::GET, "/healthz"),
        ] {
            assert!(!nodes.matches(&info(method, uri), &node), "{uri}");
        }
        let all =
            json!([{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}]);
        let paths = schema(json!({"subjects": all,
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/openapi/*"]}]}));
        for (uri, want) in [
            ("/healthz", true),
            ("/healthz/etcd", true),
            ("/healthzz", false),
            ("/openapi/v2", true),
            ("/openapi", false),
        ] {
            assert_eq!(paths.matches(&info(Method::GET, uri), &account), want, "{uri}");
            assert!(!paths.matches(&info(Method::GET, uri), &node), "{uri}");
        }
    }
}
