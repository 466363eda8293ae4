//! What has changed from one object to another.

use serde_json::Value;

use super::node::{Kind, ListNode, Node, array, object};
use super::set::{Element, Filter, Set};
use super::walk::scalar_error;

#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

impl Comparison {
    pub fn filtered(self, filter: Option<&Filter>) -> Self {
        let Some(filter) = filter else { return self };
        Self {
            removed: filter.apply(self.removed),
            modified: filter.apply(self.modified),
            added: filter.apply(self.added),
        }
    }
}

pub(super) fn compare(node: Node, old: &Value, new: &Value) -> Comparison {
    let Found { removed, modified, added } = found(node, Some(old), Some(new));
    Comparison { removed: removed.below, modified: modified.below, added: added.below }
}

/// What has changed at one place: itself, and what is below it.
#[derive(Default)]
struct Found {
    removed: Place,
    modified: Place,
    added: Place,
}

#[derive(Default)]
struct Place {
    member: bool,
    below: Set,
}

impl Found {
    /// Takes in what was found below, under the element that leads there.
    fn take(&mut self, element: impl Fn() -> Element, below: Found) {
        let Found { removed, modified, added } = below;
        let sides = [(&mut self.removed, removed), (&mut self.modified, modified), (&mut self.added, added)];
        for (of, Place { member, below }) in sides {
            if member || !below.is_empty() {
                of.below.put(element(), member, below);
            }
        }
    }

    /// A place that is compared as one piece.
    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.added.member = true,
            (_, None) => self.removed.member = true,
            (Some(old), Some(new)) if !same(old, new) => self.modified.member = true,
            _ => {}
        }
    }

    /// Was it compared as one piece?
    fn handle(&mut self, kind: Option<Kind>, old: Option<&Value>, new: Option<&Value>) -> bool {
        match kind {
            None => false,
            Some(Kind::Scalar(scalar)) => {
                let wrong = |v: Option<&Value>| v.is_some_and(|v| scalar_error(scalar, v).is_some());
                if wrong(old) && wrong(new) {
                    return false;
                }
                self.leaf(old, new);
                true
            }
            Some(Kind::Map(of)) => {
                let (a, b) = (object(old), object(new));
                if of.atomic || (a.is_none_or(|m| m.is_empty()) && b.is_none_or(|m| m.is_empty())) {
                    self.leaf(old, new);
                    return true;
                }
                for (key, old) in a.into_iter().flatten() {
                    let Some(node) = of.under(key) else { continue };
                    let below = found(node, Some(old), b.and_then(|b| b.get(key)));
                    self.take(|| Element::field(key), below);
                }
                for (key, new) in b.into_iter().flatten() {
                    if a.is_some_and(|a| a.contains_key(key)) {
                        continue;
                    }
                    let Some(node) = of.under(key) else { continue };
                    self.take(|| Element::field(key), found(node, None, Some(new)));
                }
                false
            }
            Some(Kind::List(of)) => {
                let (a, b) = (array(old).unwrap_or(&[]), array(new).unwrap_or(&[]));
                if of.atomic || (a.is_empty() && b.is_empty()) {
                    self.leaf(old, new);
                    return true;
                }
                self.list(&of, a, b);
                false
            }
        }
    }

    fn list(&mut self, of: &ListNode, old: &[Value], new: &[Value]) {
        let mut all: Vec<(Element, Vec<&Value>, Vec<&Value>)> = Vec::with_capacity(old.len().max(new.len()));
        // lists are short: a search is cheaper than a map of elements
        let sides = old.iter().map(|v| (v, true)).chain(new.iter().map(|v| (v, false)));
        for (item, is_old) in sides {
            let Ok(element) = of.element(item) else { continue };
            let at = match all.iter().position(|(e, _, _)| *e == element) {
                Some(at) => at,
                None => {
                    all.push((element, Vec::new(), Vec::new()));
                    all.len() - 1
                }
            };
            if is_old { all[at].1.push(item) } else { all[at].2.push(item) }
        }
        for (element, old, new) in all {
            let mut item = Found::default();
            match (&old[..], &new[..]) {
                ([] | [_], [] | [_]) => item = found(of.item, old.first().copied(), new.first().copied()),
                ([_, _, ..], [_, _, ..]) => {
                    let equal = old.len() == new.len() && old.iter().zip(&new).all(|(a, b)| same(a, b));
                    item.modified.member = !equal;
                }
                ([_, _, ..], _) => {
                    if let [new] = new[..] {
                        item = found(of.item, None, Some(new));
                    }
                    item.removed.member = true;
                }
                (_, _) => {
                    if let [old] = old[..] {
                        item = found(of.item, Some(old), None);
                    }
                    item.added.member = true;
                }
            }
            self.take(|| element.clone(), item);
        }
    }
}

fn found(node: Node, old: Option<&Value>, new: Option<&Value>) -> Found {
    let mut out = Found::default();
    // what is the same needs no walk
    if let (Some(old), Some(new)) = (old, new) {
        if old == new {
            return out;
        }
        if !node.same_kind(old, new) {
            out.handle(node.kind(Some(old)), Some(old), Some(new));
        }
    }
    let leaf = out.handle(node.kind(new.or(old)), old, new);
    if !leaf {
        match (old, new) {
            (None, _) => out.added.member = true,
            (_, None) => out.removed.member = true,
            _ => {}
        }
    }
    out
}

/// Equal; numbers by value.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    a == b || super::set::compare_values(a, b).is_eq()
}
