//! The project's own chores. `cargo xtask COMMAND`; without one it lists them.

mod bench;
mod codegen;
mod robustness;
mod tidy;

use std::process::ExitCode;

const COMMANDS: &[(&str, &str, fn(&[String]) -> anyhow::Result<()>)] = &[
    ("bench", "measure: `api`, `store`, `node` (builds in release mode; arguments go on)", bench::run),
    ("codegen", "write the API's fact tables (--check: say whether they are current)", codegen::run),
    (
        "robustness",
        "crash the embedded store: --cycles N [--seed N] (builds in release mode; writes docs/robustness-store.md)",
        robustness::run,
    ),
    ("tidy", "check the house rules: layers, module docs, file sizes, the crate list", tidy::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted = args.first().map(String::as_str);
    let Some((_, _, run)) = COMMANDS.iter().find(|(name, _, _)| Some(*name) == wanted) else {
        for (name, what, _) in COMMANDS {
            eprintln!("cargo xtask {name:<10} {what}");
        }
        return ExitCode::from(2);
    };
    match run(&args[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
