//! The batch that leads from one table to another, touching only what differs.

use super::model::{Chain, Set, Table};
use super::{Batch, Key, Value};

/// Appends to `batch` what makes `old` into `new` (same family and name). Elements that packets added to dynamic
/// sets stay, as long as their set does. Nothing is appended when the tables are equal.
pub fn diff(batch: &mut Batch, old: &Table, new: &Table) {
    let (family, table) = (new.family, &*new.name);
    let redefined = |name: &str| match (old.sets.get(name), new.sets.get(name)) {
        (Some(a), Some(b)) => !same_definition(a, b),
        _ => false,
    };
    let rehooked = |name: &str| match (old.chains.get(name), new.chains.get(name)) {
        (Some(a), Some(b)) => a.hook != b.hook,
        _ => false,
    };
    if old.sets.keys().any(|n| redefined(n)) || old.chains.keys().any(|n| rehooked(n)) {
        // Rules refer to sets by identity, so a redefined set means new rules all over: do it plainly.
        return batch.replace_table(new);
    }

    // What is new, empty.
    for (name, set) in &new.sets {
        if !old.sets.contains_key(name) {
            batch.add_set(family, table, name, set);
        }
    }
    for (name, chain) in &new.chains {
        if !old.chains.contains_key(name) {
            batch.add_chain(family, table, name, chain);
        }
    }
    // Old elements and rules go before new ones come: a key may stay with another value.
    for (name, before) in &old.sets {
        let after = new.sets.get(name);
        let gone = |key: &Key, value: &Value| after.is_none_or(|s| s.elements.get(key) != Some(value));
        if after.is_some() || !before.elements.is_empty() {
            let keys = before.elements.iter().filter(|(k, v)| gone(k, v)).map(|(k, _)| k);
            batch.delete_elements(family, table, name, keys);
        }
    }
    let same_rules = |name: &str| {
        let rules = |t: &Table| t.chains.get(name).map(|c: &Chain| c.rules.clone()).unwrap_or_default();
        rules(old) == rules(new)
    };
    for (name, chain) in &old.chains {
        if !chain.rules.is_empty() && !same_rules(name) {
            batch.flush_chain(family, table, name);
        }
    }
    for (name, chain) in &new.chains {
        if !same_rules(name) {
            for rule in &chain.rules {
                batch.add_rule(family, table, name, rule);
            }
        }
    }
    for (name, after) in &new.sets {
        let before = old.sets.get(name);
        let fresh =
            after.elements.iter().filter(|(k, v)| before.is_none_or(|s| s.elements.get(k) != Some(v)));
        batch.add_elements(family, table, name, fresh);
    }
    // Nothing refers to these any more.
    for name in old.chains.keys().filter(|n| !new.chains.contains_key(*n)) {
        batch.delete_chain(family, table, name);
    }
    for name in old.sets.keys().filter(|n| !new.sets.contains_key(*n)) {
        batch.delete_set(family, table, name);
    }
}

fn same_definition(a: &Set, b: &Set) -> bool {
    a.key == b.key && a.value == b.value && a.interval == b.interval && a.dynamic == b.dynamic
}
