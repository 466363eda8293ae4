//! Objects as upstream's messages show its internal types: Go's field names in the order of the structs, nothing left
//! out. What the structs are is in `internal/structs.txt`: a type's name, then a line for each field with its name
//! (`?`: left out when empty, as in types that have names for JSON), its name in the API if that is not the same with a
//! small first letter, and its type.

use std::collections::HashMap;
use std::sync::LazyLock;

use machinery::{Get, Value};
use serde_json::json;

/// On one line; `type_name` with its group (`core.PodSpec`).
pub(crate) fn compact(type_name: &'static str, value: &Value) -> String {
    let mut out = String::new();
    node(type_name, value).write_compact(&mut out);
    out
}

/// On many lines, each level one blank deeper.
pub(crate) fn pretty(type_name: &'static str, value: &Value) -> String {
    let mut out = String::new();
    node(type_name, value).write_pretty(1, &mut out);
    out
}

struct Field {
    shown: &'static str,
    name: String,
    kind: &'static str,
    omit_empty: bool,
}

static STRUCTS: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    let mut last = "";
    for line in include_str!("internal/structs.txt").lines() {
        match line.strip_prefix(' ') {
            None => {
                last = line;
                all.insert(line, Vec::new());
            }
            Some(line) => all.entry(last).or_default().push(field(line)),
        }
    }
    all
});

fn field(line: &'static str) -> Field {
    let (shown, rest) = line.split_once(' ').unwrap_or((line, "any"));
    let (shown, omit_empty) = shown.strip_suffix('?').map_or((shown, false), |s| (s, true));
    let (name, kind) = match rest.split_once(' ') {
        Some((name, kind)) if name != "map" => (name.to_owned(), kind),
        _ => {
            let mut letters = shown.chars();
            let first = letters.next().map(|c| c.to_ascii_lowercase());
            (first.into_iter().chain(letters).collect(), rest)
        }
    };
    Field { shown, name, kind, omit_empty }
}

enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

fn node(kind: &'static str, value: &Value) -> Node {
    if let Some(inner) = kind.strip_prefix('*') {
        return if value.is_null() { null() } else { node(inner, value) };
    }
    if kind == "[]byte" {
        return text(value);
    }
    if let Some(inner) = kind.strip_prefix("[]") {
        return match value.as_array() {
            Some(items) => Node::List(items.iter().map(|v| node(inner, v)).collect()),
            None => null(),
        };
    }
    if let Some(inner) = kind.strip_prefix("map ") {
        let Some(map) = value.as_object() else { return null() };
        let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), node(inner, v))).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        return Node::Map(entries);
    }
    let zero = |zero: Value| if value.is_null() { text(&zero) } else { text(value) };
    match kind {
        "string" => zero(json!("")),
        "int" | "intstr" => zero(json!(0)),
        "bool" => zero(json!(false)),
        "quantity" => zero(json!("0")),
        "time" | "any" => text(value),
        "core.PodSpec" => fields(kind, &pod_spec(value)),
        _ => fields(kind, value),
    }
}

fn fields(kind: &'static str, value: &Value) -> Node {
    let Some(of) = STRUCTS.get(kind) else { return text(value) };
    let shown = |f: &&Field| !f.omit_empty || !is_empty(f.of(value));
    Node::Map(of.iter().filter(shown).map(|f| (f.shown.to_owned(), node(f.kind, f.of(value)))).collect())
}

impl Field {
    /// What it is in an object. The internal types have the metadata inline.
    fn of<'v>(&self, object: &'v Value) -> &'v Value {
        match self.name.strip_prefix("metadata.") {
            Some(name) => object.at("metadata").at(name),
            None => object.at(&self.name),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
    }
}

/// The internal type has the host's namespaces in the security context.
fn pod_spec(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for name in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"] {
        let value = spec.unset(name);
        let context = spec.child("securityContext");
        if let Some(value) = value {
            context.set(name, value);
        }
    }
    spec
}

fn null() -> Node {
    Node::Text("null".into())
}

fn text(value: &Value) -> Node {
    Node::Text(for_html(&value.to_string()))
}

/// Go's JSON is safe to stand in HTML.
fn for_html(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

impl Node {
    fn write_compact(&self, out: &mut String) {
        match self {
            Node::Text(text) => out.push_str(text),
            Node::List(items) if items.is_empty() => out.push_str("[]"),
            Node::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    out.push(if i == 0 { '[' } else { ',' });
                    item.write_compact(out);
                }
                out.push(']');
            }
            Node::Map(entries) if entries.is_empty() => out.push_str("{}"),
            Node::Map(entries) => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    out.push(if i == 0 { '{' } else { ',' });
                    out.push_str(&for_html(&json!(key).to_string()));
                    out.push(':');
                    value.write_compact(out);
                }
                out.push('}');
            }
        }
    }

    fn write_pretty(&self, depth: usize, out: &mut String) {
        let line = |out: &mut String, first: bool, open: char| {
            out.push(if first { open } else { ',' });
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth));
        };
        let end = |out: &mut String, close: char| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth - 1));
            out.push(close);
        };
        match self {
            Node::List(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    line(out, i == 0, '[');
                    item.write_pretty(depth + 1, out);
                }
                end(out, ']');
            }
            Node::Map(entries) if !entries.is_empty() => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    line(out, i == 0, '{');
                    out.push_str(&for_html(&json!(key).to_string()));
                    out.push_str(": ");
                    value.write_pretty(depth + 1, out);
                }
                end(out, '}');
            }
            other => other.write_compact(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out_but_in_types_with_names_of_their_own() {
        let claim = json!({"name": "a<b", "kind": "X"});
        let want = r#"{"Kind":"X","Namespace":"","Name":"a\u003cb","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}"#;
        assert_eq!(compact("core.ObjectReference", &claim), want);
        let template = json!({"metadata": {"labels": {"b": "2", "a": "1"}}});
        assert!(
            compact("core.PodTemplateSpec", &template).starts_with(r#"{"labels":{"a":"1","b":"2"},"Spec":{"#)
        );
        let migration = json!({"resource": {"resource": "pods"}});
        let want = "{\n \"Resource\": {\n  \"group\": \"\",\n  \"resource\": \"pods\"\n }\n}";
        assert_eq!(pretty("storagemigration.StorageVersionMigrationSpec", &migration), want);
    }

    #[test]
    fn every_type_named_is_there() {
        for f in STRUCTS.values().flatten() {
            let kind = f.kind.trim_start_matches("map ").trim_start_matches(['*', '[', ']']);
            assert!(!kind.contains('.') || STRUCTS.contains_key(kind), "{kind}");
        }
    }
}
