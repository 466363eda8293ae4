//! EventRateLimit: how many events may be written, in all, by namespace, by user, or about one object from one source. Off
//! unless asked for. <https://kubernetes.io/docs/reference/config-api/apiserver-eventratelimit.v1alpha1/>

use std::collections::HashMap;
use std::time::Instant;

use futures_util::FutureExt;
use machinery::{Get, Status, Value};
use parking_lot::Mutex;

use super::{Attributes, Operation, Plugin};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "EventRateLimit",
    mutate: None,
    validate: Some(|call, attributes| async move { validate(call, attributes) }.boxed()),
};

const KEPT: usize = 4096;

/// Tokens left and when they were counted, by limit and key.
#[derive(Default)]
pub struct Buckets(Mutex<HashMap<(usize, String), (f64, Instant)>>);

impl Buckets {
    /// Takes a token, if there is one.
    fn take(&self, key: (usize, String), rate: f64, burst: f64, now: Instant) -> bool {
        let mut all = self.0.lock();
        if all.len() >= KEPT && !all.contains_key(&key) {
            let oldest = all.iter().min_by_key(|(_, (_, at))| *at).map(|(k, _)| k.clone());
            oldest.map(|k| all.remove(&k));
        }
        let (tokens, at) = all.entry(key).or_insert((burst, now));
        *tokens = (*tokens + now.duration_since(*at).as_secs_f64() * rate).min(burst);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

fn validate(call: &Call, a: &Attributes) -> Result<(), Status> {
    let events = a.resource.name == "events" && a.subresource.is_empty();
    if !events || a.dry_run || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let limits = call.core.admission.settings("EventRateLimit").list("limits");
    let mut refused = Vec::new();
    for (n, limit) in limits.iter().enumerate() {
        let kind = limit.text("type");
        let key = key(kind, call, a);
        let number = |name: &str| limit.at(name).as_f64().unwrap_or(1.0);
        let buckets = &call.core.admission.events;
        if !buckets.take((n, key.clone()), number("qps"), number("burst"), Instant::now()) {
            refused.push(format!("limit reached on type {kind} for key {key}"));
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let mut status = Status::new(429, "TooManyRequests", crate::authz::aggregate(&refused));
    status.details = Some(machinery::status::Details { retry_after_seconds: 0, ..Default::default() });
    Err(status)
}

fn key(kind: &str, call: &Call, a: &Attributes) -> String {
    match kind {
        "Namespace" => a.namespace.clone(),
        "User" => call.user.name.clone(),
        "SourceAndObject" => {
            let (event, about) = (a.object(), |o: &Value, key: &str| o.text(key).to_owned());
            let (source, object) = (event.at("source"), event.at("involvedObject"));
            let mut parts = vec![about(source, "component"), about(source, "host")];
            parts.extend(["kind", "namespace", "name", "uid", "apiVersion"].map(|k| about(object, k)));
            parts.concat()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tokens_come_back_with_time() {
        let (buckets, start) = (Buckets::default(), Instant::now());
        let key = || (0, "a".to_owned());
        assert!(buckets.take(key(), 1.0, 2.0, start) && buckets.take(key(), 1.0, 2.0, start));
        assert!(!buckets.take(key(), 1.0, 2.0, start));
        assert!(buckets.take((0, "b".to_owned()), 1.0, 2.0, start));
        assert!(buckets.take(key(), 1.0, 2.0, start + Duration::from_secs(1)));
    }
}
