//! Manifests: YAML or JSON, several documents a file, Lists, files, folders and standard input.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// The objects of all these files, in order.
pub fn read(files: &[String], recursive: bool) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for file in files {
        if file == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            parse("standard input", &text, &mut objects)?;
        } else {
            read_path(Path::new(file), recursive, true, &mut objects)?;
        }
    }
    if objects.is_empty() {
        return Err(Error::Usage("no objects passed to apply".into()));
    }
    Ok(objects)
}

fn read_path(path: &Path, recursive: bool, named: bool, objects: &mut Vec<Value>) -> Result<()> {
    let wrong =
        |why: std::io::Error| Error::Manifest { path: path.display().to_string(), why: why.to_string() };
    if path.is_dir() {
        if named || recursive {
            let mut entries: Vec<_> =
                fs::read_dir(path).map_err(wrong)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
            entries.sort();
            for entry in entries {
                read_path(&entry, recursive, false, objects)?;
            }
        }
        return Ok(());
    }
    let known = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    if named || known {
        parse(&path.display().to_string(), &fs::read_to_string(path).map_err(wrong)?, objects)?;
    }
    Ok(())
}

fn parse(path: &str, text: &str, objects: &mut Vec<Value>) -> Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|e| Error::Manifest { path: path.to_owned(), why: e.to_string() })?;
    for document in documents {
        if document.is_null() {
            continue;
        }
        if !document["kind"].is_string() || !document["apiVersion"].is_string() {
            return Err(Error::Manifest {
                path: path.to_owned(),
                why: "an object has no kind or apiVersion".into(),
            });
        }
        match document["items"].as_array() {
            Some(items) if document["kind"].as_str().is_some_and(|k| k.ends_with("List")) => {
                objects.extend(items.iter().cloned());
            }
            _ => objects.push(document),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let two = "apiVersion: v1\nkind: A\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {kind: B, apiVersion: v1}\n- {kind: C, apiVersion: v1}\n";
        fs::write(dir.path().join("1.yaml"), two).unwrap();
        fs::write(dir.path().join("2.json"), r#"{"kind":"D","apiVersion":"v1"}"#).unwrap();
        fs::write(dir.path().join("readme.md"), "# not a manifest").unwrap();
        let objects = read(&[dir.path().display().to_string()], false).unwrap();
        let kinds: Vec<_> = objects.iter().map(|o| o["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["A", "B", "C", "D"]);
        fs::write(dir.path().join("bad.yaml"), "kind: A\n").unwrap();
        let error = read(&[dir.path().display().to_string()], false).unwrap_err().to_string();
        assert!(error.contains("bad.yaml") && error.contains("apiVersion"), "{error}");
    }
}
