//! The built-in types, parsed one by one from the table when first asked for.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::node::{Field, Inline, List, ListType, Map, MapType, Other, Schema, Shape, Struct};
use crate::gvk::GroupVersionKind;

static TABLE: &str = include_str!("types.txt");

/// A built-in type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u16);

struct Package {
    /// `core/v1`, `meta/v1`, `types`.
    alias: &'static str,
    /// `io.k8s.api.core.v1`
    prefix: &'static str,
    /// `v1`, `apps/v1`; "-" if its types are no kinds.
    group_version: &'static str,
    /// Its types in [`Index::types`], ordered by name.
    types: std::ops::Range<u16>,
}

struct Entry {
    name: &'static str,
    package: u16,
    /// The head line's attributes, or ` = TYPE`.
    head: &'static str,
    /// The field lines.
    body: &'static str,
    schema: OnceLock<Schema>,
}

struct Index {
    /// Ordered by alias.
    packages: Vec<Package>,
    types: Vec<Entry>,
}

/// The schema of a kind, list kinds (`PodList`) and option kinds included.
pub fn of_kind(gvk: &GroupVersionKind) -> Option<&'static Schema> {
    let index = index();
    let wanted = |p: &&Package| match p.group_version.split_once('/') {
        Some((group, version)) => group == gvk.group && version == gvk.version,
        None => gvk.group.is_empty() && p.group_version == gvk.version,
    };
    let is_kind = |s: &&Schema| s.field("apiVersion").is_some();
    let own = index.packages.iter().find(wanted).and_then(|p| find(p, &gvk.kind)).map(schema).filter(is_kind);
    own.or_else(|| common_kind(&gvk.kind).map(schema))
}

/// Kinds of the meta group that every group-version knows.
fn common_kind(kind: &str) -> Option<TypeId> {
    const COMMON: [&str; 16] = [
        "APIGroup",
        "APIGroupList",
        "APIResourceList",
        "APIVersions",
        "CreateOptions",
        "DeleteOptions",
        "GetOptions",
        "List",
        "ListOptions",
        "PartialObjectMetadata",
        "PartialObjectMetadataList",
        "PatchOptions",
        "Status",
        "Table",
        "UpdateOptions",
        "WatchEvent",
    ];
    COMMON.contains(&kind).then(|| package("meta/v1").and_then(|p| find(p, kind))).flatten()
}

/// A type by name: `core/v1.Pod` or `io.k8s.api.core.v1.Pod`.
pub fn of_type(name: &str) -> Option<&'static Schema> {
    let (prefix, short) = name.rsplit_once('.')?;
    let package = package(prefix).or_else(|| index().packages.iter().find(|p| p.prefix == prefix))?;
    find(package, short).map(schema)
}

/// All kinds of the table, those that no longer are served included; no particular order.
pub fn kinds() -> impl Iterator<Item = (GroupVersionKind, &'static Schema)> {
    let index = index();
    index.types.iter().enumerate().filter_map(|(at, entry)| {
        let package = &index.packages[usize::from(entry.package)];
        if !entry.body.contains("+ meta/v1.TypeMeta ") && !entry.body.contains("+ TypeMeta ") {
            return None;
        }
        let (group, version) = package.group_version.split_once('/').unwrap_or(("", package.group_version));
        let id = TypeId(u16::try_from(at).ok()?);
        Some((GroupVersionKind::new(group, version, entry.name), schema(id)))
    })
}

impl TypeId {
    /// `Pod`
    pub fn short_name(self) -> &'static str {
        index().types[usize::from(self.0)].name
    }

    /// `core/v1`
    pub fn package(self) -> &'static str {
        index().packages[usize::from(index().types[usize::from(self.0)].package)].alias
    }

    /// `io.k8s.api.core.v1.Pod`
    pub fn openapi_name(self) -> String {
        let entry = &index().types[usize::from(self.0)];
        format!("{}.{}", index().packages[usize::from(entry.package)].prefix, entry.name)
    }
}

/// A Go type as Go's messages name it: `[]v1.Container`; pointers are looked through.
pub(crate) fn go_type(go: &str, package: &str) -> String {
    if let Some(rest) = go.strip_prefix('*') {
        return go_type(rest, package);
    }
    if let Some(rest) = go.strip_prefix("[]") {
        let star = if rest.starts_with('*') { "*" } else { "" };
        return match rest {
            "byte" => "[]uint8".into(),
            _ => format!("[]{star}{}", go_type(rest, package)),
        };
    }
    if let Some((key, value)) = go.strip_prefix("map[").and_then(|r| r.split_once(']')) {
        return format!("map[{}]{}", go_type(key, package), go_type(value, package));
    }
    if is_primitive(go) {
        return go.into();
    }
    let (package, name) = go.rsplit_once('.').unwrap_or((package, go));
    // another name of a type in another package is that type
    if let Some(entry) = self::package(package).and_then(|p| find(p, name)) {
        let head = index().types[usize::from(entry.0)].head;
        if let Some(target) = head.strip_prefix(" = ").filter(|t| t.contains("/v1.")) {
            return go_type(target, package);
        }
    }
    format!("{}.{name}", package.rsplit('/').next().unwrap_or(package))
}

/// The element type of a list or map type, looking through names; with the package it is written in.
pub(crate) fn go_element(go: &'static str, package: &'static str) -> (&'static str, &'static str) {
    let go = go.trim_start_matches('*');
    if let Some(rest) = go.strip_prefix("[]") {
        return (rest, package);
    }
    if let Some((_, value)) = go.strip_prefix("map[").and_then(|r| r.split_once(']')) {
        return (value, package);
    }
    let (at, name) = go.rsplit_once('.').unwrap_or((package, go));
    let Some(found) = self::package(at) else { return (go, package) };
    let head = find(found, name).map_or("", |id| index().types[usize::from(id.0)].head);
    match head.strip_prefix(" = ") {
        Some(target) => go_element(target, found.alias),
        None => (go, package),
    }
}

fn is_primitive(go: &str) -> bool {
    matches!(go, "string" | "bool" | "int" | "int32" | "int64" | "float64" | "interface{}" | "byte")
}

pub(super) fn schema(id: TypeId) -> &'static Schema {
    let entry = &index().types[usize::from(id.0)];
    entry.schema.get_or_init(|| parse_entry(id, entry))
}

fn package(alias: &str) -> Option<&'static Package> {
    let packages = &index().packages;
    packages.binary_search_by(|p| p.alias.cmp(alias)).ok().map(|at| &packages[at])
}

fn find(package: &Package, name: &str) -> Option<TypeId> {
    let types = &index().types[usize::from(package.types.start)..usize::from(package.types.end)];
    let at = types.binary_search_by(|t| t.name.cmp(name)).ok()?;
    u16::try_from(at).ok().map(|at| TypeId(package.types.start + at))
}

/// Where each type stands in the table.
fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = Index { packages: Vec::with_capacity(80), types: Vec::with_capacity(1600) };
        let mut at = 0;
        let mut open: Option<(usize, usize)> = None; // head line's type, start of its body
        while at < TABLE.len() {
            let end = TABLE[at..].find('\n').map_or(TABLE.len(), |n| at + n);
            let line = &TABLE[at..end];
            let next = end + 1;
            if !line.starts_with([' ', '#']) {
                if let Some((entry, start)) = open.take() {
                    index.types[entry].body = &TABLE[start..at];
                }
                let count = u16::try_from(index.types.len()).unwrap_or(u16::MAX);
                if let Some(rest) = line.strip_prefix("@ ") {
                    let mut words = rest.split(' ');
                    let mut word = || words.next().unwrap_or("");
                    let (alias, prefix, group_version) = (word(), word(), word());
                    index.packages.push(Package { alias, prefix, group_version, types: count..count });
                } else {
                    let (name, head) = line.split_at(line.find(' ').unwrap_or(line.len()));
                    let package = index.packages.len() - 1;
                    index.packages[package].types.end = count + 1;
                    open = Some((index.types.len(), next.min(TABLE.len())));
                    let package = u16::try_from(package).unwrap_or(u16::MAX);
                    index.types.push(Entry { name, package, head, body: "", schema: OnceLock::new() });
                }
            }
            at = next;
        }
        if let Some((entry, start)) = open {
            index.types[entry].body = &TABLE[start..];
        }
        index
    })
}

fn parse_entry(id: TypeId, entry: &'static Entry) -> Schema {
    let package = index().packages[usize::from(entry.package)].alias;
    if let Some(shape) = leaf(package, entry.name) {
        return Schema::new(shape);
    }
    if let Some(target) = entry.head.strip_prefix(" = ") {
        return Schema::new(parse_type(target, package));
    }
    let mut fields = Vec::new();
    let mut inlines = Vec::new();
    for line in entry.body.lines() {
        parse_field(line.trim_start(), package, &mut fields, &mut inlines);
    }
    let mut out = Struct::new(Some(id), fields);
    out.inlines = inlines;
    for word in entry.head.split(' ') {
        match word.split_once('=') {
            Some(("m", "atomic")) => out.kind = MapType::Atomic,
            Some(("u", unions)) => out.unions = unions,
            _ => {}
        }
    }
    Schema::new(Shape::Struct(Box::new(out)))
}

fn parse_field(
    line: &'static str,
    package: &'static str,
    fields: &mut Vec<Field>,
    inlines: &mut Vec<Inline>,
) {
    let (line, default) = match line.split_once(" d=") {
        Some((line, default)) => (line, serde_json::from_str(default).ok().map(Box::new)),
        None => (line, None),
    };
    let mut words = line.split(' ');
    let name = words.next().unwrap_or("");
    let go = words.next().unwrap_or("");
    let tag = words.next().and_then(|t| t.parse().ok()).unwrap_or(0);
    let schema = Schema { default, ..Schema::new(parse_type(go, package)) };
    let pointer = go.starts_with('*');
    if name == "+" {
        if let Some(inner) = schema.as_struct() {
            let from = go.trim_start_matches('*').rsplit('.').next().unwrap_or(go);
            fields.extend(inner.fields.iter().cloned().map(|mut field| {
                field.tag = if tag == 0 { field.tag } else { 0 };
                field.embedded.insert(0, from);
                field
            }));
            if tag == 0 {
                inlines.extend(inner.inlines.iter().cloned());
            }
        }
        if tag != 0 {
            inlines.push(Inline { tag, schema, pointer });
        }
        return;
    }
    let mut field = Field {
        name: Cow::Borrowed(name),
        schema,
        omit_empty: false,
        omit_zero: false,
        pointer,
        required: false,
        tag,
        patch_strategy: "",
        merge_key: "",
        go,
        package,
        embedded: Vec::new(),
    };
    for word in words {
        match word.split_once('=') {
            None => match word {
                "e" => field.omit_empty = true,
                "z" => field.omit_zero = true,
                "r" => field.required = true,
                _ => {}
            },
            Some(("l", list)) => set_list_type(&mut field.schema, list),
            Some(("m", kind)) => set_map_type(&mut field.schema, kind),
            Some(("p", strategy)) => field.patch_strategy = strategy,
            Some(("k", key)) => field.merge_key = key,
            Some(_) => {}
        }
    }
    fields.push(field);
}

fn set_list_type(schema: &mut Schema, text: &'static str) {
    let (kind, keys) = text.split_once(':').unwrap_or((text, ""));
    if let Shape::List(list) = &mut schema.shape {
        list.kind = match kind {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        };
        list.keys = keys.split(',').filter(|k| !k.is_empty()).map(Cow::Borrowed).collect();
    }
}

fn set_map_type(schema: &mut Schema, kind: &str) {
    let kind = if kind == "atomic" { MapType::Atomic } else { MapType::Granular };
    match &mut schema.shape {
        Shape::Map(map) => map.kind = kind,
        // a struct that is otherwise at this field only gets a copy of its own
        Shape::Ref(id) => {
            let mut copy = self::schema(*id).clone();
            if let Shape::Struct(s) = &mut copy.shape {
                s.kind = kind;
            }
            *schema = Schema { default: schema.default.take(), ..copy };
        }
        _ => {}
    }
}

fn parse_type(go: &'static str, package: &'static str) -> Shape {
    let go = go.trim_start_matches('*');
    if go == "[]byte" {
        return Shape::Bytes;
    }
    if let Some(item) = go.strip_prefix("[]") {
        let item = Schema::new(parse_type(item, package));
        return Shape::List(Box::new(List {
            item,
            kind: ListType::Atomic,
            keys: Vec::new(),
            wrapped: false,
        }));
    }
    if let Some((_, value)) = go.strip_prefix("map[").and_then(|r| r.split_once(']')) {
        let value = Schema::new(parse_type(value, package));
        return Shape::Map(Box::new(Map { value, kind: MapType::Granular }));
    }
    match go {
        "string" => return Shape::String,
        "bool" => return Shape::Bool,
        "int32" => return Shape::Int32,
        "int64" | "int" => return Shape::Int64,
        "float64" => return Shape::Float,
        "interface{}" => return Shape::Any,
        _ => {}
    }
    let (package, name) = go.rsplit_once('.').unwrap_or((package, go));
    if let Some(shape) = leaf(package, name) {
        return shape;
    }
    let Some(found) = self::package(package) else { return Shape::Any };
    let Some(id) = find(found, name) else { return Shape::Any };
    match index().types[usize::from(id.0)].head.strip_prefix(" = ") {
        Some(target) => {
            let mut shape = parse_type(target, found.alias);
            if let Shape::List(list) = &mut shape {
                list.wrapped = matches!(name, "ExtraValue" | "Verbs");
            }
            shape
        }
        None => Shape::Ref(id),
    }
}

/// Types with a JSON form of their own.
fn leaf(package: &str, name: &str) -> Option<Shape> {
    Some(match (package, name) {
        ("meta/v1", "Time" | "Timestamp") => Shape::Time,
        ("meta/v1", "MicroTime") => Shape::MicroTime,
        ("meta/v1", "Duration") => Shape::Duration,
        ("meta/v1", "FieldsV1") => Shape::Fields,
        ("resource", "Quantity") => Shape::Quantity,
        ("intstr", "IntOrString") => Shape::IntOrString,
        ("runtime", "RawExtension" | "Object") => Shape::Raw,
        ("apiextensions/v1" | "apiextensions/v1beta1", "JSON") => Shape::Json,
        ("apiextensions/v1" | "apiextensions/v1beta1", _) => {
            let other = match name {
                "JSONSchemaPropsOrArray" => Other::List,
                "JSONSchemaPropsOrBool" => Other::Bool,
                "JSONSchemaPropsOrStringArray" => Other::Strings,
                _ => return None,
            };
            let props = self::package(package).and_then(|p| find(p, "JSONSchemaProps"))?;
            Shape::Either(Box::new(Schema::new(Shape::Ref(props))), other)
        }
        _ => return None,
    })
}
