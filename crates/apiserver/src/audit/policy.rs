//! What is written down of which requests: the first rule that fits decides.

use machinery::{Get, Value};
use serde::Serialize;

use super::event::Stage;
use crate::authn::User;
use crate::front::RequestInfo;
use crate::remote;

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

impl Policy {
    /// Reads a `Policy` of `audit.k8s.io/v1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = remote::document(text)?;
        if document.text("apiVersion") != "audit.k8s.io/v1" || document.text("kind") != "Policy" {
            return Err("it is not a Policy of audit.k8s.io/v1".to_owned());
        }
        let everywhere = stages(document.list("omitStages"), "omitStages")?;
        let mut rules = Vec::new();
        for (n, rule) in document.list("rules").iter().enumerate() {
            rules.push(parse_rule(rule, &everywhere).map_err(|e| format!("rules[{n}].{e}"))?);
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

fn stages(list: &[Value], at: &str) -> Result<Vec<Stage>, String> {
    let read = |(n, value): (usize, &Value)| {
        let text = value.as_str().unwrap_or_default();
        Stage::parse(text).ok_or_else(|| format!("{at}[{n}]: Unsupported value: {text:?}: allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"))
    };
    list.iter().enumerate().map(read).collect()
}

fn parse_rule(rule: &Value, everywhere: &[Stage]) -> Result<Rule, String> {
    let level = match rule.text("level") {
        "None" => Level::None,
        "Metadata" => Level::Metadata,
        "Request" => Level::Request,
        "RequestResponse" => Level::RequestResponse,
        "" => return Err("level: Required value".to_owned()),
        other => {
            return Err(format!(
                "level: Unsupported value: {other:?}: supported values: \"Metadata\", \"None\", \"Request\", \"RequestResponse\""
            ));
        }
    };
    let urls = strings(rule, "nonResourceURLs");
    if !urls.is_empty() && (!rule.list("resources").is_empty() || !rule.list("namespaces").is_empty()) {
        return Err("nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs".to_owned());
    }
    for (n, url) in urls.iter().enumerate() {
        if url != "*" && !url.starts_with('/') {
            return Err(format!(
                "nonResourceURLs[{n}]: Invalid value: {url:?}: non-resource URL rules must begin with a '/' character"
            ));
        }
        if url != "*" && url.trim_end_matches('*').contains('*') {
            return Err(format!(
                "nonResourceURLs[{n}]: Invalid value: {url:?}: non-resource URL wildcards '*' must be the final character of the rule"
            ));
        }
    }
    let mut resources = Vec::new();
    for (n, item) in rule.list("resources").iter().enumerate() {
        let (names, list) = (strings(item, "resourceNames"), strings(item, "resources"));
        if item.text("group").contains('/') {
            return Err(format!(
                "resources[{n}].group: Invalid value: {:?}: must be a group name, without version",
                item.text("group")
            ));
        }
        if !names.is_empty() && list.is_empty() {
            return Err(format!(
                "resources[{n}].resourceNames: Invalid value: using resourceNames requires at least one resource"
            ));
        }
        resources.push(GroupResources { group: item.text("group").to_owned(), resources: list, names });
    }
    let mut omit_stages = stages(rule.list("omitStages"), "omitStages")?;
    omit_stages.extend(everywhere);
    Ok(Rule {
        level,
        users: strings(rule, "users"),
        groups: strings(rule, "userGroups"),
        verbs: strings(rule, "verbs"),
        namespaces: strings(rule, "namespaces"),
        resources,
        urls,
        omit_stages,
        omit_managed_fields: rule.flag("omitManagedFields"),
    })
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
