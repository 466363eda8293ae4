//! What two shapes of a kind can differ in.

use machinery::Value;

/// One difference. Paths are `a.b`; `a[]` is every item of the list `a`.
#[derive(Clone, Copy)]
pub enum Step {
    /// (path of an object, old name of a field, today's name)
    Rename(&'static str, &'static str, &'static str),
    /// (path, JSON) that the old API filled in where nothing was given; stays when going back.
    Default(&'static str, &'static str),
    /// Something else: to today's shape, and back.
    Change(fn(&mut Value), fn(&mut Value)),
}

impl Step {
    pub(super) fn to_now(self, object: &mut Value) {
        match self {
            Step::Rename(path, old, now) => each(object, path, &mut |at| rename(at, old, now)),
            Step::Default(path, json) => {
                let (parents, field) = path.rsplit_once('.').unwrap_or(("", path));
                each_made(object, parents, &mut |at| {
                    let Value::Object(map) = at else { return };
                    if map.get(field).is_none_or(Value::is_null) {
                        map.insert(field.to_owned(), serde_json::from_str(json).unwrap_or_default());
                    }
                });
            }
            Step::Change(to_now, _) => to_now(object),
        }
    }

    pub(super) fn to_old(self, object: &mut Value) {
        match self {
            Step::Rename(path, old, now) => each(object, path, &mut |at| rename(at, now, old)),
            Step::Default(..) => {}
            Step::Change(_, to_old) => to_old(object),
        }
    }
}

pub(super) fn rename(at: &mut Value, from: &str, to: &str) {
    if let Value::Object(map) = at
        && let Some(value) = map.remove(from)
        && !value.is_null()
    {
        map.insert(to.to_owned(), value);
    }
}

/// Everything that is there at a path.
pub(super) fn each(object: &mut Value, path: &str, run: &mut dyn FnMut(&mut Value)) {
    walk(object, path, false, run);
}

/// The same, with objects on the way made where they are missing (but no list items).
fn each_made(object: &mut Value, path: &str, run: &mut dyn FnMut(&mut Value)) {
    walk(object, path, true, run);
}

fn walk(at: &mut Value, path: &str, make: bool, run: &mut dyn FnMut(&mut Value)) {
    if path.is_empty() {
        return run(at);
    }
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let name = first.trim_end_matches("[]");
    let Value::Object(map) = at else { return };
    if make && name == first && map.get(name).is_none_or(Value::is_null) {
        map.insert(name.to_owned(), serde_json::json!({}));
    }
    match map.get_mut(name) {
        Some(Value::Array(items)) if name != first => {
            items.iter_mut().for_each(|item| walk(item, rest, make, run));
        }
        Some(value) if name == first && !value.is_null() => walk(value, rest, make, run),
        _ => {}
    }
}
