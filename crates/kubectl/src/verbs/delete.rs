//! `kubectl delete`.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::wait::gone;
use super::{Session, Target, targets};
use crate::error::{Error, Result};
use crate::output::say;
use crate::{api, discovery, manifest};

#[derive(clap::Args)]
pub struct Arguments {
    /// TYPE NAME…, TYPE/NAME…, or TYPE with --all or a selector
    words: Vec<String>,
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: Vec<String>,
    /// Label selector
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// What becomes of dependents
    #[arg(long, default_value = "background", num_args = 0..=1, default_missing_value = "background", value_parser = ["background", "foreground", "orphan"])]
    cascade: String,
    /// Seconds the object has to end; -1 leaves it to the object
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// Delete at once (with --grace-period=0)
    #[arg(long)]
    force: bool,
    #[arg(long)]
    ignore_not_found: bool,
    /// Return only when the objects are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    wait: bool,
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let resources = session.resources().await?;
    let mut doomed: Vec<(Target, String)> = Vec::new();
    if arguments.filename.is_empty() {
        for target in targets(&resources, &arguments.words)? {
            if target.name.is_some() {
                doomed.push((target, session.namespace.clone()));
            } else if arguments.all || arguments.selector.is_some() {
                let selector = arguments.selector.as_deref().unwrap_or("");
                let query = api::query(&[("labelSelector", selector)]);
                let path = format!("{}{query}", api::path(&target.resource, &session.namespace, None));
                let list = api::get(&session.client, &path, "application/json").await?;
                for object in list["items"].as_array().into_iter().flatten() {
                    let name = object["metadata"]["name"].as_str().map(str::to_owned);
                    doomed.push((Target { name, ..target.clone() }, session.namespace.clone()));
                }
            } else {
                return Err(Error::Usage("resource(s) were provided, but no name was specified".into()));
            }
        }
    } else {
        for object in manifest::read(&arguments.filename, false)? {
            let resource = discovery::of_object(&resources, &object)?.clone();
            let name = object["metadata"]["name"].as_str().map(str::to_owned);
            doomed.push((Target { resource, name }, session.namespace_of(&object)?));
        }
    }
    let mut deleted = Vec::new();
    for (target, namespace) in doomed {
        if let Some(uid) = delete(&arguments, session, &target, &namespace).await? {
            deleted.push((target, namespace, uid));
        }
    }
    if arguments.wait {
        for (target, namespace, uid) in &deleted {
            gone(session, target, namespace, Some(uid), Duration::from_secs(7 * 24 * 3600)).await?;
        }
    }
    Ok(0)
}

/// Asks for the deletion; the uid of what is being deleted, `None` if there was nothing.
async fn delete(
    arguments: &Arguments,
    session: &Session,
    target: &Target,
    namespace: &str,
) -> Result<Option<String>> {
    let name = target.name.as_deref().unwrap_or("");
    let policy = match arguments.cascade.as_str() {
        "foreground" => "Foreground",
        "orphan" => "Orphan",
        _ => "Background",
    };
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    if arguments.force || arguments.grace_period >= 0 {
        options["gracePeriodSeconds"] = if arguments.force { 0 } else { arguments.grace_period }.into();
    }
    let path = api::path(&target.resource, namespace, Some(name));
    let answer = match api::send_json(&session.client, Method::DELETE, &path, &options).await {
        Err(error) if error.is_not_found() && arguments.ignore_not_found => return Ok(None),
        other => other?,
    };
    let within =
        if target.resource.namespaced { format!(" from {namespace} namespace") } else { String::new() };
    say(&format!("{} \"{name}\" deleted{within}\n", target.resource.qualified_singular()));
    let uid = [&answer["details"]["uid"], &answer["metadata"]["uid"]].into_iter().find_map(Value::as_str);
    Ok(Some(uid.unwrap_or("").to_owned()))
}
