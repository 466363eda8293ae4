//! The event as it is written. <https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/>

use std::collections::BTreeMap;

use jiff::Timestamp;
use machinery::field::go_quote;
use machinery::{Get, Value, json};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::policy::Level;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "RequestReceived" => Stage::RequestReceived,
            "ResponseStarted" => Stage::ResponseStarted,
            "ResponseComplete" => Stage::ResponseComplete,
            "Panic" => Stage::Panic,
            _ => return None,
        })
    }
}

/// In upstream's order of fields.
#[derive(Clone, Serialize)]
pub struct Event {
    pub kind: &'static str,
    #[serde(rename = "apiVersion")]
    pub api_version: &'static str,
    pub level: Level,
    #[serde(rename = "auditID")]
    pub audit_id: String,
    pub stage: Stage,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub verb: String,
    pub user: Value,
    #[serde(rename = "impersonatedUser", skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<Value>,
    /// The verb by which the impersonation was allowed, if it was a constrained one.
    #[serde(rename = "authenticationMetadata", skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<Value>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    #[serde(rename = "userAgent", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    #[serde(rename = "objectRef", skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    #[serde(rename = "responseStatus", skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Value>,
    #[serde(rename = "requestObject", skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Box<RawValue>>,
    #[serde(rename = "responseObject", skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Box<RawValue>>,
    #[serde(rename = "requestReceivedTimestamp", serialize_with = "micro_time")]
    pub request_received: Timestamp,
    #[serde(rename = "stageTimestamp", serialize_with = "micro_time")]
    pub stage_time: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Event {
    /// Without the objects, and said so.
    pub fn truncated(&self) -> Self {
        let mut annotations = self.annotations.clone();
        annotations.insert("audit.k8s.io/truncated".to_owned(), "true".to_owned());
        Self { request_object: None, response_object: None, annotations, ..self.clone() }
    }

    /// The one-line form of `--audit-log-format=legacy`.
    pub fn line(&self) -> String {
        let quoted = |user: &Value| {
            let groups: Vec<String> =
                user.list("groups").iter().filter_map(Value::as_str).map(go_quote).collect();
            groups.join(",")
        };
        let name = self.user.text("username");
        let user = if name.is_empty() { "<none>" } else { name };
        let groups = Some(quoted(&self.user)).filter(|g| !name.is_empty() && !g.is_empty());
        let other = self.impersonated_user.as_ref();
        let their_groups = other.filter(|o| o.has("groups")).map(quoted);
        let namespace = self.object_ref.as_ref().map_or("", |o| &o.namespace);
        let code = self.response_status.as_ref().and_then(|s| s.at("code").as_i64());
        format!(
            "{} AUDIT: id={} stage={} ip={} method={} user={} groups={} as={} asgroups={} user-agent={} namespace={} uri={} response=\"{}\"",
            self.request_received.strftime("%Y-%m-%dT%H:%M:%S%.fZ"),
            go_quote(&self.audit_id),
            go_quote(&format!("{:?}", self.stage)),
            go_quote(self.source_ips.first().map_or("<unknown>", String::as_str)),
            go_quote(&self.verb),
            go_quote(user),
            go_quote(groups.as_deref().unwrap_or("<none>")),
            go_quote(other.map_or("<self>", |o| o.text("username"))),
            go_quote(their_groups.as_deref().unwrap_or("<lookup>")),
            go_quote(self.user_agent.as_deref().unwrap_or("")),
            go_quote(if namespace.is_empty() { "<none>" } else { namespace }),
            go_quote(&self.request_uri),
            code.map_or_else(|| "<deferred>".to_owned(), |code| code.to_string()),
        )
    }
}

#[derive(Clone, Default, Serialize)]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(rename = "apiGroup", skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(rename = "apiVersion", skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(rename = "resourceVersion", skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

fn micro_time<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"))
}

/// `responseStatus`: the code, and what a Status in the answer says.
pub fn status(code: u16, answered: Option<&Value>) -> Value {
    let mut out = json!({"metadata": {}});
    if let Some(answered) = answered {
        for key in ["status", "message", "reason", "details"] {
            if answered.has(key) {
                out[key] = answered.at(key).clone();
            }
        }
    }
    out["code"] = code.into();
    out
}
