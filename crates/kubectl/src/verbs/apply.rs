//! `kubectl apply` (server-side) and `kubectl create`.

use http::Method;
use serde_json::Value;

use super::Session;
use crate::discovery::{self, Resource};
use crate::error::Result;
use crate::output::say;
use crate::{api, manifest};

#[derive(clap::Args)]
pub struct ApplyArguments {
    /// Files, folders, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<String>,
    /// Folders within folders too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Take fields over from other managers
    #[arg(long)]
    force_conflicts: bool,
    /// Accepted for compatibility: apply is always server-side here
    #[arg(long)]
    server_side: bool,
    #[arg(long, default_value = "kubectl", value_name = "NAME")]
    field_manager: String,
}

#[derive(clap::Args)]
pub struct CreateArguments {
    /// Files, folders, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<String>,
    #[arg(short = 'R', long)]
    recursive: bool,
}

pub async fn apply(arguments: ApplyArguments, session: &Session) -> Result<u8> {
    let objects = manifest::read(&arguments.filename, arguments.recursive)?;
    let mut resources = session.resources().await?;
    for object in &objects {
        let resource = look_up(&mut resources, session, object).await?;
        let namespace = session.namespace_of(object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        let force = if arguments.force_conflicts { "true" } else { "" };
        let query = api::query(&[("fieldManager", &arguments.field_manager), ("force", force)]);
        let path = api::path(&resource, &namespace, Some(name));
        api::patch(&session.client, &format!("{path}{query}"), "apply-patch+yaml", object).await?;
        say(&format!("{}/{name} serverside-applied\n", resource.qualified_singular()));
    }
    Ok(0)
}

pub async fn create(arguments: CreateArguments, session: &Session) -> Result<u8> {
    let objects = manifest::read(&arguments.filename, arguments.recursive)?;
    let mut resources = session.resources().await?;
    for object in &objects {
        let resource = look_up(&mut resources, session, object).await?;
        let path = api::path(&resource, &session.namespace_of(object)?, None);
        let query = api::query(&[("fieldManager", "kubectl-create")]);
        let made = api::send_json(&session.client, Method::POST, &format!("{path}{query}"), object).await?;
        let name = made["metadata"]["name"].as_str().unwrap_or("");
        say(&format!("{}/{name} created\n", resource.qualified_singular()));
    }
    Ok(0)
}

/// An earlier object of the same run may have been the CRD of this one: then discovery is asked again.
async fn look_up(resources: &mut Vec<Resource>, session: &Session, object: &Value) -> Result<Resource> {
    if let Ok(found) = discovery::of_object(resources, object) {
        return Ok(found.clone());
    }
    *resources = session.resources().await?;
    discovery::of_object(resources, object).cloned()
}
