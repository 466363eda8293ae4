//! Asks another server: a SubjectAccessReview as JSON, its answer remembered for a while.
//! <https://kubernetes.io/docs/reference/access-authn-authz/webhook/>

use std::collections::HashMap;
use std::time::{Duration, Instant};

use machinery::field::{Error, Path};
use machinery::select::Operator;
use machinery::{Get, Value, json};
use parking_lot::Mutex;

use super::{Attributes, Decision, Verdict};
use crate::authn::User;
use crate::expression::{About, Expression};
use crate::remote::Client;

/// Answers remembered.
const KEPT: usize = 8192;
/// Answers to questions longer than this are not remembered: their askers choose the length.
const LONGEST_KEPT: usize = 10_000;
const TRIES: u32 = 5;

/// How the webhook is asked.
#[derive(Default)]
pub struct Settings {
    pub name: String,
    /// Of `SubjectAccessReview`: `v1` or `v1beta1`.
    pub version: String,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    pub timeout: Duration,
    /// `failurePolicy: Deny`.
    pub deny_on_error: bool,
    pub conditions: Conditions,
}

/// Which requests are asked about at all.
#[derive(Default)]
pub struct Conditions(Vec<Expression>);

impl Conditions {
    pub fn compile(list: &[Value], at: &Path, errors: &mut Vec<Error>) -> Self {
        const MOST: usize = 64;
        if list.len() > MOST {
            errors.push(Error::too_many(at, list.len(), MOST));
            return Self::default();
        }
        let (mut seen, mut out): (Vec<&str>, Vec<Expression>) = (Vec::new(), Vec::new());
        for (n, item) in list.iter().enumerate() {
            let (at, text) = (at.index(n).child("expression"), item.text("expression"));
            if text.trim().is_empty() {
                errors.push(Error::required(&at, ""));
            } else if seen.contains(&text) {
                errors.push(Error::duplicate(&at, text));
            } else {
                seen.push(text);
                match Expression::compile(text, About::Request, &[cel::Type::Bool]) {
                    Ok(compiled) => out.push(compiled),
                    Err(why) => errors.push(Error::invalid(&at, text, why)),
                }
            }
        }
        Self(out)
    }

    /// Do all hold? One that does not settles it; else one that can't be evaluated is an error.
    fn hold(&self, spec: &Value) -> Result<bool, String> {
        let mut errors = Vec::new();
        for expression in &self.0 {
            match expression.eval(spec) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => errors.push(format!(
                    "cel evaluation error: expression '{}' eval result type should be bool",
                    expression.text()
                )),
                Err(e) => errors.push(format!(
                    "cel evaluation error: expression '{}' resulted in error: {e}",
                    expression.text()
                )),
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(crate::authz::aggregate(&errors)) }
    }
}

pub struct Webhook {
    client: Client,
    settings: Settings,
    known: Mutex<HashMap<String, (Instant, Answer)>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl Webhook {
    pub fn new(client: Client, settings: Settings) -> Self {
        Self { client, settings, known: Mutex::default() }
    }

    pub async fn decide(&self, user: &User, a: &Attributes<'_>) -> Decision {
        let spec = spec(user, a, &self.settings.version);
        if !self.settings.conditions.0.is_empty() {
            match self.settings.conditions.hold(&complete(&spec, user)) {
                Ok(true) => {}
                Ok(false) => return Decision::default(),
                Err(error) => return Decision { verdict: self.on_error(), reason: String::new(), error },
            }
        }
        let key = spec.to_string();
        let now = Instant::now();
        let known = self.known.lock().get(&key).filter(|(until, _)| *until > now).map(|(_, a)| a.clone());
        let answer = match known {
            Some(answer) => answer,
            None => match self.ask(&spec).await {
                Ok(answer) => {
                    self.remember(key, &answer, now);
                    answer
                }
                Err(error) => {
                    tracing::warn!(webhook = %self.settings.name, %error, "an authorization webhook failed");
                    return Decision { verdict: self.on_error(), reason: String::new(), error };
                }
            },
        };
        decision(answer)
    }

    fn on_error(&self) -> Verdict {
        if self.settings.deny_on_error { Verdict::Deny } else { Verdict::NoOpinion }
    }

    fn remember(&self, key: String, answer: &Answer, now: Instant) {
        let lives =
            if answer.allowed { self.settings.authorized_ttl } else { self.settings.unauthorized_ttl };
        if lives.is_zero() || key.len() > LONGEST_KEPT {
            return;
        }
        let mut known = self.known.lock();
        if known.len() >= KEPT {
            known.retain(|_, (until, _)| *until > now);
            if known.len() >= KEPT {
                known.clear();
            }
        }
        known.insert(key, (now + lives, answer.clone()));
    }

    async fn ask(&self, spec: &Value) -> Result<Answer, String> {
        let review = json!({"kind": "SubjectAccessReview",
            "apiVersion": format!("authorization.k8s.io/{}", self.settings.version),
            "metadata": {}, "spec": spec, "status": {"allowed": false}});
        let body = review.to_string();
        let limit =
            if self.settings.timeout.is_zero() { Duration::from_secs(30) } else { self.settings.timeout };
        let mut wait = Duration::from_millis(500);
        for attempt in 1.. {
            let asked = tokio::time::timeout(limit, self.client.post(body.clone())).await;
            let error = match asked {
                Ok(Ok(bytes)) => return read(&bytes),
                Ok(Err(error)) if !error.passes() || attempt >= TRIES => return Err(error.to_string()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => return Err("context deadline exceeded".to_owned()),
            };
            tracing::debug!(webhook = %self.settings.name, %error, "asking an authorization webhook again");
            tokio::time::sleep(wait).await;
            wait = wait.mul_f64(1.5);
        }
        unreachable!("the loop ends by returning")
    }
}

fn read(bytes: &[u8]) -> Result<Answer, String> {
    let review: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let status = review.at("status");
    Ok(Answer {
        allowed: status.flag("allowed") == Some(true),
        denied: status.flag("denied") == Some(true),
        reason: status.text("reason").to_owned(),
    })
}

fn decision(answer: Answer) -> Decision {
    let error = if answer.allowed && answer.denied {
        "webhook subject access review returned both allow and deny response".to_owned()
    } else {
        String::new()
    };
    let verdict = match (answer.denied, answer.allowed) {
        (true, _) => Verdict::Deny,
        (false, true) => Verdict::Allow,
        (false, false) => Verdict::NoOpinion,
    };
    Decision { verdict, reason: answer.reason, error }
}

/// The `spec` of the review. Old versions call the groups `group`.
fn spec(user: &User, a: &Attributes, version: &str) -> Value {
    let mut out = json!({});
    let mut set = |key: &str, value: &str| {
        if !value.is_empty() {
            out[key] = value.into();
        }
    };
    set("user", &user.name);
    set("uid", &user.uid);
    if !user.groups.is_empty() {
        out[if version == "v1" { "groups" } else { "group" }] = json!(user.groups);
    }
    if let Some(extra) = user.extra_value() {
        out["extra"] = extra.clone();
    }
    if !a.is_resource {
        out["nonResourceAttributes"] = json!({"path": a.path, "verb": a.verb});
        return out;
    }
    let mut about = json!({});
    for (key, value) in [
        ("namespace", a.namespace),
        ("verb", a.verb),
        ("group", a.group),
        ("version", a.version),
        ("resource", a.resource),
        ("subresource", a.subresource),
        ("name", a.name),
    ] {
        if !value.is_empty() {
            about[key] = value.into();
        }
    }
    if let Some(selectors) = a.selectors {
        let fields: Vec<Value> = selectors
            .fields
            .iter()
            .map(|t| json!({"key": t.field, "operator": if t.equal { "In" } else { "NotIn" }, "values": [t.value]}))
            .collect();
        if !fields.is_empty() {
            about["fieldSelector"] = json!({"requirements": fields});
        }
        let labels: Vec<Value> = selectors.labels.iter().filter_map(label).collect();
        if !labels.is_empty() {
            about["labelSelector"] = json!({"requirements": labels});
        }
    }
    out["resourceAttributes"] = about;
    out
}

/// The spec as expressions see it: with all fields, also empty ones.
fn complete(spec: &Value, user: &User) -> Value {
    let mut out = json!({"user": user.name, "uid": user.uid, "groups": user.groups,
        "extra": user.extra_value().cloned().unwrap_or_else(|| json!({}))});
    if spec.has("nonResourceAttributes") {
        out["nonResourceAttributes"] = spec.at("nonResourceAttributes").clone();
    }
    if spec.has("resourceAttributes") {
        let mut about = json!({"namespace": "", "verb": "", "group": "", "version": "", "resource": "",
            "subresource": "", "name": ""});
        for (key, value) in spec.map("resourceAttributes").into_iter().flatten() {
            about[key] = value.clone();
        }
        out["resourceAttributes"] = about;
    }
    out
}

fn label(requirement: &machinery::select::Requirement) -> Option<Value> {
    let operator = match requirement.operator() {
        Operator::In | Operator::Equals | Operator::DoubleEquals => "In",
        Operator::NotIn | Operator::NotEquals => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        Operator::GreaterThan | Operator::LessThan => return None,
    };
    let mut out = json!({"key": requirement.key(), "operator": operator});
    if !requirement.values().is_empty() {
        out["values"] = json!(requirement.values());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_as_upstream() {
        let user = User { name: "jane".into(), groups: vec!["g".into()], ..User::default() };
        let a = Attributes {
            is_resource: true,
            verb: "list",
            version: "v1",
            resource: "pods",
            ..Attributes::default()
        };
        let want = json!({"user": "jane", "groups": ["g"],
            "resourceAttributes": {"verb": "list", "version": "v1", "resource": "pods"}});
        assert_eq!(spec(&user, &a, "v1"), want);
        assert_eq!(spec(&user, &a, "v1beta1")["group"], json!(["g"]));
        let path = Attributes { verb: "get", path: "/x", ..Attributes::default() };
        assert_eq!(spec(&user, &path, "v1")["nonResourceAttributes"], json!({"path": "/x", "verb": "get"}));
    }

    #[test]
    fn denial_wins() {
        let verdict = |allowed, denied| decision(Answer { allowed, denied, reason: String::new() }).verdict;
        assert_eq!(verdict(true, false), Verdict::Allow);
        assert_eq!(verdict(true, true), Verdict::Deny);
        assert_eq!(verdict(false, false), Verdict::NoOpinion);
    }
}
