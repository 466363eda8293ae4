//! Configuration files in the form of API objects, read strictly: a field that is not known, or a key that is set twice,
//! is an error, as upstream's strict decoder has it.

use machinery::field::go_quote;
use machinery::{Get, Value};

/// What may stand at a place. Null may stand anywhere.
pub enum Shape {
    Text,
    Flag,
    Number,
    Any,
    List(&'static Shape),
    Fields(&'static [(&'static str, Shape)]),
}

/// Reads YAML or JSON of a kind in one of the versions (`apiserver.config.k8s.io/v1`).
///
/// # Errors
/// In upstream's words.
pub fn document(text: &str, kind: &str, versions: &[&str], fields: &Shape) -> Result<Value, String> {
    match lenient(text, kind, versions, fields)? {
        (value, None) => Ok(value),
        (_, Some(error)) => Err(error),
    }
}

/// The same for files that may have fields that are not known, or keys twice: the last one counts, and it is said.
pub fn lenient(
    text: &str,
    kind: &str,
    versions: &[&str],
    fields: &Shape,
) -> Result<(Value, Option<String>), String> {
    if text.is_empty() {
        return Err("empty config data".to_owned());
    }
    let json = machinery::codec::yaml::to_json(text.as_bytes())
        .map_err(|e| format!("error converting YAML to JSON: {e}"))?;
    let value: Value = serde_json::from_slice(&json.text).map_err(|e| e.to_string())?;
    if value.text("kind").is_empty() {
        return Err("Object 'Kind' is missing in the configuration".to_owned());
    }
    if value.text("kind") != kind || !versions.contains(&value.text("apiVersion")) {
        return Err(format!(
            "no kind {} is registered for version {}",
            go_quote(value.text("kind")),
            go_quote(value.text("apiVersion"))
        ));
    }
    let mut walk = Walk { kind, unknown: json.duplicates.into_iter().collect() };
    let Some(entries) = value.as_object() else { return Err("it is not an object".to_owned()) };
    let rest = entries.iter().filter(|(key, _)| !matches!(key.as_str(), "kind" | "apiVersion"));
    walk.fields(rest, fields, "")?;
    let error =
        (!walk.unknown.is_empty()).then(|| format!("strict decoding error: {}", walk.unknown.join(", ")));
    Ok((value, error))
}

struct Walk<'a> {
    kind: &'a str,
    unknown: Vec<String>,
}

impl Walk<'_> {
    fn fields<'v>(
        &mut self,
        entries: impl Iterator<Item = (&'v String, &'v Value)>,
        shape: &Shape,
        at: &str,
    ) -> Result<(), String> {
        let Shape::Fields(known) = shape else { return Ok(()) };
        for (key, value) in entries {
            let inner = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            match known.iter().find(|(name, _)| name == key) {
                Some((_, shape)) => self.value(value, shape, &inner)?,
                None => self.unknown.push(format!("unknown field {}", go_quote(&inner))),
            }
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, shape: &Shape, at: &str) -> Result<(), String> {
        match (shape, value) {
            (Shape::Any, _)
            | (_, Value::Null)
            | (Shape::Text, Value::String(_))
            | (Shape::Flag, Value::Bool(_))
            | (Shape::Number, Value::Number(_)) => {}
            (Shape::List(each), Value::Array(items)) => {
                for (n, item) in items.iter().enumerate() {
                    self.value(item, each, &format!("{at}[{n}]"))?;
                }
            }
            (Shape::Fields(_), Value::Object(entries)) => self.fields(entries.iter(), shape, at)?,
            (shape, value) => {
                let found = match value {
                    Value::Bool(_) => "bool",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    _ => "object",
                };
                let want = match shape {
                    Shape::Text => "string",
                    Shape::Flag => "bool",
                    Shape::Number => "int32",
                    Shape::List(_) => "array",
                    Shape::Fields(_) | Shape::Any => "object",
                };
                return Err(format!(
                    "json: cannot unmarshal {found} into Go struct field {}.{at} of type {want}",
                    self.kind
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::Fields(&[(
        "list",
        Shape::List(&Shape::Fields(&[("name", Shape::Text), ("set", Shape::Flag)])),
    )]);

    #[test]
    fn what_is_not_known_is_refused() {
        let read =
            |body: &str| document(&format!("kind: K\napiVersion: g/v1\n{body}"), "K", &["g/v1"], &SHAPE);
        assert!(read("list: [{name: a, set: true}]").is_ok());
        assert_eq!(
            read("list: [{nam: a}]\nmore: 1").unwrap_err(),
            "strict decoding error: unknown field \"list[0].nam\", unknown field \"more\""
        );
        assert_eq!(
            read("list: [{name: 1}]").unwrap_err(),
            "json: cannot unmarshal number into Go struct field K.list[0].name of type string"
        );
        assert!(read("list: []\nlist: []").unwrap_err().contains("key \"list\" already set in map"));
        assert_eq!(document("", "K", &[], &SHAPE).unwrap_err(), "empty config data");
        assert_eq!(
            document("{kind: K, apiVersion: g/v2}", "K", &["g/v1"], &SHAPE).unwrap_err(),
            "no kind \"K\" is registered for version \"g/v2\""
        );
    }
}
