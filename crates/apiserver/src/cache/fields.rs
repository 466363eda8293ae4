//! Which fields of a resource can be selected by, and their values in an object.

use std::sync::Arc;

use machinery::Value;

#[derive(Clone)]
pub struct Fields {
    names: Arc<[String]>,
    get: Arc<dyn Fn(&Value, &str) -> String + Send + Sync>,
}

impl Fields {
    pub fn builtin(names: &'static [&'static str], select: fn(&Value, &str) -> String) -> Self {
        Self { names: names.iter().map(|n| (*n).to_owned()).collect(), get: Arc::new(select) }
    }

    /// Dotted paths of scalar fields (`selectableFields` of a CustomResourceDefinition), without the leading dot.
    pub fn paths(names: Vec<String>) -> Self {
        let get = |object: &Value, path: &str| {
            let found = path.split('.').try_fold(object, |at, name| at.get(name));
            match found {
                Some(Value::String(s)) => s.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            }
        };
        Self { names: names.into(), get: Arc::new(get) }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The values of all fields, in order.
    pub fn values(&self, object: &Value) -> Box<[Box<str>]> {
        self.names.iter().map(|name| (self.get)(object, name).into_boxed_str()).collect()
    }
}
