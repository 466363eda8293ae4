//! What is written down of which requests: the first rule that fits decides.

use machinery::field::{Error, Path};
use machinery::names::dns1123_subdomain;
use machinery::{Get, Value, json};
use serde::Serialize;

use super::event::Stage;
use crate::authn::User;
use crate::authz::aggregate;
use crate::config::strict::{self, Shape};
use crate::front::RequestInfo;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// Whom and what a rule is held against.
pub struct Subject<'a> {
    pub user: Option<&'a User>,
    pub info: &'a RequestInfo,
}

/// What is wanted of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

pub struct Policy {
    rules: Vec<Rule>,
    omit_managed_fields: bool,
}

struct Rule {
    level: Level,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    namespaces: Vec<String>,
    resources: Vec<GroupResources>,
    urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

struct GroupResources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

const TEXTS: Shape = Shape::List(&Shape::Text);

const POLICY: Shape = Shape::Fields(&[
    ("metadata", Shape::Any),
    ("omitStages", TEXTS),
    ("omitManagedFields", Shape::Flag),
    (
        "rules",
        Shape::List(&Shape::Fields(&[
            ("level", Shape::Text),
            ("users", TEXTS),
            ("userGroups", TEXTS),
            ("verbs", TEXTS),
            (
                "resources",
                Shape::List(&Shape::Fields(&[
                    ("group", Shape::Text),
                    ("resources", TEXTS),
                    ("resourceNames", TEXTS),
                ])),
            ),
            ("namespaces", TEXTS),
            ("nonResourceURLs", TEXTS),
            ("omitStages", TEXTS),
            ("omitManagedFields", Shape::Flag),
        ])),
    ),
]);

impl Policy {
    /// Reads a `Policy` of `audit.k8s.io/v1`. What is not known in it is passed over, and said in the log.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (document, unknown) = strict::lenient(text, "Policy", &["audit.k8s.io/v1"], &POLICY)
            .map_err(|e| format!("failed decoding: {e}"))?;
        if let Some(error) = unknown {
            tracing::warn!(%error, "the audit policy contains errors, which are passed over");
        }
        let mut errors = Vec::new();
        let everywhere = stages(document.list("omitStages"), &Path::new("omitStages"), &mut errors);
        let at = Path::new("rules");
        let mut rules = Vec::new();
        for (n, rule) in document.list("rules").iter().enumerate() {
            rules.push(parse_rule(rule, &everywhere, &at.index(n), &mut errors));
        }
        if !errors.is_empty() {
            return Err(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>()));
        }
        if rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        Ok(Self { rules, omit_managed_fields: document.flag("omitManagedFields") == Some(true) })
    }

    pub fn judge(&self, subject: &Subject) -> Wanted {
        let Some(rule) = self.rules.iter().find(|r| r.fits(subject)) else { return Wanted::default() };
        Wanted {
            level: rule.level,
            omit_stages: rule.omit_stages.clone(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn strings(value: &Value, key: &str) -> Vec<String> {
    value.list(key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn stages(list: &[Value], at: &Path, errors: &mut Vec<Error>) -> Vec<Stage> {
    let mut out = Vec::new();
    for (n, value) in list.iter().enumerate() {
        let text = value.as_str().unwrap_or_default();
        match Stage::parse(text) {
            Some(stage) => out.push(stage),
            None => errors.push(Error::invalid(
                &at.index(n),
                text,
                "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
            )),
        }
    }
    out
}

fn parse_rule(rule: &Value, everywhere: &[Stage], at: &Path, errors: &mut Vec<Error>) -> Rule {
    let level = match rule.text("level") {
        "None" => Level::None,
        "Metadata" => Level::Metadata,
        "Request" => Level::Request,
        "RequestResponse" => Level::RequestResponse,
        other => {
            let at = at.child("level");
            errors.push(match other {
                "" => Error::required(&at, ""),
                _ => Error::not_supported(&at, other, &["None", "Metadata", "Request", "RequestResponse"]),
            });
            Level::None
        }
    };
    let urls = strings(rule, "nonResourceURLs");
    let urls_at = at.child("nonResourceURLs");
    for (n, url) in urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        if !url.starts_with('/') {
            let detail = "non-resource URL rules must begin with a '/' character";
            errors.push(Error::invalid(&urls_at.index(n), url.as_str(), detail));
        }
        if url.strip_suffix('*').unwrap_or(url).contains('*') {
            let detail = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.push(Error::invalid(&urls_at.index(n), url.as_str(), detail));
        }
    }
    let mut resources = Vec::new();
    // upstream's paths do not say which one
    let resources_at = at.child("resources");
    for item in rule.list("resources") {
        let (group, names, list) =
            (item.text("group"), strings(item, "resourceNames"), strings(item, "resources"));
        let bad = if matches!(group, "" | "*") { Vec::new() } else { dns1123_subdomain(group) };
        if !bad.is_empty() {
            errors.push(Error::invalid(&resources_at.child("group"), group, bad.join(",")));
        }
        if !names.is_empty() && list.is_empty() {
            let detail = "using resourceNames requires at least one resource";
            errors.push(Error::invalid(&resources_at.child("resourceNames"), json!(names), detail));
        }
        resources.push(GroupResources { group: group.to_owned(), resources: list, names });
    }
    let mut omit_stages = stages(rule.list("omitStages"), &at.child("omitStages"), errors);
    omit_stages.extend(everywhere);
    let namespaces = strings(rule, "namespaces");
    if !urls.is_empty() && (!resources.is_empty() || !namespaces.is_empty()) {
        let detail = "rules cannot apply to both regular resources and non-resource URLs";
        errors.push(Error::invalid(&urls_at, json!(urls), detail));
    }
    Rule {
        level,
        users: strings(rule, "users"),
        groups: strings(rule, "userGroups"),
        verbs: strings(rule, "verbs"),
        namespaces,
        resources,
        urls,
        omit_stages,
        omit_managed_fields: rule.flag("omitManagedFields"),
    }
}

impl Rule {
    fn fits(&self, subject: &Subject) -> bool {
        let has = |list: &[String], want: &str| list.is_empty() || list.iter().any(|item| item == want);
        if !self.users.is_empty() && !subject.user.is_some_and(|u| has(&self.users, &u.name)) {
            return false;
        }
        let member = |u: &User| self.groups.iter().any(|g| u.is_in(g));
        if !self.groups.is_empty() && !subject.user.is_some_and(member) {
            return false;
        }
        let info = subject.info;
        if !has(&self.verbs, &info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && has(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.fits(info)));
        }
        if !self.urls.is_empty() {
            let fits = |url: &String| {
                url == "*"
                    || *url == info.path
                    || url.ends_with('*') && info.path.starts_with(url.trim_end_matches('*'))
            };
            return !info.is_resource && self.urls.iter().any(fits);
        }
        true
    }
}

impl GroupResources {
    fn fits(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        let combined = match info.subresource.as_str() {
            "" => info.resource.clone(),
            sub => format!("{}/{sub}", info.resource),
        };
        let resource = |pattern: &String| {
            pattern == "*"
                || *pattern == combined
                || pattern.strip_prefix("*/").is_some_and(|sub| !sub.is_empty() && sub == info.subresource)
                || pattern.strip_suffix("/*").is_some_and(|r| r == info.resource)
        };
        self.resources.is_empty()
            || (self.names.is_empty() || self.names.contains(&info.name))
                && self.resources.iter().any(resource)
    }
}
