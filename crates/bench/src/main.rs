//! Benchmarks that drive r8s (and what it is compared with) from outside, as its users do.
//! `cargo xtask bench …` builds this in release mode and runs it.

mod api;
mod connection;
mod node;
mod process;
mod store;
mod table;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bench", about = "Measure r8s, alone or beside another server")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load for API servers: create, get, list, patch, apply, status, watch, delete
    Api(api::Args),
    /// A whole node: start, memory and CPU at rest, pods
    Node(node::Args),
    /// One round of `node`, inside its network namespace
    #[command(hide = true)]
    NodeRound(node::RoundArgs),
    /// The embedded store beside etcd: durable writes, memory, lists, watch, opening
    Store(store::Args),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match cli.command {
        Command::Api(args) => runtime.block_on(api::run(args)),
        Command::Node(args) => node::run(args),
        Command::NodeRound(args) => runtime.block_on(node::run_round(args)),
        Command::Store(args) => runtime.block_on(store::run(args)),
    }
}
