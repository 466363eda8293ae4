//! The command line: which face of the binary is wanted, and how its errors look.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands;

/// Kubernetes in one binary.
#[derive(Parser)]
#[command(name = "r8s", version, about, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the API server alone, with its store
    Apiserver(commands::server::Args),
    /// Run a whole cluster: control plane and node in one process
    Server(commands::server::Args),
    /// Import, build, list and remove container images
    Image(commands::image::Args),
    /// Save, restore and check snapshots of the cluster's state
    Snapshot(commands::snapshot::Args),
    /// Look at the cluster's state as a whole, or move it to or from an etcd cluster
    Store(commands::store::Args),
    /// Serve an embedded store over the etcd v3 API
    Etcd(commands::etcd::Args),
    /// Run kubectl against this host's cluster
    #[command(disable_help_flag = true)]
    Kubectl(commands::kubectl::Args),
    /// End all pods of this host and remove their network
    Reset(commands::reset::Args),
    /// Print the completion script for a shell
    Completion(commands::completion::Args),
}

/// Other names of the binary (links to it), each of them a face.
const FACES: &[(&str, &str)] = &[("kubectl", "kubectl")];

/// Parses argv and runs the command. Exit status: 0 done, 1 failed, 2 wrong usage; `kubectl` has kubectl's own.
pub fn run() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "runtime-create") {
        // A container is being made: nothing else may happen in this process.
        return ExitCode::from(runtime::helper_main(words).clamp(0, 255) as u8);
    }
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let result = match cli.command {
        Command::Apiserver(args) => commands::apiserver::run(args),
        Command::Server(args) => commands::server::run(args),
        Command::Image(args) => commands::image::run(args),
        Command::Snapshot(args) => commands::snapshot::run(args),
        Command::Store(args) => commands::store::run(args),
        Command::Etcd(args) => commands::etcd::run(args),
        Command::Kubectl(args) => commands::kubectl::run(args),
        Command::Reset(args) => commands::reset::run(args),
        Command::Completion(args) => commands::completion::run(args, &mut Cli::command()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", complaint(&error));
            ExitCode::FAILURE
        }
    }
}

/// `error: WHAT: WHY`, and on a line of its own what to do about it, wherever in the chain that is known. What an error
/// and its cause both say is said once.
fn complaint(error: &anyhow::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut hint = None;
    for part in error.chain() {
        let part = part.to_string();
        let (what, advice) = match part.split_once("\nhint: ") {
            Some((what, advice)) => (what.to_owned(), Some(advice.to_owned())),
            None => match part.strip_prefix("hint: ") {
                Some(advice) => (String::new(), Some(advice.to_owned())),
                None => (part, None),
            },
        };
        hint = hint.or(advice);
        if !what.is_empty() && !words.iter().any(|said| said.ends_with(&what)) {
            words.push(what);
        }
    }
    let line = format!("error: {}", words.join(": "));
    hint.map_or(line.clone(), |hint| format!("{line}\nhint: {hint}"))
}

/// argv, with the face that argv\[0\] names put in as the command.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name()).and_then(|name| name.to_str());
    if let Some((_, command)) = FACES.iter().find(|(face, _)| Some(*face) == name) {
        arguments.insert(1, command.into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_end_with_the_hint_and_say_nothing_twice() {
        let gone = std::io::Error::from_raw_os_error(2);
        let error = anyhow::anyhow!("/x: {gone}").context("cannot read it\nhint: make it");
        let error = error.context("cannot start");
        assert_eq!(
            complaint(&error),
            "error: cannot start: cannot read it: /x: No such file or directory (os error 2)\nhint: make it"
        );
        let twice = anyhow::Error::new(gone).context("/x: No such file or directory (os error 2)");
        assert_eq!(complaint(&twice), "error: /x: No such file or directory (os error 2)");
        assert_eq!(complaint(&anyhow::anyhow!("no").context("hint: say yes")), "error: no\nhint: say yes");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
