//! One webhook, asked about one request.

use std::time::Duration;

use machinery::{Get, Status, Value};

use super::review::{response, review};
use super::{Client, Webhook, post};
use crate::admission::Attributes;
use crate::admission::seen::{Seen, request};
use crate::metrics::Asked;
use crate::registry::{Call, fields};

/// Why there is no answer.
pub enum Failed {
    /// It could not be called, or answered nonsense: the failure policy decides.
    Calling(String),
    /// It said no.
    Refused(Box<Status>),
    /// In any case.
    Status(Box<Status>),
}

impl Failed {
    /// For the metrics.
    pub fn asked(&self, hook: &Webhook) -> Asked {
        match self {
            Failed::Calling(_) => Asked::Failed { ignored: hook.ignores },
            Failed::Refused(status) => Asked::Refused(status.code),
            Failed::Status(_) => Asked::Broken,
        }
    }
}

/// Its response.
pub async fn ask(
    call: &Call,
    hook: &Webhook,
    a: &Attributes,
    seen: &Seen,
    mutating: bool,
) -> Result<Value, Failed> {
    if a.dry_run && !hook.dry_runs {
        return Err(Failed::Status(Box::new(hook.no_dry_run())));
    }
    if hook.review.is_empty() {
        let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Failed::Calling(why.into()));
    }
    let uid = fields::new_uid();
    let body = review(hook.review, &uid, request(call, a, &seen.matched), seen.object(), seen.old());
    let client = Client { config: &hook.client, timeout: Duration::from_secs(hook.timeout) };
    let answer = Box::pin(post(&call.core, &client, &body)).await;
    let answer = answer.map_err(|why| Failed::Calling(format!("failed to call webhook: {why}")))?;
    response(answer, hook.review, &uid, mutating)
        .map_err(|why| Failed::Calling(format!("received invalid webhook response: {why}")))
}

/// What every response may bring along.
pub fn note(call: &mut Call, hook: &Webhook, response: &Value) {
    for (key, value) in response.map("auditAnnotations").into_iter().flatten() {
        call.annotate(&format!("{}/{key}", hook.name), value.as_str().unwrap_or(""));
    }
    call.warnings.extend(response.list("warnings").iter().filter_map(Value::as_str).map(str::to_owned));
}
