//! Follows the API objects that configure priorities, says in each FlowSchema's status whether its level exists, and
//! keeps the default objects (upstream's "config consumer" and "config producer").

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use machinery::{Get, Value, json, meta};
use tokio::time::Instant;

use super::state::{Reference, State};
use crate::bootstrap::flow as defaults;
use crate::cache::{Interest, Subscription};
use crate::kinds::Resource;
use crate::registry::options::WriteOptions;
use crate::registry::patch::apply_patch_request;
use crate::select::Selector;
use crate::server::Core;

const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
/// A default object that was changed or deleted is mended after this.
const MEND: Duration = Duration::from_secs(60);
/// The status of one schema is written at most so often in a minute: other servers may disagree.
const WRITES_A_MINUTE: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// Takes the configuration as it is now, and follows it from now on.
pub fn start(core: &Arc<Core>) {
    let map = core.kinds.now();
    let found = |name: &str| map.preferred(defaults::GROUP, name);
    let (Some(levels), Some(schemas)) = (found("prioritylevelconfigurations"), found("flowschemas")) else {
        return;
    };
    let mut follower = Follower { core: core.clone(), levels, schemas, written: HashMap::new() };
    follower.digest();
    tokio::spawn(async move {
        let shutdown = follower.core.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follower.run() => {}
        }
    });
}

struct Follower {
    core: Arc<Core>,
    levels: Arc<Resource>,
    schemas: Arc<Resource>,
    /// When the statuses were written lately.
    written: HashMap<String, Vec<Instant>>,
}

impl Follower {
    async fn run(&mut self) {
        loop {
            let (Some(mut levels), Some(mut schemas)) = (watch(&self.levels), watch(&self.schemas)) else {
                return;
            };
            // nothing is missed between the start of the watches and this
            let mut retry = self.follow_up().await;
            let mut mend = Instant::now() + MEND;
            let mut changed = false;
            loop {
                let flow = &self.core.flow;
                let (goes_on, mended) = tokio::select! {
                    event = levels.next() => (event.is_some(), false),
                    event = schemas.next() => (event.is_some(), false),
                    () = flow.reload.notified() => (true, false),
                    () = tokio::time::sleep_until(mend), if changed => (true, true),
                    () = tokio::time::sleep_until(retry.unwrap_or(mend)), if retry.is_some() => (true, false),
                };
                if !goes_on {
                    break;
                }
                while levels.try_next().is_some() || schemas.try_next().is_some() {}
                if mended {
                    changed = false;
                    if let Err(status) = defaults::ensure_all(&self.core).await {
                        tracing::warn!(error = %status.message, "can't mend the default flow control objects");
                        (changed, mend) = (true, Instant::now() + MEND);
                    }
                } else if !changed {
                    (changed, mend) = (true, Instant::now() + MEND);
                }
                retry = self.follow_up().await;
            }
        }
    }

    /// Brings configuration and statuses up to date; when to do so again, if that is known now.
    async fn follow_up(&mut self) -> Option<Instant> {
        let mut retry = None;
        for reference in self.digest() {
            let Some(condition) = dangling(&reference) else { continue };
            let name = meta::name(&reference.schema).to_owned();
            let now = Instant::now();
            let written = self.written.entry(name.clone()).or_default();
            written.retain(|at| now.duration_since(*at) < MINUTE);
            if written.len() >= WRITES_A_MINUTE {
                retry = Some(now + MINUTE / 2);
                continue;
            }
            written.push(now);
            self.write(&name, condition).await;
        }
        retry
    }

    fn digest(&self) -> Vec<Reference> {
        let all = |resource: &Resource| -> Vec<Value> {
            let objects = resource.home.as_ref().map(|home| home.cache.snapshot().0);
            objects.iter().flat_map(|all| all.values()).map(|entry| entry.parse()).collect()
        };
        let (levels, schemas) = (all(&self.levels), all(&self.schemas));
        self.core.flow.configure(&levels, &schemas)
    }

    async fn write(&self, name: &str, condition: Value) {
        let mut call = self.core.internal_call(self.schemas.clone(), "patch", "", name);
        call.info.subresource = "status".to_owned();
        let patch = json!({"apiVersion": self.schemas.api_version(), "kind": self.schemas.kind,
            "metadata": {"name": name}, "status": {"conditions": [condition]}});
        let options =
            WriteOptions { manager: MANAGER.to_owned(), force: Some(true), ..WriteOptions::default() };
        match apply_patch_request(&mut call, patch, &options).await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => {
                tracing::warn!(schema = name, error = %status.message, "can't write a FlowSchema's status");
            }
        }
    }
}

fn watch(resource: &Resource) -> Option<Subscription> {
    let interest = Interest::new("", Selector::default());
    Some(resource.home.as_ref()?.cache.watch_now(interest).0)
}

/// The condition that a schema should have, if it has another.
fn dangling(reference: &Reference) -> Option<Value> {
    let level = machinery::field::go_quote(&reference.level);
    let named = format!("This FlowSchema references the PriorityLevelConfiguration object named {level}");
    let (status, reason, message) = match reference.found {
        true => ("False", "Found", format!("{named} and it exists")),
        false => ("True", "NotFound", format!("{named} but there is no such object")),
    };
    let conditions = reference.schema.at("status").list("conditions");
    let has = conditions.iter().find(|c| c.text("type") == "Dangling");
    if has.is_some_and(|c| {
        c.text("status") == status && c.text("reason") == reason && c.text("message") == message
    }) {
        return None;
    }
    let now = crate::registry::fields::timestamp(jiff::Timestamp::now());
    Some(json!({"type": "Dangling", "status": status, "lastTransitionTime": now, "reason": reason,
        "message": message}))
}

impl super::Flow {
    /// Takes what the objects say; whether each schema's level is there.
    pub fn configure(&self, levels: &[Value], schemas: &[Value]) -> Vec<Reference> {
        let now = self.now();
        let before = match self.state() {
            Some(state) => state,
            // statuses are kept also where priorities are switched off
            None => return State::mandatory(self.seats).next(levels, schemas, now).1,
        };
        let (state, references) = before.next(levels, schemas, now);
        if let Some(place) = &self.state {
            *place.write() = Arc::new(state);
        }
        references
    }
}
