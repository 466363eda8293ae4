//! `r8s store migrate|status`: the cluster's state, wherever it is kept.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use store::{Store, embedded, etcd, snapshot};

use crate::paths::Paths;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Copy all of the cluster's state between the embedded store and an etcd cluster; nobody may write meanwhile
    Migrate {
        #[arg(long, value_enum)]
        from: Kind,
        #[arg(long, value_enum)]
        to: Kind,
        #[command(flatten)]
        place: Place,
    },
    /// Show revision, size and alarms
    Status {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Embedded,
    Etcd,
}

/// Where a store is: a directory, or an etcd cluster.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Place {
    /// Directory of the cluster [default: /]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory of the embedded store [default: var/lib/r8s/store under the root]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    etcd: Etcd,
}

/// How to reach an etcd cluster; the flags are kube-apiserver's.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Etcd {
    /// The members' client URLs; for a cluster with users, R8S_ETCD_USER=NAME:PASSWORD stands in the environment
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    etcd_servers: Vec<String>,
    /// Authorities that sign the members' certificates (PEM)
    #[arg(long, value_name = "FILE")]
    etcd_cafile: Option<PathBuf>,
    /// The client's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    etcd_certfile: Option<PathBuf>,
    /// The client's key (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
}

impl Etcd {
    pub fn is_given(&self) -> bool {
        !self.etcd_servers.is_empty()
    }

    pub fn config(&self) -> Result<etcd::Config> {
        let Self { etcd_servers, etcd_cafile, etcd_certfile, etcd_keyfile } = self.clone();
        crate::config::etcd(&etcd_servers.join(","), etcd_cafile, etcd_certfile.zip(etcd_keyfile))
    }
}

impl Place {
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| Paths::new(self.root.clone()).store())
    }

    async fn etcd(&self) -> Result<Arc<dyn Store>> {
        if !self.etcd.is_given() {
            bail!("the etcd cluster is not given\nhint: --etcd-servers https://host:2379");
        }
        etcd::connect(self.etcd.config()?).await.context("cannot reach the etcd cluster")
    }

    /// The embedded store: through the running server, or else from its files.
    async fn embedded(&self) -> Result<Arc<dyn Store>> {
        let socket = Paths::new(self.root.clone()).store_socket();
        if self.data_dir.is_none() && std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            let endpoint = format!("unix://{}", socket.display());
            return etcd::connect(etcd::Config::new([endpoint]))
                .await
                .context("cannot ask the running server");
        }
        let dir = self.data_dir();
        if !dir.is_dir() {
            bail!("there is no store in {}\nhint: --root or --data-dir says where it is", dir.display());
        }
        Ok(embedded::open(&dir, embedded::Options::default())?)
    }

    /// The store to read from.
    pub async fn open(&self) -> Result<Arc<dyn Store>> {
        if self.etcd.is_given() { self.etcd().await } else { self.embedded().await }
    }
}

pub fn run(args: Args) -> Result<ExitCode> {
    super::on_this_thread(async move {
        match args.action {
            Action::Migrate { from, to, place } => migrate(from, to, &place).await,
            Action::Status { place } => status(&place).await,
        }
    })
}

async fn migrate(from: Kind, to: Kind, place: &Place) -> Result<()> {
    let start = Instant::now();
    let mut bar = Bar::new();
    let mut progress = |done, of| bar.show(done, of);
    let summary = match (from, to) {
        (Kind::Embedded, Kind::Etcd) => {
            let (from, to) = (place.embedded().await?, place.etcd().await?);
            snapshot::migrate(&*from, &*to, &mut progress).await?
        }
        (Kind::Etcd, Kind::Embedded) => {
            let from = place.etcd().await?;
            snapshot::migrate_to_dir(&*from, &place.data_dir(), &mut progress).await?
        }
        _ => bail!("--from and --to are the same\nhint: one of them is embedded, the other etcd"),
    };
    bar.end();
    println!(
        "{} keys at revision {} in {:.1} s",
        summary.keys,
        summary.revision,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn status(place: &Place) -> Result<()> {
    let status = place.open().await?.status().await?;
    println!("revision  {}", status.revision);
    println!("keys      {}", status.keys);
    println!(
        "size      {:.1} MB, {:.1} MB of it in use",
        status.size as f64 / 1e6,
        status.size_in_use as f64 / 1e6
    );
    println!("alarm     {}", status.alarm.as_deref().unwrap_or("none"));
    Ok(())
}

/// A progress bar on a terminal; elsewhere a line now and then.
pub struct Bar {
    on_terminal: bool,
    last: Instant,
    shown: bool,
}

const REDRAW: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(2);

impl Bar {
    pub fn new() -> Self {
        Self { on_terminal: std::io::stderr().is_terminal(), last: Instant::now(), shown: false }
    }

    pub fn show(&mut self, done: u64, of: u64) {
        let pause = if self.on_terminal { REDRAW } else { LINE };
        // The end is always shown if anything was, so that it does not stop at 97 %.
        let due = self.last.elapsed() >= pause || (done >= of && (self.shown || self.on_terminal));
        if !due {
            return;
        }
        (self.last, self.shown) = (Instant::now(), true);
        let parts = |of_all: u64| (done * of_all).checked_div(of).unwrap_or(of_all).min(of_all);
        // Nobody to tell is no reason to stop.
        let _ = if self.on_terminal {
            write!(
                std::io::stderr(),
                "\r[{:<40}] {:3} % {done} of {of} keys ",
                "=".repeat(parts(40) as usize),
                parts(100)
            )
        } else {
            writeln!(std::io::stderr(), "{done} of {of} keys ({} %)", parts(100))
        };
    }

    pub fn end(&self) {
        if self.on_terminal && self.shown {
            eprintln!();
        }
    }
}
