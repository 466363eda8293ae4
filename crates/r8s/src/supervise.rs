//! Runs components side by side: a panic or an error in one is reported and that one is started again, with
//! back-off; the others do not notice. Says of each when it is up.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Running this long counts as healthy: the next failure starts the back-off anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The components of this process.
pub struct Supervisor {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Supervisor {
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), shutdown }
    }

    /// Keeps `component` running until shutdown. `component` is called for each start, with what it tells that it is
    /// up by.
    pub fn run<F, Fut, E>(&mut self, name: &'static str, mut component: F)
    where
        F: FnMut(oneshot::Sender<()>, CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let mut delay = FIRST_DELAY;
            while !shutdown.is_cancelled() {
                let started = Instant::now();
                let (ready, up) = oneshot::channel();
                tokio::spawn(async move {
                    if up.await.is_ok() {
                        println!("{name} up after {} ms", started.elapsed().as_millis());
                    }
                });
                // A task of its own, so that a panic ends there.
                let outcome = tokio::spawn(component(ready, shutdown.clone())).await;
                if shutdown.is_cancelled() {
                    return;
                }
                if started.elapsed() > HEALTHY_AFTER {
                    delay = FIRST_DELAY;
                }
                match outcome {
                    Ok(Ok(())) => tracing::error!(component = name, "ended early; starting it again"),
                    Ok(Err(error)) => tracing::error!(component = name, %error, "failed; starting it again"),
                    Err(panic) => tracing::error!(component = name, %panic, "panicked; starting it again"),
                }
                let _ = tokio::time::timeout(delay, shutdown.cancelled()).await;
                delay = (delay * 2).min(LONGEST_DELAY);
            }
        });
    }

    /// Waits for shutdown and then for all components, at most `limit`.
    pub async fn finish(mut self, limit: Duration) {
        self.shutdown.cancelled().await;
        let all_done = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all_done).await.is_err() {
            tracing::warn!("some components did not stop in {limit:?}; leaving them");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_contained_and_the_component_starts_again() {
        let shutdown = CancellationToken::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        let starts = Arc::new(AtomicUsize::new(0));
        let counter = starts.clone();
        supervisor.run("fragile", move |_ready, shutdown| {
            let start = counter.fetch_add(1, Ordering::SeqCst);
            async move {
                match start {
                    0 => panic!("first"),
                    1 => return Err("second"),
                    _ => shutdown.cancel(),
                }
                Ok(())
            }
        });
        tokio::time::timeout(Duration::from_secs(60), supervisor.finish(Duration::from_secs(5)))
            .await
            .unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}
