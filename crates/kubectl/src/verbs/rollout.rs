//! `kubectl rollout status|restart`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::wait::next_change;
use super::{Session, Target, targets};
use crate::api;
use crate::error::{Error, Result};
use crate::output::say;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Watch a rollout until it is done
    Status {
        #[arg(required = true)]
        words: Vec<String>,
        /// Give up after this many seconds; 0 never does
        #[arg(long, default_value = "0s", value_parser = super::wait::duration)]
        timeout: Duration,
    },
    /// Replace all pods, step by step
    Restart {
        #[arg(required = true)]
        words: Vec<String>,
    },
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let resources = session.resources().await?;
    match arguments.action {
        Action::Status { words, timeout } => {
            for target in targets(&resources, &words)? {
                status(session, &target, timeout).await?;
            }
        }
        Action::Restart { words } => {
            for target in targets(&resources, &words)? {
                restart(session, &target).await?;
            }
        }
    }
    Ok(0)
}

async fn restart(session: &Session, target: &Target) -> Result<()> {
    let name = target.name.as_deref().ok_or_else(|| Error::Usage("name the object to restart".into()))?;
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).map_err(|e| Error::Usage(e.to_string()))?;
    let annotation = json!({"kubectl.kubernetes.io/restartedAt": now.to_string()});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotation}}}});
    let path = api::path(&target.resource, &session.namespace, Some(name));
    let query = api::query(&[("fieldManager", "kubectl-rollout")]);
    api::patch(&session.client, &format!("{path}{query}"), "strategic-merge-patch+json", &patch).await?;
    say(&format!("{}/{name} restarted\n", target.resource.qualified_singular()));
    Ok(())
}

async fn status(session: &Session, target: &Target, timeout: Duration) -> Result<()> {
    let name = target.name.as_deref().ok_or_else(|| Error::Usage("name the object to watch".into()))?;
    let deadline = (!timeout.is_zero()).then(|| Instant::now() + timeout);
    let path = api::path(&target.resource, &session.namespace, Some(name));
    let mut last = String::new();
    loop {
        let object = api::get(&session.client, &path, "application/json").await?;
        let (message, done) = match target.resource.kind.as_str() {
            "Deployment" => deployment(&object, name)?,
            "DaemonSet" => daemon_set(&object, name),
            "StatefulSet" => stateful_set(&object),
            other => return Err(Error::Usage(format!("no status viewer has been implemented for {other}"))),
        };
        if message != last {
            say(&format!("{message}\n"));
            last = message;
        }
        if done {
            return Ok(());
        }
        next_change(session, target, &object, deadline).await?;
    }
}

fn number(value: &Value, fallback: i64) -> i64 {
    value.as_i64().unwrap_or(fallback)
}

/// kubectl's own words: a message, and whether the rollout is done.
fn deployment(object: &Value, name: &str) -> Result<(String, bool)> {
    let (spec, status) = (&object["spec"], &object["status"]);
    if number(&object["metadata"]["generation"], 0) > number(&status["observedGeneration"], 0) {
        return Ok(("Waiting for deployment spec update to be observed...".into(), false));
    }
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let progressing = conditions.iter().find(|c| c["type"] == "Progressing");
    if progressing.is_some_and(|c| c["reason"] == "ProgressDeadlineExceeded") {
        return Err(Error::Usage(format!("deployment \"{name}\" exceeded its progress deadline")));
    }
    let wanted = number(&spec["replicas"], 1);
    let (all, updated) = (number(&status["replicas"], 0), number(&status["updatedReplicas"], 0));
    let available = number(&status["availableReplicas"], 0);
    let begin = format!("Waiting for deployment \"{name}\" rollout to finish:");
    Ok(if updated < wanted {
        (format!("{begin} {updated} out of {wanted} new replicas have been updated..."), false)
    } else if all > updated {
        (format!("{begin} {} old replicas are pending termination...", all - updated), false)
    } else if available < updated {
        (format!("{begin} {available} of {updated} updated replicas are available..."), false)
    } else {
        (format!("deployment \"{name}\" successfully rolled out"), true)
    })
}

fn daemon_set(object: &Value, name: &str) -> (String, bool) {
    let status = &object["status"];
    if number(&object["metadata"]["generation"], 0) > number(&status["observedGeneration"], 0) {
        return ("Waiting for daemon set spec update to be observed...".into(), false);
    }
    let wanted = number(&status["desiredNumberScheduled"], 0);
    let (updated, available) =
        (number(&status["updatedNumberScheduled"], 0), number(&status["numberAvailable"], 0));
    let begin = format!("Waiting for daemon set \"{name}\" rollout to finish:");
    if updated < wanted {
        (format!("{begin} {updated} out of {wanted} new pods have been updated..."), false)
    } else if available < wanted {
        (format!("{begin} {available} of {wanted} updated pods are available..."), false)
    } else {
        (format!("daemon set \"{name}\" successfully rolled out"), true)
    }
}

fn stateful_set(object: &Value) -> (String, bool) {
    let (spec, status) = (&object["spec"], &object["status"]);
    if number(&object["metadata"]["generation"], 0) > number(&status["observedGeneration"], 0) {
        return ("Waiting for statefulset spec update to be observed...".into(), false);
    }
    let wanted = number(&spec["replicas"], 1);
    let ready = number(&status["readyReplicas"], 0);
    if ready < wanted {
        return (format!("Waiting for {} pods to be ready...", wanted - ready), false);
    }
    let updated = number(&status["updatedReplicas"], 0);
    if status["updateRevision"] != status["currentRevision"] {
        return (
            format!(
                "waiting for statefulset rolling update to complete {updated} pods at revision {}...",
                status["updateRevision"].as_str().unwrap_or("")
            ),
            false,
        );
    }
    let revision = status["currentRevision"].as_str().unwrap_or("");
    (format!("statefulset rolling update complete {wanted} pods at revision {revision}..."), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployment_progress_reads_as_kubectl() {
        let status = |status: Value| {
            deployment(
                &json!({"metadata": {"generation": 1}, "spec": {"replicas": 3}, "status": status}),
                "web",
            )
            .unwrap()
        };
        assert_eq!(status(json!({})).0, "Waiting for deployment spec update to be observed...");
        let begin = "Waiting for deployment \"web\" rollout to finish:";
        let (text, done) = status(json!({"observedGeneration": 1, "updatedReplicas": 1}));
        assert_eq!((text, done), (format!("{begin} 1 out of 3 new replicas have been updated..."), false));
        let (text, done) = status(
            json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
        );
        assert_eq!((text.as_str(), done), ("deployment \"web\" successfully rolled out", true));
    }
}
