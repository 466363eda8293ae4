//! Builds the pod shim: a static program of its own, embedded into this crate by `src/shim/start.rs`.
//! rustc is called directly: the shim is std only, so there is nothing to resolve or download.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=shim");
    let var = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = Path::new(&var("OUT_DIR")).join("pod-shim");
    let mut rustc = Command::new(var("RUSTC"));
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "bin",
        "--crate-name",
        "pod_shim",
        "shim/main.rs",
        "-o",
    ]);
    rustc.arg(&out).args(["--target", &var("TARGET")]);
    rustc.args(["-C", "target-feature=+crt-static", "-C", "relocation-model=static", "-C", "panic=abort"]);
    rustc.args(["-C", "opt-level=s", "-C", "lto=fat", "-C", "codegen-units=1", "-C", "strip=symbols"]);
    let status = rustc.status().unwrap_or_else(|error| panic!("rustc for the pod shim: {error}"));
    assert!(status.success(), "the pod shim does not build");
    println!("cargo::rustc-env=POD_SHIM={}", out.display());
}
