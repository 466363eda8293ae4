//! How upstream's messages show its internal structs: Go's field names, all of them, in their order.

use machinery::{Get, Value};
use serde_json::json;

/// What a field that is absent shows as.
#[derive(Clone, Copy)]
pub(crate) enum Zero {
    /// Pointers, lists and maps.
    Null,
    Text,
    Number,
}

/// (Go's name, JSON name, zero)
pub(crate) type Field = (&'static str, &'static str, Zero);

/// A struct of plain fields.
pub(crate) fn show(obj: &Value, fields: &[Field]) -> String {
    show_with(obj, fields, |_, value| value.to_string())
}

/// As [`show`]; `render` gives the text of a present field by its JSON name.
pub(crate) fn show_with(obj: &Value, fields: &[Field], render: impl Fn(&str, &Value) -> String) -> String {
    let parts: Vec<String> = fields
        .iter()
        .map(|(go, name, zero)| {
            let value = obj.at(name);
            let text = if value.is_null() { zero.text() } else { render(name, value) };
            format!("{}:{text}", json!(go))
        })
        .collect();
    format!("{{{}}}", parts.join(","))
}

impl Zero {
    fn text(self) -> String {
        match self {
            Zero::Null => "null",
            Zero::Text => "\"\"",
            Zero::Number => "0",
        }
        .into()
    }
}

/// A JSON value with the fields in the order of upstream's struct (a `metav1.LabelSelector`).
pub(crate) fn label_selector(selector: &Value) -> String {
    let mut parts = Vec::new();
    if selector.map("matchLabels").is_some_and(|m| !m.is_empty()) {
        parts.push(format!("\"matchLabels\":{}", selector.at("matchLabels")));
    }
    let terms: Vec<String> = selector.list("matchExpressions").iter().map(requirement).collect();
    if !terms.is_empty() {
        parts.push(format!("\"matchExpressions\":[{}]", terms.join(",")));
    }
    format!("{{{}}}", parts.join(","))
}

fn requirement(term: &Value) -> String {
    let mut out =
        format!("{{\"key\":{},\"operator\":{}", json!(term.text("key")), json!(term.text("operator")));
    if !term.list("values").is_empty() {
        out.push_str(&format!(",\"values\":{}", term.at("values")));
    }
    out + "}"
}
