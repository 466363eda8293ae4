//! Who may come without saying who they are: everybody, nobody, or everybody to some paths only.

use machinery::{Get, Value};

#[derive(Clone, Debug, PartialEq)]
pub enum Anonymous {
    Never,
    Always,
    Paths(Vec<String>),
}

impl Anonymous {
    /// The `anonymous` part of an `AuthenticationConfiguration`.
    pub fn parse(object: &Value) -> Result<Self, String> {
        let paths: Vec<String> =
            object.list("conditions").iter().map(|c| c.text("path").to_owned()).collect();
        match (object.flag("enabled") == Some(true), paths.is_empty()) {
            (false, true) => Ok(Anonymous::Never),
            (false, false) => {
                Err("anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined".to_owned())
            }
            (true, true) => Ok(Anonymous::Always),
            (true, false) => Ok(Anonymous::Paths(paths)),
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
