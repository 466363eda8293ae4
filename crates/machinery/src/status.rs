//! The API's errors: one [`Status`] type, made here and nowhere else (`k8s.io/apimachinery/pkg/api/errors`).

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::field;
use crate::gvk::{GroupKind, GroupResource};
use crate::value::Get;

/// A `v1` Status of kind Failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub code: u16,
    /// Upstream's `StatusReason`; "" for unknown.
    pub reason: Cow<'static, str>,
    pub message: String,
    pub details: Option<Details>,
    /// With 410 for a list: where it may go on at the latest version (`metadata.continue`).
    pub list_continue: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// The kind, or for most errors the resource.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

impl Status {
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            details: None,
            list_continue: String::new(),
        }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        self.details = Some(Details {
            name: name.to_owned(),
            group: resource.group.clone(),
            kind: resource.resource.clone(),
            ..Details::default()
        });
        self
    }

    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        let message = format!("{resource} {} not found", field::go_quote(name));
        Self::new(404, "NotFound", message).about(resource, name)
    }

    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        let message = format!("{resource} {} already exists", field::go_quote(name));
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", field::go_quote(name));
        Self::new(409, "Conflict", message).about(resource, name)
    }

    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = if resource.resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", field::go_quote(name))
        };
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// `Kind.group "name" is invalid: …` with a cause per error.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &[field::Error]) -> Self {
        let mut words: Vec<String> = Vec::new();
        for error in errors {
            let text = error.to_string();
            if !words.contains(&text) {
                words.push(text);
            }
        }
        let mut message = format!("{kind} {} is invalid", field::go_quote(name));
        match &words[..] {
            [] => {}
            [one] => message.push_str(&format!(": {one}")),
            many => message.push_str(&format!(": [{}]", many.join(", "))),
        }
        let causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.kind.reason().to_owned(),
                message: e.body(),
                field: e.field.to_string(),
            })
            .collect();
        let mut status = Self::new(422, "Invalid", message);
        status.details = Some(Details {
            name: name.to_owned(),
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            causes,
            ..Details::default()
        });
        status
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn internal(message: impl std::fmt::Display) -> Self {
        let mut status = Self::new(500, "InternalError", format!("Internal error occurred: {message}"));
        let causes = vec![Cause { message: message.to_string(), ..Cause::default() }];
        status.details = Some(Details { causes, ..Details::default() });
        status
    }

    /// 410: the resource version asked for is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind \"{resource}\"");
        let mut status = Self::new(405, "MethodNotAllowed", message).about(resource, "");
        if let Some(details) = &mut status.details {
            details.name.clear();
        }
        status
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details = Some(Details { retry_after_seconds, ..Details::default() });
        status
    }

    /// From a Status that somebody else (a webhook) gave.
    pub fn from_value(value: &Value) -> Self {
        let code = value.int("code").and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
        let mut out = Self::new(code, value.text("reason").to_owned(), value.text("message"));
        let details = value.at("details");
        out.details = details.is_object().then(|| Details {
            name: details.text("name").to_owned(),
            group: details.text("group").to_owned(),
            kind: details.text("kind").to_owned(),
            uid: details.text("uid").to_owned(),
            causes: details
                .list("causes")
                .iter()
                .map(|c| Cause {
                    reason: c.text("reason").to_owned(),
                    message: c.text("message").to_owned(),
                    field: c.text("field").to_owned(),
                })
                .collect(),
            retry_after_seconds: details
                .int("retryAfterSeconds")
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0),
        });
        out
    }

    /// The JSON body, `kind: Status, apiVersion: v1`.
    pub fn to_value(&self) -> Value {
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.list_continue.is_empty() {
            out["metadata"]["continue"] = self.list_continue.as_str().into();
        }
        if !self.reason.is_empty() {
            out["reason"] = self.reason.as_ref().into();
        }
        if let Some(details) = &self.details {
            out["details"] = details.to_value();
        }
        out
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        let texts = [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)];
        for (key, text) in texts {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".into(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        Value::Object(out)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
