//! `cargo xtask tidy`: the house rules that a compiler does not check. Each finding names the file and the rule.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Layers of the crates; arrows point down only (ARCHITECTURE.md).
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["machinery", "kernel"]),
    (1, &["cel", "resources", "store", "client", "runtime", "podnet", "pki"]),
    (2, &["apiserver", "controllers", "scheduler", "kubectl", "kubelet", "proxy", "dns"]),
    (3, &["r8s"]),
    // Tests and chores stand beside the house.
    (4, &["bench", "testkit", "xtask"]),
];

/// Dependencies within a layer that are meant.
const NEIGHBOURS: &[(&str, &str)] = &[("podnet", "runtime"), ("podnet", "client")];

/// Crates that stay pure, and what they must not depend on.
const PURE: &[&str] = &["cel", "machinery", "resources"];
const IMPURE: &[&str] = &["tokio", "tracing", "hyper", "rustix", "libc", "reqwest"];

/// Longest source file without tests, in lines; beyond it the file's `//!` must say why ("long because").
const LONGEST: usize = 800;

pub fn run(_args: &[String]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let mut findings = Vec::new();
    layers(root, &mut findings)?;
    sources(root, &mut findings)?;
    architecture(root, &mut findings)?;
    if findings.is_empty() {
        println!("tidy");
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    bail!("{} untidy place(s)", findings.len())
}

/// The crates, by folder name.
fn crates(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut crates = vec![("xtask".to_owned(), root.join("xtask"))];
    for entry in fs::read_dir(root.join("crates"))? {
        let path = entry?.path();
        if path.join("Cargo.toml").exists() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            crates.push((name, path));
        }
    }
    crates.sort();
    Ok(crates)
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, names)| names.contains(&name)).map(|(layer, _)| *layer)
}

/// Rules 1, 3 and 4 of ARCHITECTURE.md, from the manifests' `[dependencies]`.
fn layers(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for (name, path) in crates(root)? {
        let manifest = fs::read_to_string(path.join("Cargo.toml"))?;
        let Some(own) = layer(&name) else {
            findings.push(format!("{name}: give the crate a layer in xtask/src/tidy.rs and ARCHITECTURE.md"));
            continue;
        };
        for dependency in dependencies(&manifest) {
            if PURE.contains(&name.as_str()) && IMPURE.contains(&dependency.as_str()) {
                findings.push(format!("{name}: stays pure and must not depend on {dependency}"));
            }
            if dependency == "store" && own == 2 && name != "apiserver" {
                findings.push(format!("{name}: only apiserver uses store"));
            }
            let Some(theirs) = layer(&dependency) else { continue };
            let meant = NEIGHBOURS.contains(&(name.as_str(), dependency.as_str()));
            if theirs >= own && own < 4 && !meant && !(own == 1 && theirs == 1 && name == "resources") {
                findings
                    .push(format!("{name} (layer {own}) must not depend on {dependency} (layer {theirs})"));
            }
        }
    }
    Ok(())
}

/// Names under `[dependencies]` (not dev- or build-dependencies).
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.push(name.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    names
}

/// Every file opens with `//!`; none grows without a reason; unsafe code stays in its room.
fn sources(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for (name, path) in crates(root)? {
        for file in rust_files(&path.join("src"))? {
            let text = fs::read_to_string(&file)?;
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            let is_test = shown.ends_with("tests.rs") || shown.contains("/tests/");
            let generated = text.lines().next().is_some_and(|line| line.contains("@generated"));
            if !text.starts_with("//!") && !is_test && !generated {
                findings.push(format!("{shown}: open it with a `//!` line that says what it is"));
            }
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or("").lines().count();
            if code > LONGEST && !is_test && !generated && !text.contains("long because") {
                findings.push(format!(
                    "{shown}: {code} lines; split it, or give the reason in its //! (\"long because\")"
                ));
            }
            let unsafe_allowed = name == "kernel" || shown.contains("/shim/");
            if !unsafe_allowed && text.lines().any(|l| l.trim_start().starts_with("#![allow(unsafe_code)]")) {
                findings.push(format!("{shown}: unsafe code belongs in `kernel` (or the pod shim)"));
            }
        }
    }
    Ok(())
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !dir.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// ARCHITECTURE.md names every crate and stays readable.
fn architecture(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    if text.lines().count() > 300 {
        findings.push("ARCHITECTURE.md: more than 300 lines".to_owned());
    }
    for (name, _) in crates(root)? {
        if !text.contains(&format!("`{name}`")) {
            findings.push(format!("ARCHITECTURE.md does not name the crate `{name}`"));
        }
    }
    Ok(())
}
