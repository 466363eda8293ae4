//! The name of an object within its kind.

use std::fmt;
use std::sync::Arc;

/// `namespace/name`, or `name` alone for what belongs to no namespace. Cheap to clone; ordered by namespace, so
/// that the keys of one namespace stand together.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// An empty namespace means none.
    pub fn new(namespace: &str, name: &str) -> Self {
        if namespace.is_empty() {
            return Self(name.into());
        }
        let mut text = String::with_capacity(namespace.len() + 1 + name.len());
        text.push_str(namespace);
        text.push('/');
        text.push_str(name);
        Self(text.into())
    }

    pub fn cluster(name: &str) -> Self {
        Self(name.into())
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The keys of a namespace are those in `[from, to)`.
    pub(crate) fn bounds(namespace: &str) -> (Self, Self) {
        // '0' follows '/' in ASCII, and neither may stand in a namespace's name before its end.
        (Self(format!("{namespace}/").into()), Self(format!("{namespace}0").into()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let key = Key::new("a", "b");
        assert_eq!((key.namespace(), key.name(), key.as_str()), ("a", "b", "a/b"));
        let key = Key::new("", "node");
        assert_eq!((key.namespace(), key.name(), key.as_str()), ("", "node", "node"));
    }

    #[test]
    fn a_namespace_is_a_range() {
        let (from, to) = Key::bounds("a");
        assert!((from.clone()..to.clone()).contains(&Key::new("a", "x")));
        for other in [Key::new("a-b", "x"), Key::new("a0", "x"), Key::new("ab", "x"), Key::cluster("a")] {
            assert!(!(from.clone()..to.clone()).contains(&other), "{other}");
        }
    }
}
