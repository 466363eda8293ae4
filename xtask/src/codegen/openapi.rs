//! The documents table of `machinery::openapi`: every type's OpenAPI v3 schema and every query parameter, as text,
//! deflated.
//!
//! Structure comes from the published facts. Descriptions come from the schemas in the sources of the k8s-openapi
//! crate; what it has no schema for (lists, parameters) from the published documents.
//!
//! Lines: `T NAME SCHEMA`, `K GROUP/VERSION/KIND NAME`, `P NAME DEFINITION`, `R NAME DEFINITION` (a shared parameter
//! of the v2 document), tab-separated, sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Map, Value, json};

use super::read_json;

/// Descriptions of one type: its own, and its fields'.
#[derive(Default)]
struct Words {
    own: Option<String>,
    fields: BTreeMap<String, String>,
}

pub fn render(api: &Value, facts: &Path) -> Result<Vec<u8>> {
    let swagger = read_json(&facts.join("swagger.json"))?;
    let words = crate_words(&crate_sources()?)?;
    let values = values()?;
    let mut lines = BTreeSet::new();
    for (name, fact) in api["types"].as_object().context("types")? {
        let published = &swagger["definitions"][name];
        let mut schema = schema(name, fact, words.get(name), published);
        for (field, list) in values.get(name).into_iter().flatten() {
            list.add(&mut schema["properties"], field).with_context(|| format!("{name} {field}"))?;
        }
        lines.insert(format!("T\t{name}\t{schema}"));
        for gvk in fact["gvk"].as_array().into_iter().flatten() {
            let text = |key: &str| gvk[key].as_str().unwrap_or("").to_owned();
            lines.insert(format!("K\t{}/{}/{}\t{name}", text("group"), text("version"), text("kind")));
        }
    }
    parameters(facts, &mut lines)?;
    for (name, definition) in swagger["parameters"].as_object().context("parameters")? {
        lines.insert(format!("R\t{name}\t{definition}"));
    }
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

/// The values that a field may take, each with what it means.
#[derive(Clone, Default)]
struct Values(Vec<(String, String)>);

impl Values {
    /// As upstream's generator writes them: an `enum`, and a list at the end of the description. A field that ends in
    /// `[]` or `{}` means its items or values, which have no description; one that ends in ` gap` has an empty line more before the list.
    fn add(&self, properties: &mut Value, field: &str) -> Result<()> {
        let name = field.trim_end_matches(" gap").trim_end_matches("[]").trim_end_matches("{}");
        let property = properties.get_mut(name).context("facts/enums.txt: no such field")?;
        let values: Value = self.0.iter().map(|(value, _)| value.as_str()).collect();
        for (mark, below) in [("[]", "items"), ("{}", "additionalProperties")] {
            if field.ends_with(mark) {
                property[below]["enum"] = values;
                return Ok(());
            }
        }
        property["enum"] = values;
        let own = property["description"].as_str().unwrap_or("").trim_end_matches('\n');
        let described = |(value, words): &(String, String)| {
            format!(
                "\n - `{}`{}{words}",
                Value::from(value.as_str()),
                if words.is_empty() { "" } else { " " }
            )
        };
        let list: String = self.0.iter().map(described).collect();
        let gap = match own {
            "" => "",
            _ if field.ends_with(" gap") => "\n\n\n",
            _ => "\n\n",
        };
        property["description"] = format!("{own}{gap}Possible enum values:{list}").into();
        Ok(())
    }
}

/// `crates/machinery/facts/enums.txt`: type > field > values.
fn values() -> Result<BTreeMap<String, BTreeMap<String, Values>>> {
    let path = super::root().join("crates/machinery/facts/enums.txt");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut out: BTreeMap<String, BTreeMap<String, Values>> = BTreeMap::new();
    for block in text.split("\n\n") {
        let lines = || block.lines().filter(|line| !line.starts_with('#'));
        let mut values = Values::default();
        for line in lines().filter_map(|line| line.strip_prefix("  \"")) {
            let (value, words) = line.split_once('"').context("facts/enums.txt: an open quote")?;
            values.0.push((value.to_owned(), words.trim_start().to_owned()));
        }
        for line in lines().filter(|line| !line.starts_with(' ')) {
            let (name, field) = line.split_once(' ').context("facts/enums.txt: TYPE FIELD")?;
            out.entry(name.to_owned()).or_default().insert(field.to_owned(), values.clone());
        }
    }
    Ok(out)
}

/// Fields whose place in `required` is not that of their protobuf tags.
const REQUIRED_ORDER: &[(&str, &[&str])] = &[
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.APIResource",
        &["name", "singularName", "namespaced", "kind", "verbs"],
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", &["apiVersion", "kind", "name", "uid"]),
    ("io.k8s.api.networking.v1.HTTPIngressPath", &["pathType", "backend"]),
    (
        "io.k8s.apimachinery.pkg.version.Info",
        &[
            "major",
            "minor",
            "gitVersion",
            "gitCommit",
            "gitTreeState",
            "buildDate",
            "goVersion",
            "compiler",
            "platform",
        ],
    ),
];

fn schema(name: &str, fact: &Value, words: Option<&Words>, published: &Value) -> Value {
    let mut out = Map::new();
    let own = words.and_then(|w| w.own.clone()).or_else(|| text(&published["description"]));
    if let Some(own) = own {
        out.insert("description".into(), own.into());
    }
    for key in ["type", "format"] {
        if let Some(value) = fact.get(key) {
            out.insert(key.into(), value.clone());
        }
    }
    if let Some(choices) = fact["oneOf"].as_array() {
        out.insert("oneOf".into(), choices.iter().map(|kind| json!({"type": kind})).collect());
    }
    let fields = fact["fields"].as_object().filter(|fields| !fields.is_empty());
    if let Some(fields) = fields {
        let described = |field: &str| {
            let own = words.and_then(|w| w.fields.get(field).cloned());
            own.or_else(|| text(&published["properties"][field]["description"]))
        };
        let properties: Map<String, Value> =
            fields.iter().map(|(field, fact)| (field.clone(), property(fact, described(field)))).collect();
        out.insert("properties".into(), properties.into());
    }
    if let Some(required) = fact["required"].as_array() {
        let mut required: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
        match REQUIRED_ORDER.iter().find(|(exception, _)| *exception == name) {
            Some((_, order)) => required = order.to_vec(),
            None => {
                required.sort_by_key(|field| fact["fields"][*field]["proto"]["tag"].as_i64().unwrap_or(99))
            }
        }
        out.insert("required".into(), required.into());
    }
    let extensions = [
        ("mapType", "x-kubernetes-map-type"),
        ("gvk", "x-kubernetes-group-version-kind"),
        ("unions", "x-kubernetes-unions"),
    ];
    for (key, extension) in extensions {
        // The published document names more groups for what is of every group than the facts do.
        if let Some(value) = published.get(extension).or_else(|| fact.get(key)) {
            out.insert(extension.into(), value.clone());
        }
    }
    Value::Object(out)
}

/// A field, an item of a list or a value of a map.
fn property(fact: &Value, description: Option<String>) -> Value {
    let mut out = Map::new();
    let extensions = [
        ("listType", "x-kubernetes-list-type"),
        ("listMapKeys", "x-kubernetes-list-map-keys"),
        ("mapType", "x-kubernetes-map-type"),
        ("patchStrategy", "x-kubernetes-patch-strategy"),
        ("patchMergeKey", "x-kubernetes-patch-merge-key"),
    ];
    for (key, extension) in extensions {
        if let Some(value) = fact.get(key) {
            out.insert(extension.into(), value.clone());
        }
    }
    if let Some(value) = fact.get("default") {
        out.insert("default".into(), value.clone());
    }
    if let Some(name) = fact["ref"].as_str() {
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        if out.is_empty() && description.is_none() {
            return reference;
        }
        out.insert("allOf".into(), json!([reference]));
    }
    for key in ["type", "format"] {
        if let Some(value) = fact.get(key) {
            out.insert(key.into(), value.clone());
        }
    }
    for (key, keyword) in [("items", "items"), ("values", "additionalProperties")] {
        if let Some(inner) = fact.get(key) {
            out.insert(keyword.into(), property(inner, None));
        }
    }
    if let Some(description) = description {
        out.insert("description".into(), description.into());
    }
    Value::Object(out)
}

/// All parameters but `name`, whose description names a kind, by name; further definitions of a name get `#KIND…`
/// keys: the options kind whose fields they are.
fn parameters(facts: &Path, lines: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(facts.join("openapi-v3"))? {
        let document = read_json(&entry?.path())?;
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            let operations = item.as_object().into_iter().flatten();
            let lists = operations.map(|(key, op)| if key == "parameters" { op } else { &op["parameters"] });
            for parameter in lists.flat_map(|list| list.as_array().into_iter().flatten()) {
                let name = parameter["name"].as_str().unwrap_or("");
                if name == "name" {
                    continue;
                }
                lines.insert(format!("P\t{}\t{parameter}", parameter_key(name, path, parameter)));
            }
        }
    }
    Ok(())
}

/// Parameters of one name that mean different things are told apart by the subresource they belong to.
fn parameter_key(name: &str, path: &str, parameter: &Value) -> String {
    let in_path = parameter["in"] == "path";
    let of_subresource = ["attach", "exec", "log", "portforward", "proxy"]
        .into_iter()
        .find(|sub| path.ends_with(&format!("/{sub}")) || path.contains(&format!("/{sub}/{{path}}")));
    match of_subresource {
        Some(sub) if !in_path && sub == "proxy" => {
            let resource =
                ["pods", "services", "nodes"].into_iter().find(|r| path.contains(&format!("/{r}/")));
            format!("{}/proxy/{name}", resource.unwrap_or(""))
        }
        Some(sub) if !in_path && name != "pretty" => format!("{sub}/{name}"),
        _ if name == "fieldManager"
            && parameter["description"].as_str().is_some_and(|d| d.contains("required for apply")) =>
        {
            "patch/fieldManager".to_owned()
        }
        _ => name.to_owned(),
    }
}

/// Where cargo keeps the sources of k8s-openapi.
fn crate_sources() -> Result<PathBuf> {
    let output =
        Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let package =
        packages.iter().find(|p| p["name"] == "k8s-openapi").context("k8s-openapi is not a dependency")?;
    let manifest = Path::new(package["manifest_path"].as_str().context("manifest_path")?);
    Ok(manifest.parent().context("a manifest lies in a folder")?.join("src/v1_36"))
}

/// The descriptions in all of the crate's files.
fn crate_words(dir: &Path) -> Result<BTreeMap<String, Words>> {
    let mut all = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path)?;
            let name = source.lines().next().and_then(|l| l.strip_prefix("// Generated from definition "));
            // The crate has words of its own for WatchEvent.
            let name = name.filter(|name| !name.ends_with(".WatchEvent"));
            if let (Some(name), Some((_, schema))) = (name, source.split_once("fn json_schema(")) {
                all.insert(name.to_owned(), words_of(schema));
            }
        }
    }
    Ok(all)
}

/// Reads the crate's `json_schema!` source by its regular layout: what is indented by 12 belongs to the type, by 16
/// opens a field, deeper belongs to that field.
fn words_of(schema: &str) -> Words {
    let mut words = Words::default();
    let mut field = String::new();
    for line in schema.lines() {
        let statement = line.trim_start();
        let indent = line.len() - statement.len();
        if let Some(literal) = statement.strip_prefix("\"description\": ")
            && literal.starts_with('"')
        {
            let literal = unquote(literal.trim_end_matches(','));
            match indent {
                12 => words.own = literal,
                20 if !field.is_empty() => {
                    words.fields.extend(literal.map(|l| (field.clone(), l)));
                }
                _ => {}
            }
        } else if let Some(rest) =
            statement.strip_prefix("schema_obj.ensure_object().insert(\"description\".into(), ")
        {
            let literal = unquote(rest.trim_end_matches(".into());"));
            words.fields.extend(literal.map(|l| (field.clone(), l)));
        } else if indent == 16
            && let Some((name, _)) = statement.strip_prefix('"').and_then(|s| s.split_once("\": "))
        {
            field = name.to_owned();
        }
    }
    words
}

/// A Rust string literal of the simple kind.
fn unquote(literal: &str) -> Option<String> {
    serde_json::from_str(&literal.replace("\\'", "'")).ok()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
