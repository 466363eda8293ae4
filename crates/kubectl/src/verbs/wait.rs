//! `kubectl wait`, and waiting for other verbs: by watching, never by polling.

use std::time::{Duration, Instant};

use futures_util::{AsyncBufReadExt, TryStreamExt};
use http::Method;
use serde_json::Value;

use super::{Session, Target, targets};
use crate::api;
use crate::error::{Error, Result};
use crate::output::say;

#[derive(clap::Args)]
pub struct Arguments {
    /// TYPE NAME…, TYPE/NAME…, or TYPE with a selector
    #[arg(required = true)]
    words: Vec<String>,
    /// condition=NAME[=VALUE], delete, create, or jsonpath='{.path}'=VALUE
    #[arg(long = "for", value_name = "WHAT")]
    what: String,
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// What is waited for.
#[derive(Debug, PartialEq, Eq)]
enum Goal {
    Condition { name: String, value: String },
    Field { path: Vec<String>, value: String },
    Created,
    Gone,
}

impl Goal {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::Usage(format!(
                "unrecognized condition: \"{text}\" (want condition=NAME, delete, create, or jsonpath='{{.path}}'=VALUE)"
            ))
        };
        if text == "delete" {
            return Ok(Goal::Gone);
        }
        if text == "create" {
            return Ok(Goal::Created);
        }
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Goal::Condition { name: name.to_lowercase(), value: value.to_lowercase() });
        }
        let rest = text.strip_prefix("jsonpath=").ok_or_else(wrong)?;
        let (path, value) = rest.rsplit_once('=').ok_or_else(wrong)?;
        let path = path.trim_matches('\'').trim_start_matches('{').trim_end_matches('}');
        let path = path.trim_start_matches('.').split('.').map(str::to_owned).collect();
        Ok(Goal::Field { path, value: value.trim_matches('\'').to_owned() })
    }

    fn reached(&self, object: &Value) -> bool {
        match self {
            Goal::Gone => false,
            Goal::Created => true,
            Goal::Condition { name, value } => {
                let conditions =
                    object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
                let is =
                    |field: &Value, wanted: &str| field.as_str().is_some_and(|f| f.to_lowercase() == wanted);
                conditions.iter().any(|c| is(&c["type"], name) && is(&c["status"], value))
            }
            Goal::Field { path, value } => {
                let found = path.iter().fold(object, |at, step| &at[step.as_str()]);
                found.as_str().map_or_else(|| found.to_string(), str::to_owned) == *value
            }
        }
    }
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let goal = Goal::parse(&arguments.what)?;
    let resources = session.resources().await?;
    let deadline = Instant::now() + arguments.timeout;
    let mut waited_for = Vec::new();
    for target in targets(&resources, &arguments.words)? {
        if target.name.is_some() {
            waited_for.push(target);
            continue;
        }
        let query = api::query(&[("labelSelector", arguments.selector.as_deref().unwrap_or(""))]);
        let path = format!("{}{query}", api::path(&target.resource, &session.namespace, None));
        let list = api::get(&session.client, &path, "application/json").await?;
        for object in list["items"].as_array().into_iter().flatten() {
            let name = object["metadata"]["name"].as_str().map(str::to_owned);
            waited_for.push(Target { name, ..target.clone() });
        }
    }
    if waited_for.is_empty() {
        return Err(Error::Usage("no matching resources found".into()));
    }
    for target in &waited_for {
        let shown =
            format!("{}/{}", target.resource.qualified_singular(), target.name.as_deref().unwrap_or(""));
        if goal == Goal::Gone {
            gone(
                session,
                target,
                &session.namespace,
                None,
                deadline.saturating_duration_since(Instant::now()),
            )
            .await?;
        } else {
            until(session, target, &goal, deadline).await?;
        }
        say(&format!("{shown} condition met\n"));
    }
    Ok(0)
}

async fn until(session: &Session, target: &Target, goal: &Goal, deadline: Instant) -> Result<()> {
    let path = api::path(&target.resource, &session.namespace, target.name.as_deref());
    loop {
        let object = match api::get(&session.client, &path, "application/json").await {
            Err(error) if error.is_not_found() && *goal == Goal::Created => Value::Null,
            other => other?,
        };
        if !object.is_null() && goal.reached(&object) {
            return Ok(());
        }
        next_change(session, target, &object, Some(deadline)).await?;
    }
}

/// Waits until the object is gone, or another has its name.
pub async fn gone(
    session: &Session,
    target: &Target,
    namespace: &str,
    uid: Option<&str>,
    limit: Duration,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let path = api::path(&target.resource, namespace, target.name.as_deref());
    loop {
        let object = match api::get(&session.client, &path, "application/json").await {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let other = uid.is_some_and(|uid| !uid.is_empty() && object["metadata"]["uid"] != uid);
        if other {
            return Ok(());
        }
        next_change_in(session, target, namespace, &object, Some(deadline)).await?;
    }
}

/// Returns when the object has changed since `seen`.
pub async fn next_change(
    session: &Session,
    target: &Target,
    seen: &Value,
    deadline: Option<Instant>,
) -> Result<()> {
    next_change_in(session, target, &session.namespace, seen, deadline).await
}

async fn next_change_in(
    session: &Session,
    target: &Target,
    namespace: &str,
    seen: &Value,
    deadline: Option<Instant>,
) -> Result<()> {
    let name = target.name.as_deref().unwrap_or("");
    let fields = format!("metadata.name={name}");
    let version = seen["metadata"]["resourceVersion"].as_str().unwrap_or("");
    let query = api::query(&[("watch", "true"), ("fieldSelector", &fields), ("resourceVersion", version)]);
    let path = format!("{}{query}", api::path(&target.resource, namespace, None));
    let request = api::request(Method::GET, &path, "application/json", "", Vec::new())?;
    let change = async {
        let mut lines = session.client.request_stream(request).await?.lines();
        // Any event, also an error (then the caller looks again), is news.
        lines.try_next().await?;
        Ok::<(), Error>(())
    };
    match deadline {
        None => change.await,
        Some(deadline) => {
            let limit = deadline.saturating_duration_since(Instant::now());
            let timed_out = || Error::TimedOut(format!("{}/{name}", target.resource.qualified()));
            tokio::time::timeout(limit, change).await.map_err(|_| timed_out())?
        }
    }
}

/// `30s`, `2m`, `1h30m`, or plain seconds.
pub fn duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration like 30s or 2m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = 0;
    let mut digits = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' => digits.push(c),
            _ => {
                let count: u64 = std::mem::take(&mut digits).parse().map_err(|_| wrong())?;
                total += count
                    * match c {
                        's' => 1,
                        'm' => 60,
                        'h' => 3600,
                        _ => return Err(wrong()),
                    };
            }
        }
    }
    if digits.is_empty() && !text.is_empty() { Ok(Duration::from_secs(total)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn goals() {
        let ready = Goal::parse("condition=Ready").unwrap();
        let pod = |status: &str| json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}});
        assert!(ready.reached(&pod("True")) && !ready.reached(&pod("False")));
        assert!(Goal::parse("condition=Ready=False").unwrap().reached(&pod("False")));
        assert!(Goal::parse("jsonpath={.status.phase}=Running").unwrap().reached(&pod("True")));
        assert!(Goal::parse("nonsense").is_err());
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert!(duration("5x").is_err() && duration("").is_err());
    }
}
