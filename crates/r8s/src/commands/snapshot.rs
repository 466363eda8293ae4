//! `r8s snapshot save|restore|verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use store::snapshot::{self, Summary};

use super::store::{Bar, Place};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Save all of the cluster's state to a file, while the cluster works
    Save {
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Make the state of a cluster that is not running out of a snapshot; revisions go on where the snapshot was
    Restore {
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Read all of a snapshot and check it
    Verify { file: PathBuf },
}

pub fn run(args: Args) -> Result<ExitCode> {
    let mut bar = Bar::new();
    match args.action {
        Action::Save { file, place } => super::on_this_thread(async move {
            let store = place.open().await?;
            let summary = snapshot::save_file(&*store, &file, &mut |done, of| bar.show(done, of)).await?;
            bar.end();
            println!("saved {}: {}", file.display(), shown(&summary));
            Ok(())
        }),
        Action::Restore { file, place } => {
            let dir = place.data_dir();
            let summary = snapshot::restore(&file, &dir, &mut |done, of| bar.show(done, of))?;
            bar.end();
            println!("restored {}: {}", dir.display(), shown(&summary));
            Ok(ExitCode::SUCCESS)
        }
        Action::Verify { file } => {
            println!("{} is whole: {}", file.display(), shown(&snapshot::verify(&file)?));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn shown(summary: &Summary) -> String {
    let Summary { revision, keys, bytes, created } = summary;
    let age = created.elapsed().unwrap_or_default().as_secs();
    format!("{keys} keys at revision {revision}, {:.1} MB, taken {age} s ago", *bytes as f64 / 1e6)
}
