//! Lives of an embedded store on a simulated disk that crashes, one after the other, judged by the model.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Dice, History, Traffic, Violation, Watched, check};
use crate::embedded::sim::{Faults, SimDisk};
use crate::embedded::{self, Options};
use crate::{Error, KeyRange, RangeRequest};

/// How the disk behaves.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub seed: u64,
    pub lives: u64,
    /// At the end of a life sectors and names that were not synced may be lost; otherwise only the process dies.
    pub power_loss: bool,
    /// Now and then writes and syncs fail.
    pub faults: bool,
}

/// Why a world is not sound.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    #[error("life {life}: {error}")]
    Store { life: u64, error: Error },
    #[error(transparent)]
    Model(#[from] Violation),
}

fn small() -> Options {
    Options { segment_size: 64 << 10, checkpoint_every: 32 << 10, retain: None, ..Options::default() }
}

/// Runs the lives of one store and judges the whole; answers how many writes were acknowledged.
pub async fn live(world: World) -> Result<u64, Unsound> {
    let World { seed, lives, power_loss, faults } = world;
    let mut dice = Dice::new(seed);
    let mut disk = SimDisk::new(seed);
    let traffic = Arc::new(Traffic::default());
    let everything = Arc::new(Watched::new("", 2));
    let pods = Arc::new(Watched::new("/registry/pods/", 2));
    for life in 0..lives {
        let bad = |error| Unsound::Store { life, error };
        let store = embedded::open_on(Arc::new(disk.clone()), small()).map_err(bad)?;
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..4 {
            let seed = seed * 1000 + life * 10 + client;
            tasks.spawn(traffic.clone().client(store.clone(), seed, stop.clone()));
        }
        for watched in [&everything, &pods] {
            let (watched, store, stop) = (watched.clone(), store.clone(), stop.clone());
            tasks.spawn(async move { drop(watched.follow(&*store, None, &stop).await) });
        }
        if dice.roll(3) == 0 {
            disk.die_at_sync(disk.syncs() + dice.roll(60));
        }
        let wanted = disk.syncs() + 10 + dice.roll(80);
        let mut last = 0;
        while disk.syncs() < wanted && !disk.is_dead() {
            tokio::time::sleep(Duration::from_micros(200)).await;
            if faults && disk.syncs() > last + 15 {
                last = disk.syncs();
                disk.set_faults(some_fault(&mut dice));
                tokio::time::sleep(Duration::from_micros(dice.roll(3000))).await;
                disk.set_faults(Faults::default());
            }
            // As the API server does, but never past what the watchers have seen.
            if dice.roll(10) == 0 {
                let seen = everything.next().min(pods.next()) - 1;
                drop(store.compact(seen).await);
            }
        }
        let after = if power_loss { disk.crash() } else { disk.kill() };
        after.set_faults(Faults::default());
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        drop(store);
        disk = after;
    }
    let bad = |error| Unsound::Store { life: lives, error };
    let store = embedded::open_on(Arc::new(disk), small()).map_err(bad)?;
    let revision = store.status().await.map_err(bad)?.revision;
    let stop = CancellationToken::new();
    for watched in [&everything, &pods] {
        watched.follow(&*store, Some(revision), &stop).await.map_err(bad)?;
    }
    let last = store.range(RangeRequest::new(KeyRange::prefix(""))).await.map_err(bad)?;
    let history = History {
        attempts: traffic.attempts(),
        seen: vec![everything.seen(), pods.seen()],
        last: (last.revision, last.kvs),
    };
    check(&history)?;
    Ok(traffic.acknowledged.load(Ordering::SeqCst))
}

fn some_fault(dice: &mut Dice) -> Faults {
    match dice.roll(5) {
        0 => Faults { write: Some(28), ..Faults::default() },
        1 => Faults { sync: Some(5), ..Faults::default() },
        2 => Faults { write: Some(5), sync: Some(5), ..Faults::default() },
        3 => Faults { space: Some(dice.roll(30_000)), ..Faults::default() },
        _ => Faults { write: Some(30), ..Faults::default() },
    }
}
