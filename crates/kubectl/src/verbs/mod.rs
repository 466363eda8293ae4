//! One file per verb: `(arguments, session) -> exit status`.

mod api_resources;
mod apply;
mod delete;
mod exec;
mod get;
mod logs;
mod rollout;
mod scale;
mod version;
mod wait;

use clap::{Args, Parser, Subcommand};
use kube::Client;

use crate::api;
use crate::discovery::{self, Resource};
use crate::error::{Error, Result};

/// kubectl controls the cluster (a first cut: the verbs of every day).
#[derive(Parser)]
#[command(name = "kubectl", disable_help_subcommand = true, max_term_width = 100)]
pub struct Kubectl {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Global {
    /// Kubeconfig file
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Namespace
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the resources the server serves
    #[command(name = "api-resources")]
    ApiResources(api_resources::Arguments),
    /// Make objects as files say (server-side apply)
    Apply(apply::ApplyArguments),
    /// Create the objects of files
    Create(apply::CreateArguments),
    /// Delete objects by name, label or file
    Delete(delete::Arguments),
    /// Run a command in a container
    Exec(exec::Arguments),
    /// Show objects
    Get(get::Arguments),
    /// Print a container's logs
    Logs(logs::Arguments),
    /// Restart workloads or watch their rollout
    Rollout(rollout::Arguments),
    /// Set the number of replicas
    Scale(scale::Arguments),
    /// Print the versions of client and server
    Version(version::Arguments),
    /// Wait for a condition of objects
    Wait(wait::Arguments),
}

impl Kubectl {
    /// Does what the command line says. `Ok` is the exit status; an error is printed by the caller (status 1).
    pub async fn run(self) -> Result<u8> {
        let Global { kubeconfig, context, namespace } = self.global;
        let (client, default_namespace) = api::connect(kubeconfig.as_deref(), context.as_deref()).await?;
        let session = Session {
            client,
            named_namespace: namespace.clone(),
            namespace: namespace.unwrap_or(default_namespace),
        };
        match self.verb {
            Verb::ApiResources(arguments) => api_resources::run(arguments, &session).await,
            Verb::Apply(arguments) => apply::apply(arguments, &session).await,
            Verb::Create(arguments) => apply::create(arguments, &session).await,
            Verb::Delete(arguments) => delete::run(arguments, &session).await,
            Verb::Exec(arguments) => exec::run(arguments, &session).await,
            Verb::Get(arguments) => get::run(arguments, &session).await,
            Verb::Logs(arguments) => logs::run(arguments, &session).await,
            Verb::Rollout(arguments) => rollout::run(arguments, &session).await,
            Verb::Scale(arguments) => scale::run(arguments, &session).await,
            Verb::Version(arguments) => version::run(arguments, &session).await,
            Verb::Wait(arguments) => wait::run(arguments, &session).await,
        }
    }
}

/// What every verb works with.
struct Session {
    client: Client,
    /// With `--namespace` or from the kubeconfig.
    namespace: String,
    named_namespace: Option<String>,
}

/// The objects a command line names: `TYPE/NAME …`, `TYPE NAME …`, or `TYPE` with a selector.
#[derive(Clone, Debug)]
struct Target {
    resource: Resource,
    /// `None`: all of them (that the selector matches).
    name: Option<String>,
}

impl Session {
    async fn resources(&self) -> Result<Vec<Resource>> {
        discovery::all(&self.client).await
    }

    /// The namespace an object goes to.
    fn namespace_of(&self, object: &serde_json::Value) -> Result<String> {
        let own = object["metadata"]["namespace"].as_str().unwrap_or("");
        match (&self.named_namespace, own) {
            (Some(named), own) if !own.is_empty() && own != named => Err(Error::Usage(format!(
                "the namespace from the provided object \"{own}\" does not match the namespace \"{named}\". You must pass '--namespace={own}' to perform this operation."
            ))),
            (_, "") => Ok(self.namespace.clone()),
            (_, own) => Ok(own.to_owned()),
        }
    }
}

/// Resolves `TYPE[,TYPE] [NAME…]` and `TYPE/NAME…`.
fn targets(resources: &[Resource], words: &[String]) -> Result<Vec<Target>> {
    let Some(first) = words.first() else {
        return Err(Error::Usage(
            "you must specify the type of resource: TYPE, TYPE NAME or TYPE/NAME".into(),
        ));
    };
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| {
                let (kind, name) = word.split_once('/').ok_or_else(|| {
                    Error::Usage("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form".into())
                })?;
                Ok(Target { resource: discovery::find(resources, kind)?.clone(), name: Some(name.to_owned()) })
            })
            .collect();
    }
    let kinds = discovery::find_many(resources, first)?;
    if words.len() == 1 {
        return Ok(kinds.into_iter().map(|r| Target { resource: r.clone(), name: None }).collect());
    }
    let mut found = Vec::new();
    for resource in kinds {
        for name in &words[1..] {
            found.push(Target { resource: resource.clone(), name: Some(name.clone()) });
        }
    }
    Ok(found)
}
