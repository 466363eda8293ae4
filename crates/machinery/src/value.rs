//! Short ways into a [`Value`]. Missing, null and wrongly typed all read as absent: decoding has checked the types.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;
static EMPTY: Vec<Value> = Vec::new();

/// Readers and writers by field name.
pub trait Get {
    /// The field, or null.
    fn at(&self, name: &str) -> &Value;
    /// A string, or "".
    fn text(&self, name: &str) -> &str;
    fn int(&self, name: &str) -> Option<i64>;
    fn flag(&self, name: &str) -> Option<bool>;
    /// A list, or the empty one.
    fn list(&self, name: &str) -> &[Value];
    fn map(&self, name: &str) -> Option<&Map<String, Value>>;
    /// Present and not null.
    fn has(&self, name: &str) -> bool;
    /// Sets a field; a value that is not an object becomes one.
    fn set(&mut self, name: &str, value: impl Into<Value>);
    /// Sets a field only if it is absent or null.
    fn set_default(&mut self, name: &str, value: impl Into<Value>);
    /// Takes a field out.
    fn unset(&mut self, name: &str) -> Option<Value>;
    /// The object behind a field, made if need be.
    fn child(&mut self, name: &str) -> &mut Value;
    /// The object behind a field, if there is one.
    fn child_if(&mut self, name: &str) -> Option<&mut Value>;
    /// The list behind a field to change; empty if there is none.
    fn list_mut(&mut self, name: &str) -> &mut [Value];
}

impl Get for Value {
    fn at(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&NULL)
    }

    fn text(&self, name: &str) -> &str {
        self.at(name).as_str().unwrap_or("")
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.at(name).as_i64()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.at(name).as_bool()
    }

    fn list(&self, name: &str) -> &[Value] {
        self.at(name).as_array().unwrap_or(&EMPTY)
    }

    fn map(&self, name: &str) -> Option<&Map<String, Value>> {
        self.at(name).as_object()
    }

    fn has(&self, name: &str) -> bool {
        !self.at(name).is_null()
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        if let Some(map) = self.as_object_mut() {
            map.insert(name.to_owned(), value.into());
        }
    }

    fn set_default(&mut self, name: &str, value: impl Into<Value>) {
        if !self.has(name) {
            self.set(name, value);
        }
    }

    fn unset(&mut self, name: &str) -> Option<Value> {
        self.as_object_mut()?.remove(name)
    }

    fn child(&mut self, name: &str) -> &mut Value {
        if !self.at(name).is_object() {
            self.set(name, Value::Object(Map::new()));
        }
        self.get_mut(name).expect("just set")
    }

    fn child_if(&mut self, name: &str) -> Option<&mut Value> {
        self.get_mut(name).filter(|v| v.is_object())
    }

    fn list_mut(&mut self, name: &str) -> &mut [Value] {
        match self.get_mut(name) {
            Some(Value::Array(items)) => items,
            _ => &mut [],
        }
    }
}
