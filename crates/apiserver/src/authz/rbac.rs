//! Role based access: bindings compiled by subject.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

use std::collections::HashMap;
use std::sync::Arc;

use machinery::field::go_quote;
use machinery::{Get, Value};

use super::{Attributes, Decision, Grant, Rule};
use crate::authn::User;
use crate::cache::Snapshot;
use crate::server::Core;

const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(Box<str>),
    Group(Box<str>),
}

/// Roles by key with the revision they were parsed at, so that a rebuild parses only what changed.
type Roles = HashMap<Box<str>, (i64, Arc<[Rule]>)>;

pub struct Index {
    pub version: [i64; 4],
    cluster_roles: Roles,
    roles: Roles,
    cluster: HashMap<Subject, Vec<Grant>>,
    namespaced: HashMap<Subject, Vec<Grant>>,
    /// Bindings to roles that are not there: (subject, namespace, message).
    missing: HashMap<Subject, Vec<(Option<Box<str>>, Box<str>)>>,
}

/// The revisions of the last changes of the four kinds.
pub fn version(core: &Core) -> [i64; 4] {
    let map = core.kinds.now();
    RESOURCES.map(|name| {
        map.find(GROUP, "v1", name).and_then(|r| r.home.clone()).map_or(0, |home| home.cache.revision())
    })
}

impl Index {
    pub fn build(core: &Core, version: [i64; 4], before: Option<&Index>) -> Self {
        let map = core.kinds.now();
        let snapshot = |name: &str| -> Snapshot {
            let home = map.find(GROUP, "v1", name).and_then(|r| r.home.clone());
            home.map(|h| h.cache.snapshot().0).unwrap_or_default()
        };
        let mut index = Index {
            version,
            cluster_roles: parse_roles(&snapshot("clusterroles"), before.map(|b| &b.cluster_roles)),
            roles: parse_roles(&snapshot("roles"), before.map(|b| &b.roles)),
            cluster: HashMap::new(),
            namespaced: HashMap::new(),
            missing: HashMap::new(),
        };
        for (kind, name) in [("ClusterRoleBinding", "clusterrolebindings"), ("RoleBinding", "rolebindings")] {
            for (_, entry) in &snapshot(name) {
                index.bind(kind, entry.namespace(), entry.name(), &entry.parse());
            }
        }
        index
    }

    fn bind(&mut self, kind: &str, namespace: &str, name: &str, binding: &Value) {
        let reference = binding.at("roleRef");
        let (role_kind, role) = (reference.text("kind"), reference.text("name"));
        let rules = self.role(role_kind, namespace, role);
        let place: Option<Box<str>> = (kind == "RoleBinding").then(|| namespace.into());
        for subject in binding.list("subjects") {
            let name_of = subject.text("name");
            let (key, words) = match subject.text("kind") {
                "User" => (Subject::User(name_of.into()), format!("User {}", go_quote(name_of))),
                "Group" => (Subject::Group(name_of.into()), format!("Group {}", go_quote(name_of))),
                "ServiceAccount" => {
                    let ns = match subject.text("namespace") {
                        "" => namespace,
                        ns => ns,
                    };
                    let user = format!("system:serviceaccount:{ns}:{name_of}");
                    (
                        Subject::User(user.into()),
                        format!("ServiceAccount {}", go_quote(&format!("{name_of}/{ns}"))),
                    )
                }
                _ => continue,
            };
            let Some(rules) = rules.clone() else {
                let lower = role_kind.to_ascii_lowercase();
                let message = format!("{lower}.{GROUP} {} not found", go_quote(role));
                self.missing.entry(key).or_default().push((place.clone(), message.into()));
                continue;
            };
            let shown = if namespace.is_empty() { name.to_owned() } else { format!("{name}/{namespace}") };
            let reason = format!(
                "RBAC: allowed by {kind} {} of {role_kind} {} to {words}",
                go_quote(&shown),
                go_quote(role)
            );
            let grant = Grant { namespace: place.clone(), rules, reason: reason.into() };
            let into = if place.is_none() { &mut self.cluster } else { &mut self.namespaced };
            into.entry(key).or_default().push(grant);
        }
    }

    /// The rules of a role; `namespace` is that of the binding.
    pub fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        let found = match kind {
            "ClusterRole" => self.cluster_roles.get(name),
            _ => self.roles.get(format!("{namespace}/{name}").as_str()),
        };
        found.map(|(_, rules)| rules.clone())
    }

    fn subjects(user: &User) -> impl Iterator<Item = Subject> + '_ {
        let groups = user.groups.iter().map(|g| Subject::Group(g.as_str().into()));
        std::iter::once(Subject::User(user.name.as_str().into())).chain(groups)
    }

    /// Everything granted to a user that counts in a namespace ("" for cluster-wide requests).
    pub fn grants<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = &'a Grant> + 'a {
        let cluster = Self::subjects(user).filter_map(|s| self.cluster.get(&s)).flatten();
        let local = Self::subjects(user)
            .filter_map(|s| self.namespaced.get(&s))
            .flatten()
            .filter(move |g| !namespace.is_empty() && g.namespace.as_deref() == Some(namespace));
        cluster.chain(local)
    }

    pub fn decide(&self, user: &User, a: &Attributes) -> Decision {
        let hit = self.grants(user, a.namespace).find(|g| g.rules.iter().any(|r| r.allows(a)));
        if let Some(grant) = hit {
            return Decision::allow(&*grant.reason);
        }
        let unresolved = self.unresolved(user, a.namespace);
        if unresolved.is_empty() {
            Decision::default()
        } else {
            Decision::no_opinion(format!("RBAC: {unresolved}"))
        }
    }

    /// What bindings of the user lead to roles that are not there, in words.
    pub fn unresolved(&self, user: &User, namespace: &str) -> String {
        let mut words: Vec<String> = Vec::new();
        for subject in Self::subjects(user) {
            for (place, message) in self.missing.get(&subject).into_iter().flatten() {
                if place.as_deref().is_none_or(|ns| ns == namespace) {
                    words.push(message.to_string());
                }
            }
        }
        super::aggregate(&words)
    }
}

fn parse_roles(snapshot: &Snapshot, before: Option<&Roles>) -> Roles {
    snapshot
        .iter()
        .map(|(key, entry)| {
            let known =
                before.and_then(|b| b.get(&**key)).filter(|(revision, _)| *revision == entry.revision);
            let rules = match known {
                Some((_, rules)) => rules.clone(),
                None => Rule::parse_all(&entry.parse()),
            };
            (Box::from(&**key), (entry.revision, rules))
        })
        .collect()
}
