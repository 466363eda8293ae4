//! Events about objects: a series of equal ones is counted in one object, a flood of like ones is drawn together,
//! and what one object may cause is bounded.
//!
//! Shapes, names and numbers are those of client-go's two recorders: `core/v1` Events with counts (controllers,
//! kubelet), and `events.k8s.io/v1` ones with series (scheduler). Recording never blocks and never fails; when the
//! server cannot be reached events are lost.

mod correlate;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc;

use crate::write::{ErrorKind, ignore_not_found};
use correlate::{Correlator, Step};

/// Normal or Warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One happening, before it is counted together with others.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    pub about: ObjectReference,
    pub severity: Severity,
    pub reason: String,
    pub message: String,
    /// What was done; only recorders of [`Style::Series`] use it.
    pub action: String,
    /// A second object, as the pod that another was preempted for; only in [`Style::Series`].
    pub related: Option<ObjectReference>,
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Which of client-go's recorders to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `source`, `count`, `firstTimestamp`, `lastTimestamp`.
    Counted,
    /// `reportingController`, `eventTime`, `action`, `series`.
    Series,
}

/// Events a component may have waiting, as client-go's queue.
const WAITING: usize = 1000;

/// Records events as one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Option<Arc<mpsc::Sender<Happening>>>);

impl Recorder {
    /// A recorder that writes through `client` from a task of its own, which ends with the last clone.
    ///
    /// `component` as `deployment-controller`; `host` is the node's name, empty for what runs on none.
    pub fn new(client: kube::Client, style: Style, component: &str, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let writer = Writer { client, style, component: component.to_owned(), host: host.to_owned() };
        tokio::spawn(writer.run(receiver));
        Self(Some(Arc::new(sender)))
    }

    /// A recorder that drops everything, for tests and one-off tools.
    pub fn none() -> Self {
        Self(None)
    }

    /// A recorder that hands over what it is given, for tests.
    pub fn channel() -> (Self, mpsc::Receiver<Happening>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(Some(Arc::new(sender))), receiver)
    }

    pub fn normal<K: Resource<DynamicType = ()>>(&self, about: &K, reason: &str, message: impl Into<String>) {
        self.event(reference(about), Severity::Normal, reason, message);
    }

    pub fn warning<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.event(reference(about), Severity::Warning, reason, message);
    }

    pub fn event(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(Happening {
            about,
            severity,
            reason: reason.to_owned(),
            message: message.into(),
            action: String::new(),
            related: None,
            annotations: None,
        });
    }

    pub fn record(&self, happening: Happening) {
        if let Some(sender) = &self.0
            && sender.try_send(happening).is_err()
        {
            tracing::debug!("an event was dropped: too many are waiting");
        }
    }
}

/// A reference to `object` as event recorders make it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: object.namespace(),
        name: object.meta().name.clone(),
        uid: object.uid(),
        resource_version: object.resource_version(),
        field_path: None,
    }
}

struct Writer {
    client: kube::Client,
    style: Style,
    component: String,
    host: String,
}

impl Writer {
    async fn run(self, mut happenings: mpsc::Receiver<Happening>) {
        let mut correlator = Correlator::new(self.style);
        while let Some(happening) = happenings.recv().await {
            let now = Timestamp::now();
            let step = correlator.step(&happening, now);
            let written = match &step {
                Step::Drop => continue,
                Step::Create { message } => self.create(&happening, message, now).await.map(Some),
                Step::Count { name, count, message } => {
                    self.count(&happening, name, *count, message, now).await
                }
            };
            match written {
                Ok(Some(event)) => correlator.written(&happening, event.name_any(), now),
                // It was deleted or has expired meanwhile: begin anew.
                Ok(None) => match self.create(&happening, &happening.message, now).await {
                    Ok(event) => correlator.restarted(&happening, event.name_any(), now),
                    Err(error) => lost(&happening, &error),
                },
                Err(error) => lost(&happening, &error),
            }
        }
    }

    fn api(&self, happening: &Happening) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace(happening))
    }

    async fn create(
        &self,
        happening: &Happening,
        message: &str,
        now: Timestamp,
    ) -> Result<Event, kube::Error> {
        let event = event(happening, message, self.style, &self.component, &self.host, now);
        self.api(happening).create(&PostParams::default(), &event).await
    }

    async fn count(
        &self,
        happening: &Happening,
        name: &str,
        count: i32,
        message: &str,
        now: Timestamp,
    ) -> Result<Option<Event>, kube::Error> {
        let patch = match self.style {
            Style::Counted => serde_json::json!({
                "count": count,
                "lastTimestamp": Time(now),
                "message": message,
            }),
            Style::Series => serde_json::json!({
                "series": {"count": count, "lastObservedTime": MicroTime(now)},
            }),
        };
        let patched =
            self.api(happening).patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        ignore_not_found(patched)
    }
}

fn lost(happening: &Happening, error: &kube::Error) {
    let reason = &happening.reason;
    // A namespace on its way out takes no more events; that is nothing to tell.
    if matches!(ErrorKind::of(error), ErrorKind::Forbidden | ErrorKind::NotFound) {
        tracing::debug!(reason, %error, "an event was refused");
    } else {
        tracing::warn!(reason, %error, "an event was lost");
    }
}

fn namespace(happening: &Happening) -> &str {
    happening.about.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default")
}

fn event(
    happening: &Happening,
    message: &str,
    style: Style,
    component: &str,
    host: &str,
    now: Timestamp,
) -> Event {
    let mut event = Event {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}.{:x}",
                happening.about.name.as_deref().unwrap_or_default(),
                now.as_nanosecond()
            )),
            namespace: Some(namespace(happening).to_owned()),
            annotations: happening.annotations.clone(),
            ..Default::default()
        },
        involved_object: happening.about.clone(),
        reason: Some(happening.reason.clone()),
        message: Some(message.to_owned()),
        type_: Some(happening.severity.as_str().to_owned()),
        ..Default::default()
    };
    match style {
        Style::Counted => {
            event.count = Some(1);
            event.first_timestamp = Some(Time(now));
            event.last_timestamp = Some(Time(now));
            event.source = Some(EventSource {
                component: Some(component.to_owned()),
                host: (!host.is_empty()).then(|| host.to_owned()),
            });
            event.reporting_component = Some(component.to_owned());
            event.reporting_instance = Some(host.to_owned());
        }
        Style::Series => {
            event.event_time = Some(MicroTime(now));
            event.action = Some(happening.action.clone());
            event.related = happening.related.clone();
            event.reporting_component = Some(component.to_owned());
            event.reporting_instance = Some(format!("{component}-{host}"));
        }
    }
    event
}
