//! Sets of field paths, and their `FieldsV1` form.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value, map};

use crate::codec::json::{decode_any, encode_any, encode_string};
use crate::field::go_quote;

/// A step of a path.
#[derive(Clone, Debug)]
pub enum Element {
    Field(String),
    /// An item of a list, by its key fields, ordered by name.
    Key(Vec<(String, Value)>),
    /// An item of a set, by its value.
    Value(Value),
    Index(i64),
}

/// A set of paths. A path can be in it with or without the paths below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    /// Ordered by element.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    element: Element,
    /// The path that ends here is in the set.
    member: bool,
    below: Set,
}

/// Which paths of a set stay.
#[derive(Clone, Debug)]
pub enum Filter {
    /// All but these and what is below them.
    Exclude(Set),
    /// Only these, what is below them, and members on the way. None matches any one element.
    Include(Vec<Vec<Option<Element>>>),
}

impl Element {
    pub fn field(name: &str) -> Self {
        Element::Field(name.to_owned())
    }

    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }

    /// `f:name`, `k:{"name":"a"}`, `v:"a"`, `i:0`.
    fn encode(&self) -> String {
        let mut out = Vec::new();
        match self {
            Element::Field(name) => return ["f:", name].concat(),
            Element::Index(index) => return format!("i:{index}"),
            Element::Key(fields) => {
                out.extend_from_slice(b"k:{");
                for (n, (name, value)) in fields.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    encode_string(name, &mut out);
                    out.push(b':');
                    encode_any(value, &mut out);
                }
                out.push(b'}');
            }
            Element::Value(value) => {
                out.extend_from_slice(b"v:");
                encode_any(value, &mut out);
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// None: of a sort that we do not know, to be passed over.
    fn decode(text: &str) -> Result<Option<Self>, String> {
        let json = |text: &str| decode_any(text.as_bytes()).map_err(|e| e.to_string());
        let Some((sort, rest)) = text.split_at_checked(2) else {
            return Err("key must be 2 characters long:".into());
        };
        Ok(Some(match sort {
            "f:" => Element::Field(rest.to_owned()),
            "v:" => Element::Value(json(rest)?),
            "i:" => Element::Index(
                rest.parse()
                    .map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", go_quote(rest)))?,
            ),
            "k:" => match json(rest)? {
                Value::Object(map) => Element::Key(map.into_iter().collect()),
                _ => return Err("expect { or n".into()),
            },
            sort if sort.ends_with(':') => return Ok(None),
            _ => return Err(format!("missing colon: {text}")),
        }))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element {}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Element::Field(a), Element::Field(b)) => a.cmp(b),
            (Element::Value(a), Element::Value(b)) => compare_values(a, b),
            (Element::Index(a), Element::Index(b)) => a.cmp(b),
            (Element::Key(a), Element::Key(b)) => {
                for ((a_name, a), (b_name, b)) in a.iter().zip(b) {
                    let order = a_name.cmp(b_name).then_with(|| compare_values(a, b));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                a.len().cmp(&b.len())
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// `.name`, `[name="a"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(fields) => {
                let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={}", show(v))).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Element::Value(value) => write!(f, "[={}]", show(value)),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A whole path as text.
pub(super) fn show_path(path: &[Element]) -> String {
    path.iter().map(Element::to_string).collect()
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(",")),
        Value::Object(map) => map.iter().map(|(k, v)| format!("{k}={}", show(v))).collect(),
        other => other.to_string(),
    }
}

/// Upstream's order of values: numbers, strings, booleans, lists, maps, null.
pub(super) fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let first = a.iter().zip(b).map(|(a, b)| compare_values(a, b)).find(|o| o.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let each =
                a.iter().zip(b).map(|((ka, a), (kb, b))| ka.cmp(kb).then_with(|| compare_values(a, b)));
            each.into_iter().find(|o| o.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

impl Set {
    /// Of paths of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut out = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            out.insert(&path);
        }
        out
    }

    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|e| !e.member && e.below.is_empty())
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        // most insertions are in order
        match self.entries.last().map(|last| last.element.cmp(element)) {
            Some(Ordering::Less) => Err(self.entries.len()),
            Some(Ordering::Equal) => Ok(self.entries.len() - 1),
            _ => self.entries.binary_search_by(|e| e.element.cmp(element)),
        }
    }

    fn get(&self, element: &Element) -> Option<&Entry> {
        self.find(element).ok().map(|at| &self.entries[at])
    }

    fn entry(&mut self, element: &Element) -> &mut Entry {
        let at = match self.find(element) {
            Ok(at) => at,
            Err(at) => {
                let fresh = Entry { element: element.clone(), member: false, below: Set::default() };
                self.entries.insert(at, fresh);
                at
            }
        };
        &mut self.entries[at]
    }

    /// The empty path is not inserted.
    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => self.entry(last).member = true,
            [first, rest @ ..] => self.entry(first).below.insert(rest),
        }
    }

    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|e| e.member),
            [first, rest @ ..] => self.get(first).is_some_and(|e| e.below.has(rest)),
        }
    }

    /// What is below an element; None if nothing is.
    pub(super) fn below(&self, element: &Element) -> Option<&Set> {
        self.get(element).map(|e| &e.below).filter(|s| !s.entries.is_empty())
    }

    /// The elements at the top: is it a member, and what is below.
    pub(super) fn top(&self) -> impl Iterator<Item = (&Element, bool, &Set)> {
        self.entries.iter().map(|e| (&e.element, e.member, &e.below))
    }

    /// Keeps order: `element` must come after all others.
    pub(super) fn push(&mut self, element: Element, member: bool, below: Set) {
        self.entries.push(Entry { element, member, below });
    }

    /// Adds an element with what is below it.
    pub(super) fn put(&mut self, element: Element, member: bool, below: Set) {
        match self.find(&element) {
            Ok(at) => {
                let entry = &mut self.entries[at];
                entry.member |= member;
                entry.below.add(below);
            }
            Err(at) => self.entries.insert(at, Entry { element, member, below }),
        }
    }

    /// Becomes the union with another.
    pub(super) fn add(&mut self, other: Set) {
        if self.entries.is_empty() {
            *self = other;
            return;
        }
        for Entry { element, member, below } in other.entries {
            self.put(element, member, below);
        }
    }

    /// Takes the paths of the other set out; paths below those stay.
    pub(super) fn remove(&mut self, other: &Set) {
        if other.entries.is_empty() {
            return;
        }
        self.entries.retain_mut(|entry| {
            let Some(gone) = other.get(&entry.element) else { return true };
            entry.below.remove(&gone.below);
            entry.member &= !gone.member;
            entry.member || !entry.below.entries.is_empty()
        });
    }

    /// Takes the paths of the other set out and what is below them.
    fn remove_all(&mut self, other: &Set) {
        if other.entries.is_empty() {
            return;
        }
        self.entries.retain_mut(|entry| {
            let Some(gone) = other.get(&entry.element) else { return true };
            if gone.member {
                return false;
            }
            entry.below.remove_all(&gone.below);
            entry.member || !entry.below.entries.is_empty()
        });
    }

    /// Is a path of the other set in this one, given as a `FieldsV1` value?
    pub(super) fn any_in(&self, fields: &Value) -> bool {
        let Value::Object(map) = fields else { return false };
        self.entries.iter().any(|entry| {
            let Some(found) = map.get(&entry.element.encode()) else { return false };
            (entry.member && is_member(found)) || entry.below.any_in(found)
        })
    }

    #[must_use]
    pub fn union(&self, other: &Set) -> Set {
        let mut out = Vec::with_capacity(self.entries.len().max(other.entries.len()));
        zip(&self.entries, &other.entries, |a, b| {
            out.extend(match (a, b) {
                (Some(a), Some(b)) => Some(Entry {
                    element: a.element.clone(),
                    member: a.member || b.member,
                    below: a.below.union(&b.below),
                }),
                (one, other) => one.or(other).cloned(),
            });
        });
        Set { entries: out }
    }

    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        let mut out = Vec::new();
        zip(&self.entries, &other.entries, |a, b| {
            if let (Some(a), Some(b)) = (a, b) {
                let below = a.below.intersection(&b.below);
                keep(&mut out, &a.element, a.member && b.member, below);
            }
        });
        Set { entries: out }
    }

    /// Without the paths of the other set; paths below those stay.
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        let mut out = self.clone();
        out.remove(other);
        out
    }

    /// Without the paths of the other set and what is below them.
    #[must_use]
    pub fn recursive_difference(&self, other: &Set) -> Set {
        let mut out = self.clone();
        out.remove_all(other);
        out
    }

    /// All paths: members of a level before what is below them.
    pub fn for_each(&self, visit: &mut impl FnMut(&[Element])) {
        self.walk(&mut Vec::new(), visit);
    }

    fn walk(&self, path: &mut Vec<Element>, visit: &mut impl FnMut(&[Element])) {
        for entry in self.entries.iter().filter(|e| e.member) {
            path.push(entry.element.clone());
            visit(path);
            path.pop();
        }
        for entry in &self.entries {
            path.push(entry.element.clone());
            entry.below.walk(path, visit);
            path.pop();
        }
    }

    /// A `FieldsV1` value.
    pub fn to_fields(&self) -> Value {
        self.emit(false)
    }

    fn emit(&self, own: bool) -> Value {
        let mut map = Map::new();
        if own && !self.entries.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for entry in &self.entries {
            map.insert(entry.element.encode(), entry.below.emit(entry.member));
        }
        Value::Object(map)
    }

    /// Adds the paths to a `FieldsV1` value.
    pub(super) fn add_to(&self, fields: &mut Map<String, Value>) {
        let own = || (".".to_owned(), Value::Object(Map::new()));
        for entry in &self.entries {
            match fields.entry(entry.element.encode()) {
                map::Entry::Vacant(place) => drop(place.insert(entry.below.emit(entry.member))),
                map::Entry::Occupied(mut place) => {
                    if !place.get().is_object() {
                        place.insert(Value::Object(Map::new()));
                    }
                    let Value::Object(below) = place.get_mut() else { continue };
                    let member = entry.member || below.is_empty();
                    entry.below.add_to(below);
                    if member && !below.is_empty() {
                        below.extend([own()]);
                    }
                }
            }
        }
    }

    /// From a `FieldsV1` value.
    pub fn from_fields(fields: &Value) -> Result<Self, String> {
        Ok(read(fields)?.0.unwrap_or_default())
    }
}

/// The set, and whether its root is a member.
fn read(fields: &Value) -> Result<(Option<Set>, bool), String> {
    let Value::Object(map) = fields else {
        return if fields.is_null() { Ok((None, true)) } else { Err("expect { or n".into()) };
    };
    let mut set: Option<Set> = None;
    let mut own = false;
    for (key, value) in map {
        if key == "." {
            own = true;
            continue;
        }
        let Some(element) = Element::decode(key).map_err(|e| format!("parsing key as path element: {e}"))?
        else {
            continue;
        };
        let (below, member) = read(value)?;
        let entry = set.get_or_insert_default().entry(&element);
        entry.member |= member;
        if let Some(below) = below {
            entry.below = below;
        }
    }
    let own = own || set.is_none();
    Ok((set, own))
}

fn keep(out: &mut Vec<Entry>, element: &Element, member: bool, below: Set) {
    if member || !below.entries.is_empty() {
        out.push(Entry { element: element.clone(), member, below });
    }
}

/// Is the path that leads to a place of a `FieldsV1` value in the set?
fn is_member(fields: &Value) -> bool {
    let Value::Object(map) = fields else { return true };
    map.contains_key(".") || map.is_empty()
}

/// Two ordered lists side by side.
fn zip<'a>(a: &'a [Entry], b: &'a [Entry], mut each: impl FnMut(Option<&'a Entry>, Option<&'a Entry>)) {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.element.cmp(&b.element),
        };
        match order {
            Ordering::Less => each(a.next(), None),
            Ordering::Greater => each(None, b.next()),
            Ordering::Equal => each(a.next(), b.next()),
        }
    }
}

impl Filter {
    /// A filter that lets no field below these paths be owned.
    pub fn exclude(paths: &[&[&str]]) -> Self {
        Filter::Exclude(Set::of_fields(paths))
    }

    pub(super) fn apply(&self, mut set: Set) -> Set {
        match self {
            Filter::Exclude(excluded) => {
                set.remove_all(excluded);
                set
            }
            Filter::Include(patterns) => {
                include(&set, &patterns.iter().map(Vec::as_slice).collect::<Vec<_>>())
            }
        }
    }
}

fn include(set: &Set, patterns: &[&[Option<Element>]]) -> Set {
    let mut out = Set::default();
    for entry in &set.entries {
        let matching = |pattern: &&[Option<Element>]| match pattern {
            [first, rest @ ..] if first.as_ref().is_none_or(|f| *f == entry.element) => Some(rest.to_vec()),
            _ => None,
        };
        let rests: Vec<Vec<Option<Element>>> = patterns.iter().filter_map(matching).collect();
        if rests.is_empty() {
            continue;
        }
        let below = if rests.iter().any(Vec::is_empty) {
            entry.below.clone()
        } else {
            include(&entry.below, &rests.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        keep(&mut out.entries, &entry.element, entry.member, below);
    }
    out
}
