//! Children of this very program that are killed, at random moments and at failpoints.

use std::path::Path;
use std::process::Command;

use store::robustness::crashes;

const DIR: &str = "STORE_CHILD_DIR";

/// Not a test: the child's entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    if let Some(dir) = std::env::var_os(DIR) {
        crashes::serve_child(Path::new(&dir)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_crashes_lose_nothing() {
    let command = |dir: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crashes::child", "--nocapture"]).env(DIR, dir);
        command
    };
    let report = crashes::run(command, 30, 1, |_| {}).await.unwrap();
    eprintln!("{report:#?}");
    assert!(report.cycles == 30 && report.acknowledged > 500, "{report:?}");
}
