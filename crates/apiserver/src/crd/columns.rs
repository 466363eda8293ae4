//! Printer columns of custom resources.

use jiff::Timestamp;
use machinery::{Get, Value, json};

pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub path: String,
}

impl Column {
    pub fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority})
    }

    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self
            .path
            .split('.')
            .filter(|s| !s.is_empty())
            .try_fold(object, |at, name| Some(at.at(name)).filter(|v| !v.is_null()));
        let Some(value) = found else { return Value::Null };
        match self.kind.as_str() {
            "date" => {
                let _ = now;
                value.clone()
            }
            "string" if !value.is_string() => value.to_string().into(),
            _ => value.clone(),
        }
    }
}
