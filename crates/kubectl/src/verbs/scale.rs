//! `kubectl scale`.

use serde_json::json;

use super::{Session, targets};
use crate::api;
use crate::error::{Error, Result};
use crate::output::say;

#[derive(clap::Args)]
pub struct Arguments {
    /// TYPE NAME or TYPE/NAME
    #[arg(required = true)]
    words: Vec<String>,
    /// The new number of replicas
    #[arg(long)]
    replicas: u32,
    /// Only if this is the number now
    #[arg(long)]
    current_replicas: Option<i64>,
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let resources = session.resources().await?;
    for target in targets(&resources, &arguments.words)? {
        let name = target.name.as_deref().ok_or_else(|| Error::Usage("name the object to scale".into()))?;
        let path = format!("{}/scale", api::path(&target.resource, &session.namespace, Some(name)));
        if let Some(expected) = arguments.current_replicas {
            let scale = api::get(&session.client, &path, "application/json").await?;
            let now = scale["spec"]["replicas"].as_i64().unwrap_or(0);
            if now != expected {
                return Err(Error::Usage(format!("Expected replicas to be {expected}, was {now}")));
            }
        }
        let patch = json!({"spec": {"replicas": arguments.replicas}});
        api::patch(&session.client, &path, "merge-patch+json", &patch).await?;
        say(&format!("{}/{name} scaled\n", target.resource.qualified_singular()));
    }
    Ok(0)
}
