//! Once more: when something changes an object after others had looked at it, those that want to see it again do.
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#reinvocation-policy>

use std::collections::BTreeSet;

use machinery::Value;

/// Of one request.
#[derive(Default)]
pub struct Reinvocation {
    /// A second round is wanted.
    pub wanted: bool,
    /// This is the second round.
    pub second: bool,
    pub webhooks: Previously,
    pub policies: Previously,
}

/// What one plugin has asked so far.
#[derive(Default)]
pub struct Previously {
    again: BTreeSet<String>,
    asked: BTreeSet<String>,
    output: Option<Value>,
}

impl Previously {
    /// At the start of a round: what others changed since is to be seen by all.
    pub fn begin(&mut self, second: bool, object: Option<&Value>) {
        if second && self.output.as_ref() != object {
            self.changed();
        }
    }

    pub fn end(&mut self, object: Option<&Value>) {
        self.output = object.cloned();
    }

    /// The object changed: those asked before are to be asked again.
    pub fn changed(&mut self) {
        self.again.append(&mut self.asked);
    }

    pub fn asked(&mut self, name: &str) {
        self.asked.insert(name.to_owned());
    }

    pub fn is_to_be_asked(&self, name: &str) -> bool {
        self.again.contains(name)
    }
}
