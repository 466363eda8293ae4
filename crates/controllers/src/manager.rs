//! Starts the selected controllers and keeps them running.

use std::sync::Arc;
use std::time::Duration;

use client::Informers;
use client::backoff::Backoff;
use client::events::{Recorder, Style};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::common::Context;
use crate::table::{Controller, TABLE};

/// What the controller manager is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names of controllers: `*` is all that are on by default, `foo` turns one on, `-foo` off.
    pub controllers: Vec<String>,
    /// Reconciles one controller has under way at the same time.
    pub concurrency: usize,
    /// The certificates (PEM) that pods verify the API server by; published as `kube-root-ca.crt`.
    pub root_ca: Option<String>,
    /// Signs approved certificate requests; without one they stay unsigned.
    pub authority: Option<Arc<pki::Authority>>,
    /// Pod ranges to give nodes a part of, as `10.244.0.0/16`; empty leaves nodes without.
    pub cluster_cidrs: Vec<String>,
    /// Prefix lengths of a node's part, for IPv4 and IPv6.
    pub node_cidr_masks: (u8, u8),
    /// How long a node may be silent before its state is unknown.
    pub node_monitor_grace: Duration,
    /// Finished pods kept before the oldest are collected; 0 keeps all.
    pub terminated_pod_threshold: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            controllers: vec!["*".into()],
            concurrency: 32,
            root_ca: None,
            authority: None,
            cluster_cidrs: Vec::new(),
            node_cidr_masks: (24, 64),
            node_monitor_grace: Duration::from_secs(50),
            terminated_pod_threshold: 12500,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no controller named {0:?}")]
    UnknownController(String),
}

/// Runs until `shutdown`.
///
/// `client` is the manager's own and fills the shared informers; `client_for` gives a controller's client by the
/// name of its service account in `kube-system`. `ready` is told when all have been started. A controller that
/// panics is logged and started again; the others do not notice.
pub async fn run(
    config: Config,
    client: kube::Client,
    client_for: impl Fn(&str) -> kube::Client,
    ready: tokio::sync::oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let selected = select(&config.controllers)?;
    let config = Arc::new(config);
    let informers = Informers::new(client, shutdown.clone());
    let mut running = JoinSet::new();
    for controller in selected {
        let client = client_for(controller.service_account);
        let context = Context {
            informers: informers.clone(),
            recorder: Recorder::new(client.clone(), Style::Counted, controller.component, ""),
            client,
            config: config.clone(),
            shutdown: shutdown.clone(),
        };
        running.spawn(keep_running(controller, context));
    }
    // Nobody may be listening any more.
    let _ = ready.send(());
    while running.join_next().await.is_some() {}
    Ok(())
}

fn select(names: &[String]) -> Result<Vec<&'static Controller>, Error> {
    for name in names {
        let plain = name.strip_prefix('-').unwrap_or(name);
        if plain != "*" && !TABLE.iter().any(|controller| controller.name == plain) {
            return Err(Error::UnknownController(plain.to_owned()));
        }
    }
    let named = |wanted: &str| names.iter().any(|name| name == wanted);
    Ok(TABLE
        .iter()
        .filter(|controller| {
            // A name of its own beats the star.
            if named(&format!("-{}", controller.name)) {
                return false;
            }
            named(controller.name) || (named("*") && controller.on_by_default)
        })
        .collect())
}

async fn keep_running(controller: &'static Controller, context: Context) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 0.2);
    loop {
        // A task of its own, so that a panic ends there.
        let end = tokio::spawn((controller.start)(context.clone())).await;
        if context.shutdown.is_cancelled() {
            return;
        }
        match end {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(controller = controller.name, %error, "controller failed; starting it again")
            }
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.wait()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Result<Vec<&'static str>, Error> {
        let of: Vec<String> = of.iter().map(ToString::to_string).collect();
        Ok(select(&of)?.iter().map(|controller| controller.name).collect())
    }

    #[test]
    fn selection() {
        let all = names(&["*"]).unwrap();
        assert!(all.contains(&"replicaset-controller"));
        assert_eq!(names(&["replicaset-controller"]).unwrap(), ["replicaset-controller"]);
        let rest = names(&["*", "-replicaset-controller"]).unwrap();
        assert_eq!(rest.len(), all.len() - 1);
        assert!(matches!(names(&["nonsense"]), Err(Error::UnknownController(name)) if name == "nonsense"));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = TABLE.iter().map(|controller| controller.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
