//! Policy rules and what they cover.

use machinery::{Get, Value};

use super::Attributes;

/// A rule of a Role or ClusterRole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub urls: Vec<String>,
}

/// Rules that somebody has, and where: in one namespace, or (None) everywhere.
#[derive(Clone, Debug)]
pub struct Grant {
    pub namespace: Option<Box<str>>,
    pub rules: std::sync::Arc<[Rule]>,
    /// How a review says why: `RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "y" to Group "z"`.
    pub reason: Box<str>,
}

fn has(list: &[String], want: &str) -> bool {
    list.iter().any(|item| item == "*" || item == want)
}

impl Rule {
    pub fn parse(rule: &Value) -> Self {
        let strings =
            |key: &str| rule.list(key).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Self {
            verbs: strings("verbs"),
            groups: strings("apiGroups"),
            resources: strings("resources"),
            names: strings("resourceNames"),
            urls: strings("nonResourceURLs"),
        }
    }

    pub fn parse_all(object: &Value) -> std::sync::Arc<[Rule]> {
        object.list("rules").iter().map(Rule::parse).collect()
    }

    /// As it stands in a role.
    pub fn to_value(&self) -> Value {
        let mut out = machinery::json!({"verbs": self.verbs});
        for (key, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !list.is_empty() {
                out[key] = machinery::json!(list);
            }
        }
        out
    }

    pub fn allows(&self, a: &Attributes) -> bool {
        if !has(&self.verbs, a.verb) {
            return false;
        }
        if !a.is_resource {
            return self.urls.iter().any(|url| {
                url == "*" || url == a.path || url.strip_suffix('*').is_some_and(|p| a.path.starts_with(p))
            });
        }
        has(&self.groups, a.group)
            && self.covers(a.resource, a.subresource)
            && (self.names.is_empty() || self.names.iter().any(|n| n == a.name))
    }

    fn covers(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|item| {
            if item == "*" {
                return true;
            }
            match (item.split_once('/'), subresource) {
                (None, "") => item == resource,
                (Some((r, s)), sub) if !sub.is_empty() => s == sub && (r == resource || r == "*"),
                _ => false,
            }
        })
    }

    /// Does this rule, with all its verbs, groups, resources and names, cover another rule that asks for one of each?
    pub fn covers_rule(&self, one: &Rule) -> bool {
        let all = |have: &[String], want: &[String]| {
            have.iter().any(|h| h == "*") || want.iter().all(|w| have.contains(w))
        };
        if !all(&self.verbs, &one.verbs) {
            return false;
        }
        if !one.urls.is_empty() {
            let covers = |have: &String, want: &String| {
                have == want
                    || have.strip_suffix('*').is_some_and(|_| want.starts_with(have.trim_end_matches('*')))
            };
            return one.urls.iter().all(|want| self.urls.iter().any(|have| covers(have, want)));
        }
        let resources = self.resources.iter().any(|r| r == "*")
            || one.resources.iter().all(|want| {
                self.resources.contains(want)
                    || want
                        .split_once('/')
                        .is_some_and(|(_, sub)| self.resources.contains(&format!("*/{sub}")))
            });
        let names = self.names.is_empty()
            || (!one.names.is_empty() && one.names.iter().all(|n| self.names.contains(n)));
        all(&self.groups, &one.groups) && resources && names
    }

    /// The rule as rules that ask for one verb, group, resource and name each.
    pub fn broken_down(&self) -> Vec<Rule> {
        let mut out = Vec::new();
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let base = Rule {
                        verbs: vec![verb.clone()],
                        groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Rule::default()
                    };
                    if self.names.is_empty() {
                        out.push(base);
                    } else {
                        out.extend(
                            self.names.iter().map(|n| Rule { names: vec![n.clone()], ..base.clone() }),
                        );
                    }
                }
            }
        }
        for url in &self.urls {
            for verb in &self.verbs {
                out.push(Rule { verbs: vec![verb.clone()], urls: vec![url.clone()], ..Rule::default() });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_cover_what_they_say() {
        let rule = Rule::parse(
            &machinery::json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/scale"]}),
        );
        let ask = |resource: &'static str, subresource: &'static str| Attributes {
            is_resource: true,
            verb: "get",
            resource,
            subresource,
            ..Attributes::default()
        };
        assert!(rule.allows(&ask("pods", "")) && rule.allows(&ask("x", "scale")));
        assert!(!rule.allows(&ask("pods", "log")) && !rule.allows(&ask("nodes", "")));
        let urls =
            Rule::parse(&machinery::json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}));
        let path = |path: &'static str| Attributes { verb: "get", path, ..Attributes::default() };
        assert!(urls.allows(&path("/healthz")) && urls.allows(&path("/api/v1")) && !urls.allows(&path("/x")));
    }
}
