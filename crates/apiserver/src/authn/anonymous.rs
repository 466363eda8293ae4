//! Who may come without saying who they are: everybody, nobody, or everybody to some paths only.

use machinery::field::{Error, Path};
use machinery::{Get, Value, json};

#[derive(Clone, Debug, PartialEq)]
pub enum Anonymous {
    Never,
    Always,
    Paths(Vec<String>),
}

impl Anonymous {
    /// The `anonymous` part of an `AuthenticationConfiguration`.
    pub fn parse(object: &Value, errors: &mut Vec<Error>) -> Self {
        let paths: Vec<String> =
            object.list("conditions").iter().map(|c| c.text("path").to_owned()).collect();
        match (object.flag("enabled") == Some(true), paths.is_empty()) {
            (false, true) => Anonymous::Never,
            (false, false) => {
                // upstream shows its inner form of them
                let shown: Vec<Value> = paths.iter().map(|path| json!({"Path": path})).collect();
                let detail = "enabled should be set to true when conditions are defined";
                errors.push(Error::invalid(&Path::new("anonymous").child("conditions"), shown, detail));
                Anonymous::Never
            }
            (true, true) => Anonymous::Always,
            (true, false) => Anonymous::Paths(paths),
        }
    }

    pub fn allows(&self, path: &str) -> bool {
        match self {
            Anonymous::Never => false,
            Anonymous::Always => true,
            Anonymous::Paths(paths) => paths.iter().any(|p| p == path),
        }
    }
}
