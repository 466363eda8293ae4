//! `r8s image import|build|pull|list|remove|prune`.

use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use runtime::image::ImageStore;
use runtime::image::manifest::RunConfig;

use crate::images::{self, Image, Request};
use crate::instance::Instance;
use crate::paths::Paths;
use crate::{control, host};

#[derive(clap::Args)]
pub struct Args {
    /// Directory of the cluster [default: /]
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Import the images of a docker or OCI archive, or of an OCI layout folder
    Import {
        file: PathBuf,
        /// Name for an image that has none in the archive
        #[arg(long)]
        name: Option<String>,
    },
    /// Make an image out of a folder: one layer, everything owned by root
    Build {
        /// What becomes the image's root
        folder: PathBuf,
        /// The image's name, like example.org/web:1
        #[arg(long)]
        name: String,
        /// The command, a word each time it is given
        #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
        entrypoint: Vec<String>,
        /// Its default arguments, a word each time it is given
        #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
        cmd: Vec<String>,
        /// Environment, NAME=VALUE each time
        #[arg(long, value_name = "NAME=VALUE")]
        env: Vec<String>,
        #[arg(long, value_name = "USER[:GROUP]", default_value = "")]
        user: String,
        #[arg(long, value_name = "DIR", default_value = "")]
        workdir: String,
    },
    /// Fetch an image from a registry (loopback registries are spoken to without TLS)
    Pull {
        name: String,
        /// User at the registry; the password is read from standard input
        #[arg(long, default_value = "")]
        user: String,
    },
    /// List the images
    #[command(alias = "ls")]
    List {
        /// json
        #[arg(short, long)]
        output: Option<String>,
    },
    /// Remove an image, by name or id
    #[command(alias = "rm")]
    Remove { name: String },
    /// Remove all images that no container uses (asks the running server)
    Prune,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let Args { root, action } = args;
    host::require_root()?;
    let paths = Paths::new(root);
    match action {
        Action::Import { file, name } => {
            let path = file.canonicalize().with_context(|| format!("cannot read {}", file.display()))?;
            for image in perform(&paths, Request::Import { path, name })? {
                println!("imported {}", shown(&image));
            }
        }
        Action::Build { folder, name, entrypoint, cmd, env, user, workdir } => {
            let folder =
                folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?;
            if !folder.is_dir() {
                bail!("{} is not a folder", folder.display());
            }
            let run = RunConfig { entrypoint, cmd, env, user, working_dir: workdir, ..RunConfig::default() };
            for image in perform(&paths, Request::Build { folder, name, run })? {
                println!("built {}", shown(&image));
            }
        }
        Action::Pull { name, user } => {
            let mut password = String::new();
            if !user.is_empty() {
                std::io::stdin().lock().read_line(&mut password).context("cannot read the password")?;
            }
            let password = password.trim_end_matches(['\n', '\r']).to_owned();
            for image in perform(&paths, Request::Pull { name, user, password })? {
                println!("pulled {}", shown(&image));
            }
        }
        Action::Prune => {
            let removed = perform(&paths, Request::Prune)?;
            for image in &removed {
                println!("removed {}", shown(image));
            }
            let bytes: u64 = removed.iter().map(|image| image.size).sum();
            println!("{} images, {}", removed.len(), megabytes(bytes));
        }
        Action::List { output } => list(&perform(&paths, Request::List)?, output.as_deref())?,
        Action::Remove { name } => {
            for image in perform(&paths, Request::Remove { name })? {
                println!("removed {}", shown(&image));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// By the running server, or here when none runs.
fn perform(paths: &Paths, request: Request) -> Result<Vec<Image>> {
    match Instance::try_acquire(paths)? {
        Ok(_instance) => {
            if matches!(request, Request::Prune) {
                bail!(
                    "no server runs that knows which images are used\nhint: start it, or remove images by name"
                );
            }
            let store = Arc::new(ImageStore::open(&paths.runtime().join("images"), true)?);
            match request {
                Request::Pull { name, user, password } => {
                    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    executor.block_on(images::pull(&store, &name, user, password))
                }
                request => images::perform(&store, request),
            }
        }
        Err(_running) => control::ask(&paths.control_socket(), &request),
    }
}

fn shown(image: &Image) -> String {
    let name = if image.names.is_empty() { "<none>".to_owned() } else { image.names.join(", ") };
    format!("{name} ({}, {})", short(&image.id), megabytes(image.size))
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn list(images: &[Image], output: Option<&str>) -> Result<()> {
    match output {
        Some("json") => println!("{}", serde_json::to_string_pretty(images)?),
        Some(other) => bail!("unknown output format {other:?}\nhint: json, or none for a table"),
        None => {
            println!("{:<60} {:<12} {:>10}", "NAME", "ID", "SIZE");
            for image in images {
                for name in
                    image.names.iter().map(String::as_str).chain(image.names.is_empty().then_some("<none>"))
                {
                    println!("{name:<60} {:<12} {:>10}", short(&image.id), megabytes(image.size));
                }
            }
        }
    }
    Ok(())
}
