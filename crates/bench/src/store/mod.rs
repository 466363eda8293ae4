//! `bench store`: the embedded store, in process and behind `r8s etcd`'s API, beside etcd on the same disk in one run.

mod client;
mod load;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::table::{self, number};
use target::Target;

#[derive(clap::Args)]
pub struct Args {
    /// Where the stores' files go: the disk that is measured
    #[arg(long, value_name = "DIR", default_value = "target")]
    dir: PathBuf,
    /// Seconds of each write load
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Objects for memory, lists, watch and opening
    #[arg(long, default_value_t = 100_000)]
    objects: usize,
    /// Rounds of each write load; the best counts, as other work on the machine only slows it down
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Serve a directory (the benchmark starts itself with this)
    #[arg(long, value_name = "DIR", hide = true)]
    serve: Option<PathBuf>,
}

const WRITERS: [usize; 4] = [1, 16, 64, 256];
const VALUES: [usize; 2] = [256, 2048];

pub async fn run(args: Args) -> Result<()> {
    let Args { dir, seconds, objects, rounds, serve } = args;
    if let Some(dir) = serve {
        return target::serve(&dir).await;
    }
    let dir = std::path::absolute(dir)?.join(format!("bench-store-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir, Duration::from_secs_f64(seconds), objects, rounds).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

async fn measure(dir: &std::path::Path, time: Duration, objects: usize, rounds: usize) -> Result<()> {
    let sync = load::sync_probe(dir)?;
    println!("one write of 4 KB and fdatasync on this disk: {:.2} ms (median)\n", sync.as_secs_f64() * 1e3);

    let mut rows = Vec::new();
    for value in VALUES {
        for writers in WRITERS {
            let mut row = vec![format!("{value} B, {writers} writer{}", if writers == 1 { "" } else { "s" })];
            let mut best = [load::Writes::default(); 3];
            // Turn by turn, so that what else the machine does hits all alike.
            for round in 0..rounds {
                for (i, kind) in target::KINDS.into_iter().enumerate() {
                    let target =
                        Target::start(kind, &dir.join(format!("w-{kind}-{value}-{writers}-{round}"))).await?;
                    let writes = load::write(&target, writers, value, time).await?;
                    if writes.per_second > best[i].per_second {
                        best[i] = writes;
                    }
                }
            }
            let ms = |d: Duration| format!("{:.2}", d.as_secs_f64() * 1e3);
            for writes in &best {
                row.push(number(writes.per_second));
                row.push(format!("{} / {}", ms(writes.median), ms(writes.p99)));
            }
            row.push(format!("{:.1}x", best[1].per_second / best[0].per_second));
            row.push(format!("{:.1}x", best[2].per_second / best[0].per_second));
            eprintln!("{}", row.join("  "));
            rows.push(row);
        }
    }
    println!("Durable writes per second, and median / 99th percentile latency in milliseconds:\n");
    table::print(
        &["", "etcd", "ms", "r8s etcd", "ms", "in process", "ms", "r8s etcd : etcd", "in process : etcd"],
        &rows,
    );

    let mut columns = Vec::new();
    for kind in target::KINDS {
        columns.push(load::large(kind, &dir.join(format!("large-{kind}")), objects).await?);
        eprintln!("{kind}: {:?}", columns.last());
    }
    let names: Vec<String> = columns[0].iter().map(|(name, _)| name.clone()).collect();
    let rows: Vec<Vec<String>> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let mut row = vec![name.clone()];
            row.extend(columns.iter().map(|column| column[i].1.map_or("-".to_owned(), number)));
            row
        })
        .collect();
    println!("\nWith {objects} objects of 2 KB:\n");
    table::print(&["", "etcd", "r8s etcd", "in process"], &rows);
    Ok(())
}
