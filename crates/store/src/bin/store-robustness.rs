//! `cargo xtask robustness --cycles N`: crashes the embedded store and judges what is left. Prints a report.
//!
//! Kills N children (at random moments and at failpoints) under traffic through the etcd face, then lives N stores on a
//! simulated disk that loses power and fails. Ends with status 1 at the first history that cannot be.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use store::robustness::{World, crashes, live};

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, dir] = &args[..]
        && serve == "--serve"
    {
        return match crashes::serve_child(Path::new(dir)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let number = |flag: &str, default: u64| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|i| args.get(i + 1)?.parse().ok()).unwrap_or(default)
    };
    match run(number("--cycles", 1000), number("--seed", 1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("NOT SOUND: {what}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cycles: u64, seed: u64) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let command = |dir: &Path| {
        let mut command = Command::new(&program);
        command.arg("--serve").arg(dir);
        command
    };
    let progress = |done| {
        if done % 25 == 0 {
            eprintln!("{done} of {cycles} crashes");
        }
    };
    let report = crashes::run(command, cycles, seed, progress).await?;
    println!("# Robustness of the embedded store\n");
    println!("Written by `cargo xtask robustness --cycles {cycles} --seed {seed}`.\n");
    println!("## Processes that were killed\n");
    println!(
        "Six clients and four watchers through the etcd face; the process is killed (SIGKILL) at a random moment, or kills\n\
         itself at a failpoint; the next one goes on with its files. After every 25 crashes the whole history is judged.\n"
    );
    println!("| | |\n| --- | --- |");
    println!("| crashes | {} |", report.cycles);
    println!("| acknowledged writes | {} |", report.acknowledged);
    println!("| of these lost | 0 |");
    println!("| writes that nobody asked for, or that were told to have failed | 0 |");
    println!("| writes with an unknown outcome | {} |", report.unknown);
    println!("| reads, each the exact state of its revision | {} |", report.reads);
    println!("| refused conditional writes, rightly | {} |", report.conflicts);
    println!("| watch events, in order, none missing, none twice | {} |", report.events);
    println!("| slowest start to the first answer | {} ms |", report.slowest_start.as_millis());
    println!("| time | {} s |\n", report.took.as_secs());
    println!("| the process ended | times |\n| --- | --- |");
    for (end, times) in &report.ends {
        println!("| {end} | {times} |");
    }
    println!("\n## Disks that lost power and failed\n");
    println!(
        "A simulated disk keeps, of what was not synced, any sectors and any first renames; each world is one store with eight\n\
         lives on it, judged as a whole.\n"
    );
    println!(
        "| worlds | lives | acknowledged writes | lost or phantom | time |\n| --- | --- | --- | --- | --- |"
    );
    let kinds = [
        ("the process dies", false, false),
        ("the power fails", true, false),
        ("the disk fails, too", true, true),
    ];
    for (kind, power_loss, faults) in kinds {
        let start = Instant::now();
        let worlds = (cycles / 8).max(1);
        let mut acknowledged = 0;
        for i in 0..worlds {
            let world = World { seed: seed * 100_000 + i, lives: 8, power_loss, faults };
            acknowledged += live(world).await.map_err(|unsound| format!("{world:?}: {unsound}"))?;
        }
        let took = start.elapsed().as_secs();
        println!("| {worlds}, {kind} | {} | {acknowledged} | 0 | {took} s |", worlds * 8);
    }
    Ok(())
}
