//! Against the published documents in ../shared.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

fn published(name: &str) -> Option<Value> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/kubernetes-1.36");
    let text = std::fs::read_to_string(dir.join(name));
    if text.is_err() {
        println!("skipped: the published documents are not here");
    }
    serde_json::from_str(&text.ok()?).ok()
}

/// The paths at which two values differ, at most a few.
fn differences(at: &str, got: &Value, want: &Value, found: &mut Vec<String>) {
    if got == want || found.len() > 20 {
        return;
    }
    match (got, want) {
        (Value::Object(g), Value::Object(w)) => {
            for key in g.keys().chain(w.keys().filter(|k| !g.contains_key(*k))) {
                differences(&format!("{at} > {key}"), &got[key.as_str()], &want[key.as_str()], found);
            }
        }
        _ => {
            let short = |v: &Value| v.to_string().chars().take(300).collect::<String>();
            found.push(format!("{at}: {} instead of {}", short(got), short(want)));
        }
    }
}

#[test]
fn v3_documents_are_the_published_ones() {
    let mut found = Vec::new();
    for path in v3_paths() {
        let Some(want) = published(&format!("openapi-v3/{}_openapi.json", path.replace('/', "__"))) else {
            return;
        };
        let got: Value = serde_json::from_str(&v3(&path).unwrap()).unwrap();
        differences(&path, &got, &want, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(v3("apis/nope/v1").is_none() && v3("api/v2").is_none());
}

#[test]
fn the_v2_document_is_the_published_one() {
    let Some(want) = published("swagger.json") else { return };
    let got: Value = serde_json::from_str(&v2()).unwrap();
    let mut found = Vec::new();
    differences("", &got, &want, &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
