//! The little path language of `fieldPath` and `selectableFields`: `.spec.replicas`, `.spec['a.b'].c`.

use machinery::field::Path;
use machinery::{Get, Value};

/// A path that a schema has.
pub struct FoundField<'a> {
    pub path: Path,
    /// The first name.
    pub root: String,
    pub schema: &'a Value,
}

/// Follows a path in a schema; what upstream says if it can't.
pub fn field_path<'a>(path: &str, schema: &'a Value, brackets: bool) -> Result<FoundField<'a>, String> {
    let mut found = FoundField { path: Path::root(), root: String::new(), schema };
    let mut tokens = tokens(path).into_iter();
    let end = || "unexpected end of JSON path".to_owned();
    while let Some(token) = tokens.next() {
        match token {
            "[" => {
                if !brackets {
                    return Err("array notation is not allowed".into());
                }
                let quoted = tokens.next().ok_or_else(end)?;
                let inner = quoted
                    .strip_prefix('\'')
                    .and_then(|t| t.strip_suffix('\''))
                    .ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                found.step(&unescape(inner)?)?;
                let close = tokens.next().ok_or_else(end)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
            }
            "." => found.step(tokens.next().ok_or_else(end)?)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

impl FoundField<'_> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        const NONE: &str = "does not refer to a valid field";
        if let Some(properties) = self.schema.map("properties").filter(|p| !p.is_empty()) {
            self.schema = properties.get(name).ok_or(NONE)?;
            self.path = self.path.child(name);
        } else if self.schema.at("additionalProperties").is_object() {
            self.schema = self.schema.at("additionalProperties");
            self.path = self.path.key(name);
        } else {
            return Err(NONE.into());
        }
        if self.root.is_empty() {
            self.root = name.to_owned();
        }
        Ok(())
    }
}

fn tokens(mut rest: &str) -> Vec<&str> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        let length = if rest.starts_with('\'') {
            let bytes = rest.as_bytes();
            (1..bytes.len())
                .find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\')
                .map_or(rest.len(), |i| i + 1)
        } else if rest.starts_with(['.', '[', ']']) {
            1
        } else {
            rest.find(['.', '[', ']']).unwrap_or(rest.len())
        };
        out.push(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | '\'')) => out.push(c),
                _ => return Err("invalid string literal: invalid syntax".into()),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}
