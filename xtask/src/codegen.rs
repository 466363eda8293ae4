//! `cargo xtask codegen [--check]`: the API's fact tables in `crates/machinery/src`.
//!
//! Sources: `crates/machinery/facts/shapes.txt` (how types are represented) and the published facts of the release in
//! `../shared/kubernetes-1.36` (list types, merge keys, defaults, …; resources). Output is deterministic text, made to
//! be read in a diff. `--check` writes nothing and fails when the committed output is not what would be written.

mod openapi;
mod resources;
mod types;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const FACTS: &str = "../shared/kubernetes-1.36";
const SOURCES: &str = "crates/machinery/src";

pub fn run(args: &[String]) -> Result<()> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        other => bail!("codegen: unknown arguments {other:?}"),
    };
    let root = root();
    let facts = root.join(FACTS);
    if !facts.join("api-facts.json").exists() {
        println!("codegen: skipped, {} is not here", facts.display());
        return Ok(());
    }
    let shapes_path = root.join("crates/machinery/facts/shapes.txt");
    let shapes = std::fs::read_to_string(&shapes_path).with_context(|| shapes_path.display().to_string())?;
    let api = read_json(&facts.join("api-facts.json"))?;
    let outputs = [
        ("schema/types.txt", types::render(&shapes, &api)?.into_bytes()),
        ("schema/resources.txt", resources::render(&api, &facts.join("discovery"))?.into_bytes()),
        ("openapi/documents.bin", openapi::render(&api, &facts)?),
    ];
    let mut stale = false;
    for (name, bytes) in outputs {
        let path = root.join(SOURCES).join(name);
        if std::fs::read(&path).is_ok_and(|old| old == bytes) {
            continue;
        }
        if check {
            println!("{} is not current", path.display());
            stale = true;
        } else {
            std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
            println!("wrote {}", path.display());
        }
    }
    if stale {
        bail!("not current: run `cargo xtask codegen`");
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}
