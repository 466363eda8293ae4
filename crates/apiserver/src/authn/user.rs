//! An identity.

use std::collections::BTreeMap;

use machinery::{Value, json};

pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const MASTERS: &str = "system:masters";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub(crate) extra: Option<Value>,
}

impl User {
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Self::default()
        }
        .authenticated()
    }

    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The server's own identity.
    pub fn apiserver() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    /// With the group of all who proved who they are.
    pub fn authenticated(mut self) -> Self {
        let has = self.groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED);
        if !has && self.name != "system:anonymous" {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    pub fn with_extra(mut self, extra: BTreeMap<String, Vec<String>>) -> Self {
        self.extra = (!extra.is_empty()).then(|| json!(extra));
        self
    }

    /// Key to list of strings.
    pub fn extra_value(&self) -> Option<&Value> {
        self.extra.as_ref()
    }

    /// As `userInfo` stands in reviews.
    pub fn info(&self) -> Value {
        let mut out = json!({"username": self.name});
        if !self.uid.is_empty() {
            out["uid"] = self.uid.as_str().into();
        }
        if !self.groups.is_empty() {
            out["groups"] = json!(self.groups);
        }
        if let Some(extra) = &self.extra {
            out["extra"] = extra.clone();
        }
        out
    }

    /// (namespace, name) of a service account's user.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// The node whose kubelet this is.
    pub fn node(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:")?;
        self.is_in("system:nodes").then_some(name)
    }
}
