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
            removed: filter.apply(&self.removed),
            modified: filter.apply(&self.modified),
            added: filter.apply(&self.added),
        }
    }
}

pub(super) fn compare(node: Node, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk { path: Vec::new(), out: Comparison::default() };
    walk.compare(node, Some(old), Some(new));
    walk.out
}

struct Walk {
    path: Vec<Element>,
    out: Comparison,
}

impl Walk {
    fn compare(&mut self, node: Node, old: Option<&Value>, new: Option<&Value>) {
        // what is the same needs no walk
        if let (Some(old), Some(new)) = (old, new) {
            if old == new {
                return;
            }
            if !node.same_kind(old, new) {
                self.handle(node.kind(Some(old)), Some(old), Some(new));
            }
        }
        let leaf = self.handle(node.kind(new.or(old)), old, new);
        if !leaf {
            match (old, new) {
                (None, _) => self.out.added.insert(&self.path),
                (_, None) => self.out.removed.insert(&self.path),
                _ => {}
            }
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
                    self.below(
                        of.under(key),
                        Element::Field(key.clone()),
                        Some(old),
                        b.and_then(|b| b.get(key)),
                    );
                }
                for (key, new) in b.into_iter().flatten() {
                    if a.is_none_or(|a| !a.contains_key(key)) {
                        self.below(of.under(key), Element::Field(key.clone()), None, Some(new));
                    }
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

    fn below(&mut self, node: Option<Node>, element: Element, old: Option<&Value>, new: Option<&Value>) {
        let Some(node) = node else { return };
        self.path.push(element);
        self.compare(node, old, new);
        self.path.pop();
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(old), Some(new)) if !same(old, new) => self.out.modified.insert(&self.path),
            _ => {}
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
            match (&old[..], &new[..]) {
                ([] | [_], [] | [_]) => {
                    self.below(Some(of.item), element, old.first().copied(), new.first().copied());
                }
                ([_, _, ..], [_, _, ..]) => {
                    let equal = old.len() == new.len() && old.iter().zip(&new).all(|(a, b)| same(a, b));
                    if !equal {
                        self.mark(element, |c| &mut c.modified);
                    }
                }
                ([_, _, ..], _) => {
                    if let [new] = new[..] {
                        self.below(Some(of.item), element.clone(), None, Some(new));
                    }
                    self.mark(element, |c| &mut c.removed);
                }
                (_, _) => {
                    if let [old] = old[..] {
                        self.below(Some(of.item), element.clone(), Some(old), None);
                    }
                    self.mark(element, |c| &mut c.added);
                }
            }
        }
    }

    fn mark(&mut self, element: Element, set: impl Fn(&mut Comparison) -> &mut Set) {
        self.path.push(element);
        set(&mut self.out).insert(&self.path);
        self.path.pop();
    }
}

/// Equal; numbers by value.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    a == b || super::set::compare_values(a, b).is_eq()
}
