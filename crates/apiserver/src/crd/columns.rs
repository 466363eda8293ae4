//! Printer columns of custom resources, and the little of JSONPath that they need.

use jiff::Timestamp;
use machinery::{Get, Value, json};

pub struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: Vec<Step>,
}

enum Step {
    Field(String),
    Index(usize),
    All,
    /// `[?(@.type=="Ready")]`
    Where(String, String),
}

impl Column {
    /// The name, then the columns of a version, or the age.
    pub fn all(version: &Value) -> Vec<Column> {
        let given = version.list("additionalPrinterColumns");
        let mut out = vec![Column {
            name: "Name".to_owned(),
            kind: "string".to_owned(),
            format: "name".to_owned(),
            description: crate::discovery::describe("name").to_owned(),
            priority: 0,
            path: parse(".metadata.name"),
        }];
        if given.is_empty() {
            out.push(Column {
                name: "Age".to_owned(),
                kind: "date".to_owned(),
                format: String::new(),
                description: crate::discovery::describe("creationTimestamp").to_owned(),
                priority: 0,
                path: parse(".metadata.creationTimestamp"),
            });
        }
        out.extend(given.iter().map(|column| {
            let path = column.text("jsonPath");
            let described = column.text("description");
            let description = if described.is_empty() {
                format!("Custom resource definition column (in JSONPath format): {path}")
            } else {
                described.to_owned()
            };
            Column {
                name: column.text("name").to_owned(),
                kind: column.text("type").to_owned(),
                format: column.text("format").to_owned(),
                description,
                priority: column.int("priority").unwrap_or(0),
                path: parse(path),
            }
        }));
        out
    }

    pub fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority})
    }

    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let mut found = vec![object];
        for step in &self.path {
            found = found.into_iter().flat_map(|at| step.take(at)).collect();
        }
        let Some(first) = found.first() else { return Value::Null };
        match self.kind.as_str() {
            "integer" => first.as_i64().map_or(Value::Null, Value::from),
            "number" => first.as_f64().map_or(Value::Null, |_| (*first).clone()),
            "boolean" => first.as_bool().map_or(Value::Null, Value::from),
            "date" => first.as_str().map_or(Value::Null, |at| age(at, now)),
            _ => {
                let texts: Vec<String> = found.iter().map(|v| text(v)).collect();
                texts.join(" ").into()
            }
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// How long ago, as kubectl shows it.
pub fn age(at: &str, now: Timestamp) -> Value {
    let Ok(at) = at.parse::<Timestamp>() else { return "<invalid>".into() };
    let seconds = now.as_second() - at.as_second();
    if seconds < -1 {
        return "<invalid>".into();
    }
    let s = seconds.max(0);
    let (m, h, d) = (s / 60, s / 3600, s / 86400);
    let two = |big: i64, unit: char, small: i64, sub: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{sub}") }
    };
    match s {
        0..=119 => format!("{s}s"),
        120..=599 => two(m, 'm', s % 60, 's'),
        600..=10799 => format!("{m}m"),
        10800..=28799 => two(h, 'h', m % 60, 'm'),
        28800..=172799 => format!("{h}h"),
        172800..=691199 => two(d, 'd', h % 24, 'h'),
        _ if d < 730 => format!("{d}d"),
        _ if d < 2920 => two(d / 365, 'y', d % 365, 'd'),
        _ => format!("{}y", d / 365),
    }
    .into()
}

impl Step {
    fn take<'a>(&self, at: &'a Value) -> Vec<&'a Value> {
        match self {
            Step::Field(name) => at.get(name).filter(|v| !v.is_null()).into_iter().collect(),
            Step::Index(n) => at.get(n).into_iter().collect(),
            Step::All => at.as_array().map(|a| a.iter().collect()).unwrap_or_default(),
            Step::Where(key, want) => {
                let items = at.as_array().map(Vec::as_slice).unwrap_or_default();
                items.iter().filter(|i| i.get(key).is_some_and(|v| text(v) == *want)).collect()
            }
        }
    }
}

fn parse(path: &str) -> Vec<Step> {
    let mut out = Vec::new();
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let Some(end) = tail.find(']') else { break };
            let inside = &tail[..end];
            rest = &tail[end + 1..];
            if let Ok(n) = inside.parse() {
                out.push(Step::Index(n));
            } else if inside == "*" {
                out.push(Step::All);
            } else if let Some(filter) = inside.strip_prefix("?(@.").and_then(|f| f.strip_suffix(')')) {
                if let Some((key, want)) = filter.split_once("==") {
                    let want = want.trim().trim_matches(['"', '\'']);
                    out.push(Step::Where(key.trim().to_owned(), want.to_owned()));
                }
            } else {
                out.push(Step::Field(inside.trim_matches(['"', '\'']).to_owned()));
            }
            continue;
        }
        rest = rest.trim_start_matches('.');
        let mut name = String::new();
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        rest = &rest[end..];
        if name == "*" {
            out.push(Step::All);
        } else if !name.is_empty() {
            out.push(Step::Field(name));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_paths() {
        let object = json!({"spec": {"items": [{"name": "x", "v": 1}, {"name": "y", "v": 2}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}, "metadata": {"annotations": {"a.b/c": "d"}}});
        let check = |path: &str, kind: &str, want: Value| {
            let column = json!({"additionalPrinterColumns": [{"name": "c", "type": kind, "jsonPath": path}]});
            let cell = Column::all(&column)[1].cell(&object, Timestamp::UNIX_EPOCH);
            assert_eq!(cell, want, "{path}");
        };
        check(".spec.items[0].name", "string", json!("x"));
        check(".spec.items[*].name", "string", json!("x y"));
        check(".spec.items[1].v", "integer", json!(2));
        check(".status.conditions[?(@.type==\"Ready\")].status", "string", json!("True"));
        check(".metadata.annotations.a\\.b/c", "string", json!("d"));
        check(".spec.none", "string", Value::Null);
        assert_eq!(age("1970-01-01T00:00:00Z", Timestamp::from_second(200).unwrap()), json!("3m20s"));
    }
}
