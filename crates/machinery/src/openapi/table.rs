//! The table of types and parameters.

use std::io::Read;

use flate2::read::DeflateDecoder;
use serde_json::Value;

static DEFLATED: &[u8] = include_bytes!("documents.bin");

/// The table, inflated. About 1.7 MB: keep it for one request only.
pub struct Table {
    text: String,
}

impl Table {
    /// Inflates the table.
    pub fn load() -> Self {
        let mut text = String::new();
        DeflateDecoder::new(DEFLATED).read_to_string(&mut text).expect("compiled in, and tested");
        Self { text }
    }

    /// A type's v3 schema as JSON text.
    pub fn schema(&self, name: &str) -> Option<&str> {
        self.find('T', name)
    }

    /// A type's name, as the table holds it, and its schema.
    pub fn entry(&self, name: &str) -> Option<(&str, &str)> {
        let schema = self.schema(name)?;
        let start = schema.as_ptr() as usize - self.text.as_ptr() as usize;
        Some((&self.text[start - 1 - name.len()..start - 1], schema))
    }

    /// The type of a kind.
    pub fn type_of(&self, group: &str, version: &str, kind: &str) -> Option<&str> {
        self.find('K', &format!("{group}/{version}/{kind}"))
    }

    /// A parameter by its key.
    pub fn parameter(&self, key: &str) -> Option<Value> {
        serde_json::from_str(self.find('P', key)?).ok()
    }

    /// Parameters that the v2 document shares between operations.
    pub fn shared_parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines('R')
    }

    /// Keys and definitions of parameters that belong to a subresource.
    pub fn parameters_of<'a>(&'a self, subresource: &'a str) -> impl Iterator<Item = Value> + 'a {
        self.lines('P').filter_map(move |(key, json)| {
            let name = key.strip_prefix(subresource)?.strip_prefix('/')?;
            if name.contains('/') { None } else { serde_json::from_str(json).ok() }
        })
    }

    fn lines(&self, letter: char) -> impl Iterator<Item = (&str, &str)> {
        self.text
            .lines()
            .filter_map(move |line| line.strip_prefix(letter)?.strip_prefix('\t')?.split_once('\t'))
    }

    /// By binary search: lines are sorted.
    fn find(&self, letter: char, key: &str) -> Option<&str> {
        let wanted = format!("{letter}\t{key}\t");
        let (mut low, mut high) = (0, self.text.len());
        while low < high {
            let middle = self.text[..low + (high - low) / 2].rfind('\n').map_or(0, |at| at + 1).max(low);
            let end = self.text[middle..].find('\n').map_or(self.text.len(), |at| middle + at);
            let line = &self.text[middle..end];
            if let Some(found) = line.strip_prefix(&*wanted) {
                return Some(found);
            }
            if line < &*wanted { low = end + 1 } else { high = middle }
        }
        None
    }
}
