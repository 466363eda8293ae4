//! How results look: tables, names, JSON, YAML.

use std::io::Write;

use serde_json::Value;

use crate::discovery::Resource;
use crate::error::{Error, Result};
use crate::jsonpath::Template;

#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    Table { wide: bool },
    Name,
    Json,
    Yaml,
    JsonPath(Template),
}

impl Format {
    pub fn parse(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some("") => Ok(Self::Table { wide: false }),
            Some("wide") => Ok(Self::Table { wide: true }),
            Some("name") => Ok(Self::Name),
            Some("json") => Ok(Self::Json),
            Some("yaml") => Ok(Self::Yaml),
            Some(other) if let Some(template) = other.strip_prefix("jsonpath=") => {
                match Template::parse(template) {
                    Ok(template) => Ok(Self::JsonPath(template)),
                    Err(why) => Err(Error::Usage(format!("error parsing jsonpath {template}, {why}"))),
                }
            }
            Some(other) => Err(Error::Usage(format!(
                "unable to match a printer suitable for the output format \"{other}\", allowed formats are: json,jsonpath,name,wide,yaml"
            ))),
        }
    }
}

/// Writes to standard output; a closed pipe (`| head`) ends the program quietly.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// An object as JSON, YAML or what a template says of it, without managedFields as kubectl shows it.
pub fn object(value: &Value, format: &Format) -> Result<String> {
    let mut value = value.clone();
    strip(&mut value);
    match format {
        Format::JsonPath(template) => {
            template.render(&value).map_err(|why| Error::Usage(format!("error executing jsonpath: {why}")))
        }
        Format::Yaml => serde_saphyr::to_string(&value).map_err(|e| Error::Usage(e.to_string())),
        _ => Ok(format!("{:#}\n", value)),
    }
}

fn strip(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for item in value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        strip(item);
    }
}

/// One server-side Table. With `namespaces`, a column of them comes first; `prefix` goes before each name.
pub struct Table<'a> {
    pub table: &'a Value,
    pub namespaces: bool,
    pub wide: bool,
    pub headers: bool,
    pub prefix: Option<&'a Resource>,
}

impl Table<'_> {
    /// The rows as text, columns three blanks apart, as kubectl's.
    pub fn render(&self) -> String {
        let columns: Vec<(usize, String)> = self.table["columnDefinitions"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, column)| self.wide || column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|(i, column)| (i, column["name"].as_str().unwrap_or("").to_uppercase()))
            .collect();
        let mut lines: Vec<Vec<String>> = Vec::new();
        if self.headers {
            let namespace = self.namespaces.then(|| "NAMESPACE".to_owned());
            lines.push(namespace.into_iter().chain(columns.iter().map(|(_, name)| name.clone())).collect());
        }
        for row in self.table["rows"].as_array().into_iter().flatten() {
            let namespace = row["object"]["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
            let cell = |(i, name): &(usize, String)| {
                let text = cell_text(&row["cells"][*i]);
                match self.prefix {
                    Some(resource) if name == "NAME" => format!("{}/{text}", resource.qualified_singular()),
                    _ => text,
                }
            };
            let namespace = self.namespaces.then_some(namespace);
            lines.push(namespace.into_iter().chain(columns.iter().map(cell)).collect());
        }
        align(&lines)
    }
}

fn cell_text(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.lines().next().unwrap_or("").to_owned(),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    }
}

/// Lines of cells, each column as wide as its widest cell and three blanks.
pub fn align(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (i, cell) in line.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(i) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in lines {
        for (i, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if i + 1 < line.len() {
                out.extend(std::iter::repeat_n(' ', widths[i] + 3 - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_align_and_leave_wide_columns_out() {
        let table = json!({
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "Node", "priority": 1}],
            "rows": [{"cells": ["web-1", "1/1", "n"], "object": {"metadata": {"namespace": "default"}}},
                     {"cells": ["a", null, "n"], "object": {"metadata": {"namespace": "kube-system"}}}]});
        let view = Table { table: &table, namespaces: true, wide: false, headers: true, prefix: None };
        assert_eq!(
            view.render(),
            "NAMESPACE     NAME    READY\ndefault       web-1   1/1\nkube-system   a       <none>\n"
        );
    }
}
