//! Published facts that tests compare against, where they are at hand.

use std::path::{Path, PathBuf};

/// A file or folder of the release's published facts; None, with a word, where they are absent.
pub fn facts(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/kubernetes-1.36").join(name);
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

/// Every object in the recorded answers of a real API server: where it stands, and its bytes.
pub fn recorded_objects(mut visit: impl FnMut(&str, &serde_json::Value)) -> bool {
    let Some(root) = facts("../api-golden/golden") else { return false };
    for area in std::fs::read_dir(root).unwrap() {
        for file in std::fs::read_dir(area.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let scenario: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for step in scenario["steps"].as_array().into_iter().flatten() {
                let place = format!("{} {}", path.display(), step["id"].as_str().unwrap_or(""));
                let body = &step["response"]["body"];
                let complete =
                    step.get("pick").is_none() && step.get("drop").is_none() && step.get("digest").is_none();
                if complete && body["kind"].is_string() && body["apiVersion"].is_string() {
                    visit(&place, body);
                }
            }
        }
    }
    true
}

/// The published objects, each fully populated: file name, schema, value, path of the JSON file.
pub fn round_trips(
    mut visit: impl FnMut(&str, &'static crate::schema::Schema, &serde_json::Value, &std::path::Path),
) -> bool {
    let Some(dir) = facts("roundtrip") else { return false };
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let gvk = match name.as_str() {
            "core.v1.WatchEvent" => crate::GroupVersionKind::new("", "v1", "WatchEvent"),
            _ => {
                let text = |key: &str| json[key].as_str().unwrap().to_owned();
                crate::GroupVersion::parse(&text("apiVersion")).unwrap().kind(text("kind"))
            }
        };
        let schema = crate::schema::of_kind(&gvk).unwrap_or_else(|| panic!("{name}"));
        visit(&name, schema, &json, &path);
    }
    true
}
