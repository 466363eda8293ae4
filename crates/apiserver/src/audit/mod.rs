//! The audit log: who did what, when, and what came of it, as `audit.k8s.io/v1` events.
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>
//!
//! [`Auditor`] is the policy with where events go; [`Audit`] is one request's event on its way. Without a policy there is
//! no auditor, and an `Audit` is an empty handle.

mod event;
mod log;
mod policy;
mod sink;
mod webhook;

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use http::HeaderMap;
use jiff::Timestamp;
use machinery::schema::Schema;
use machinery::{Get, GroupVersionKind, Status, Value};
use parking_lot::Mutex;

use self::event::{Event, ObjectReference, Stage};
use self::policy::{Level, Policy, Subject};
use self::sink::{Backend, Sink};
use crate::authn::User;
use crate::config::AuditSettings;
use crate::front::respond::Answer;
use crate::front::{Body, RequestInfo};

/// How long events may take to be delivered when the server ends.
const LAST: std::time::Duration = std::time::Duration::from_secs(30);

/// A policy, and where its events go.
pub struct Auditor {
    policy: Policy,
    sinks: Vec<Sink>,
}

impl Auditor {
    /// None if nothing is to be written down. Must be called within a runtime.
    pub fn new(settings: &AuditSettings) -> Result<Option<Arc<Self>>, String> {
        let nowhere = settings.log_path.is_none() && settings.webhook_config_file.is_none();
        let Some(policy) = settings.policy_file.as_deref() else {
            if !nowhere {
                tracing::warn!("no audit policy file provided, no events will be recorded");
            }
            return Ok(None);
        };
        let failed = |e: String| format!("loading audit policy file: {}: {e}", policy.display());
        let text = std::fs::read_to_string(policy).map_err(|e| failed(e.to_string()))?;
        let policy = Policy::parse(&text).map_err(failed)?;
        let mut sinks = Vec::new();
        if let Some(path) = settings.log_path.as_deref() {
            let limits = log::Limits {
                days: settings.log_max_age,
                files: settings.log_max_backup,
                mebibytes: settings.log_max_size,
                compress: settings.log_compress,
            };
            let log = log::Log::open(path, limits);
            let log = log.map_err(|e| format!("--audit-log-path {}: {e}", path.display()))?;
            let backend = Backend::Log { log, legacy: settings.log_legacy };
            sinks.push(Sink::start(backend, &settings.log_delivery));
        }
        if let Some(path) = settings.webhook_config_file.as_deref() {
            let webhook = webhook::Webhook::new(path, settings.webhook_initial_backoff);
            let webhook = webhook.map_err(|e| format!("initializing audit webhook: {e}"))?;
            sinks.push(Sink::start(Backend::Webhook(webhook), &settings.webhook_delivery));
        }
        Ok(Some(Arc::new(Self { policy, sinks })).filter(|_| !nowhere))
    }

    /// The event for each sink; to be delivered by [`Self::deliver`].
    fn form(&self, event: &mut Event) -> Vec<Option<Vec<u8>>> {
        self.sinks.iter().map(|sink| sink.form(event)).collect()
    }

    /// False if the request must not go on.
    async fn deliver(&self, forms: Vec<Option<Vec<u8>>>) -> bool {
        let mut good = true;
        for (sink, form) in self.sinks.iter().zip(forms) {
            if let Some(form) = form {
                good &= sink.send(form).await;
            }
        }
        good
    }

    /// Resolves when what was written before was delivered, or after half a minute.
    pub async fn flush(&self) {
        let all = futures_util::future::join_all(self.sinks.iter().map(Sink::flush));
        let _ = tokio::time::timeout(LAST, all).await;
    }
}

/// What is known of a request before it is done.
pub struct Head<'a> {
    pub id: &'a str,
    pub info: &'a RequestInfo,
    pub uri: &'a http::Uri,
    pub headers: &'a HeaderMap,
    pub address: std::net::IpAddr,
    pub received: Timestamp,
}

/// One request's event; empty if nobody wants it.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Record>>);

struct Record {
    auditor: Arc<Auditor>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
    event: Mutex<Event>,
}

impl Audit {
    /// Begins the event, if the policy wants one, and writes the first stage. `user` is who sent the request, before any
    /// impersonation.
    ///
    /// # Errors
    /// The event is lost where none may be.
    pub async fn begin(auditor: &Arc<Auditor>, head: &Head<'_>, user: &User) -> Result<Self, Status> {
        let record = Self::record(auditor, head, Some(user));
        if let Some(record) = &record
            && !record.process(Stage::RequestReceived).await
        {
            return Err(Status::internal("failed to store audit event"));
        }
        Ok(Self(record.map(Arc::new)))
    }

    fn record(auditor: &Arc<Auditor>, head: &Head, user: Option<&User>) -> Option<Record> {
        let subject = Subject { user, info: head.info };
        let wanted = auditor.policy.judge(&subject);
        if wanted.level == Level::None {
            return None;
        }
        let agent = head.headers.get(http::header::USER_AGENT).map(|v| String::from_utf8_lossy(v.as_bytes()));
        let info = head.info;
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: wanted.level,
            audit_id: head.id.to_owned(),
            stage: Stage::RequestReceived,
            request_uri: head.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            verb: info.verb.clone(),
            user: user.map_or_else(|| machinery::json!({}), User::info),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(head.headers, head.address),
            user_agent: agent.map(|a| shorten(&a)).filter(|a| !a.is_empty()),
            object_ref: info.is_resource.then(|| ObjectReference {
                resource: info.resource.clone(),
                namespace: info.namespace.clone(),
                name: info.name.clone(),
                api_group: info.group.clone(),
                api_version: info.version.clone(),
                subresource: info.subresource.clone(),
                ..ObjectReference::default()
            }),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received: head.received,
            stage_time: head.received,
            annotations: Default::default(),
        };
        Some(Record {
            auditor: auditor.clone(),
            omit_stages: wanted.omit_stages,
            omit_managed_fields: wanted.omit_managed_fields,
            event: Mutex::new(event),
        })
    }

    /// Writes the one event of a request that was refused before it was known who sent it.
    pub async fn refused(auditor: &Arc<Auditor>, head: &Head<'_>, why: &Status) {
        let Some(record) = Self::record(auditor, head, None) else { return };
        let answer = why.to_value();
        {
            let mut event = record.event.lock();
            event.response_status = Some(event::status(why.code, Some(&answer)));
            event.response_object = (event.level >= Level::RequestResponse).then(|| raw(&answer)).flatten();
        }
        record.process(Stage::ResponseStarted).await;
    }

    /// Does somebody want to see objects that are sent?
    pub fn wants_requests(&self) -> bool {
        self.0.as_ref().is_some_and(|r| r.event.lock().level >= Level::Request)
    }

    /// `constraint`: the verb that allowed it, "" for unconstrained impersonation.
    pub fn impersonated(&self, user: &User, constraint: &str) {
        self.change(|event| {
            event.impersonated_user = Some(user.info());
            event.authentication_metadata =
                (!constraint.is_empty()).then(|| machinery::json!({"impersonationConstraint": constraint}));
        });
    }

    pub fn annotate(&self, key: &str, value: &str) {
        self.change(|event| {
            event.annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        });
    }

    /// What authorization said.
    pub fn decision(&self, allowed: bool, reason: &str, error: &str) {
        if self.0.is_none() {
            return;
        }
        let failed = !allowed && !error.is_empty() && reason.is_empty();
        if !failed {
            self.annotate("authorization.k8s.io/decision", if allowed { "allow" } else { "forbid" });
        }
        let reason = if failed { "internal error" } else { reason };
        self.annotate("authorization.k8s.io/reason", reason);
    }

    /// The decoded body of a write. `schema`: of a built-in kind, whose fields are shown in their order.
    pub fn request_object(
        &self,
        object: &Value,
        want: &GroupVersionKind,
        resource: &str,
        schema: Option<&Schema>,
    ) {
        let Some(record) = &self.0 else { return };
        let mut event = record.event.lock();
        let metadata = object.at("metadata");
        let about = event.object_ref.get_or_insert_default();
        for (slot, key) in [
            (&mut about.namespace, "namespace"),
            (&mut about.name, "name"),
            (&mut about.uid, "uid"),
            (&mut about.resource_version, "resourceVersion"),
        ] {
            if slot.is_empty() {
                *slot = metadata.text(key).to_owned();
            }
        }
        if about.api_version.is_empty() {
            (about.api_group, about.api_version) = (want.group.clone(), want.version.clone());
        }
        if about.resource.is_empty() {
            about.resource = resource.to_owned();
        }
        if event.level >= Level::Request {
            let mut shown = object.clone();
            if record.omit_managed_fields {
                drop_managed_fields(&mut shown);
            }
            event.request_object = match schema {
                Some(schema) => {
                    let mut text = Vec::new();
                    machinery::codec::json::encode(schema, &shown, &mut text);
                    String::from_utf8(text)
                        .ok()
                        .and_then(|t| serde_json::value::RawValue::from_string(t).ok())
                }
                None => raw(&shown),
            };
        }
    }

    /// The body of a deletion, as upstream shows it: in its inner version.
    pub fn request_options(&self, options: &Value) {
        if !self.wants_requests() {
            return;
        }
        let mut shown = machinery::json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/__internal"});
        for key in ["gracePeriodSeconds", "preconditions", "orphanDependents", "propagationPolicy", "dryRun"]
        {
            if options.has(key) {
                shown[key] = options.at(key).clone();
            }
        }
        self.change(|event| event.request_object = raw(&shown));
    }

    /// The body of a patch, as it came.
    pub fn request_patch(&self, body: &[u8]) {
        if !self.wants_requests() {
            return;
        }
        let text = match serde_json::from_slice::<&serde_json::value::RawValue>(body) {
            Ok(_) => String::from_utf8(body.to_vec()).ok(),
            Err(_) => machinery::codec::yaml::to_json(body).ok().and_then(|j| String::from_utf8(j.text).ok()),
        };
        let object = text.and_then(|t| serde_json::value::RawValue::from_string(t).ok());
        self.change(|event| event.request_object = object);
    }

    fn change(&self, f: impl FnOnce(&mut Event)) {
        if let Some(record) = &self.0 {
            f(&mut record.event.lock());
        }
    }

    /// The answer is on its way: writes the last stage, for streams when they end.
    pub async fn respond(&self, answer: Answer, long_running: bool) -> Answer {
        let Some(record) = self.0.clone() else { return answer };
        let code = answer.status().as_u16();
        let (parts, body) = answer.into_parts();
        if long_running {
            let body = match body {
                Body::Stream(stream) => {
                    record.event.lock().response_status = Some(event::status(code, None));
                    record.process(Stage::ResponseStarted).await;
                    let end = End(record);
                    Body::stream(stream.map(move |chunk| {
                        let _ = &end;
                        chunk
                    }))
                }
                full => {
                    record.settle(code, &full, &parts.headers);
                    record.process(Stage::ResponseStarted).await;
                    record.process(Stage::ResponseComplete).await;
                    full
                }
            };
            return Answer::from_parts(parts, body);
        }
        let wants_object = record.event.lock().level >= Level::RequestResponse;
        let body = match body {
            Body::Stream(stream) if wants_object => gather(stream).await,
            other => other,
        };
        record.settle(code, &body, &parts.headers);
        record.process(Stage::ResponseComplete).await;
        Answer::from_parts(parts, body)
    }

    /// The request ended in a panic.
    pub fn panicked(&self, text: &str) {
        let Some(record) = &self.0 else { return };
        let status = machinery::json!({"status": "Failure", "reason": "InternalError",
            "message": format!("APIServer panic'd: {text}")});
        record.event.lock().response_status = Some(event::status(500, Some(&status)));
        record.process_apart(Stage::Panic);
    }
}

/// Writes the last stage when the stream that holds it goes away.
struct End(Arc<Record>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.process_apart(Stage::ResponseComplete);
    }
}

impl Record {
    /// The event of a stage for each sink.
    fn stage(&self, stage: Stage) -> Vec<Option<Vec<u8>>> {
        let mut event = self.event.lock();
        event.stage = stage;
        event.stage_time =
            if stage == Stage::RequestReceived { event.request_received } else { Timestamp::now() };
        if self.omit_stages.contains(&stage) { Vec::new() } else { self.auditor.form(&mut event) }
    }

    async fn process(&self, stage: Stage) -> bool {
        let forms = self.stage(stage);
        self.auditor.deliver(forms).await
    }

    /// Where nothing can be waited for.
    fn process_apart(&self, stage: Stage) {
        let forms = self.stage(stage);
        let auditor = self.auditor.clone();
        if auditor.sinks.iter().any(Sink::blocks) {
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { auditor.deliver(forms).await });
            }
        } else {
            // none of these waits
            let _ = auditor.deliver(forms).now_or_never();
        }
    }

    /// What came of the request.
    fn settle(&self, code: u16, body: &Body, headers: &HeaderMap) {
        let object = match body {
            Body::Full(Some(bytes)) => self.object(code, bytes, headers),
            _ => None,
        };
        let mut event = self.event.lock();
        let status = object.as_ref().filter(|o| o.text("kind") == "Status");
        event.response_status = Some(event::status(code, status));
        if event.level >= Level::RequestResponse {
            event.response_object = object.and_then(|mut o| {
                if self.omit_managed_fields {
                    drop_managed_fields(&mut o);
                }
                raw(&o)
            });
        }
    }

    /// The answer as an object, where somebody will look at it.
    fn object(&self, code: u16, bytes: &[u8], headers: &HeaderMap) -> Option<Value> {
        let wanted = self.event.lock().level >= Level::RequestResponse;
        // a success that is a Status is short
        let says_status = |part: &[u8]| part == br#""kind":"Status""#;
        let is_status = || bytes.len() < 1024 && bytes.windows(15).any(says_status);
        if !wanted && code < 400 && !is_status() {
            return None;
        }
        let kind = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        if kind.starts_with("application/json") {
            let object: Value = serde_json::from_slice(bytes).ok()?;
            return object.has("kind").then_some(object);
        }
        if kind.starts_with("application/vnd.kubernetes.protobuf") {
            use machinery::codec::proto;
            let envelope = proto::open(bytes).ok()?;
            let gv = machinery::GroupVersion::parse(envelope.api_version).ok()?;
            return proto::decode(bytes, crate::codec::schema_of(&gv.kind(envelope.kind))?).ok();
        }
        None
    }
}

async fn gather(
    mut stream: impl futures_util::Stream<Item = Result<bytes::Bytes, crate::front::body::BoxError>> + Unpin,
) -> Body {
    let mut all = bytes::BytesMut::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => all.extend_from_slice(&chunk),
            Err(error) => return Body::stream(futures_util::stream::iter([Err(error)])),
        }
    }
    all.freeze().into()
}

fn raw(object: &Value) -> Option<Box<serde_json::value::RawValue>> {
    serde_json::value::to_raw_value(object).ok()
}

/// In the object, the items of a list and the rows of a table.
fn drop_managed_fields(object: &mut Value) {
    let drop = |o: &mut Value| {
        if let Some(metadata) = o.get_mut("metadata") {
            metadata.unset("managedFields");
        }
    };
    drop(object);
    object.list_mut("items").iter_mut().for_each(drop);
    for row in object.list_mut("rows") {
        if let Some(inner) = row.get_mut("object") {
            drop(inner);
        }
    }
}

/// Where a request came from: what proxies said of it, then who connected.
fn source_ips(headers: &HeaderMap, address: std::net::IpAddr) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let mut out: Vec<std::net::IpAddr> =
        text("x-forwarded-for").split(',').filter_map(|part| part.trim().parse().ok()).collect();
    if let Ok(real) = text("x-real-ip").trim().parse()
        && !out.contains(&real)
    {
        out.push(real);
    }
    if out.last() != Some(&address) {
        out.push(address);
    }
    out.iter().map(ToString::to_string).collect()
}

fn shorten(agent: &str) -> String {
    const LONGEST: usize = 1024;
    match agent.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...TRUNCATED", &agent[..at]),
        None => agent.to_owned(),
    }
}

#[cfg(test)]
mod tests;
