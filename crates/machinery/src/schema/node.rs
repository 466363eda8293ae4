//! The nodes of a schema.

use std::borrow::Cow;
use std::sync::OnceLock;

use serde_json::Value;

use super::builtin::{self, TypeId};

/// A type: what may stand at one place of an object.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(super) shape: Shape,
    /// The value an absent field gets. For built-in types this is the default that the published schema names; kinds
    /// default by their strategies, server-side apply uses it for list keys.
    pub default: Option<Box<Value>>,
    /// Custom resources: null is a value of its own.
    pub nullable: bool,
}

#[derive(Clone, Debug)]
pub enum Shape {
    /// Any JSON, kept as it is.
    Any,
    Bool,
    Int32,
    Int64,
    Float,
    String,
    /// Base64 in JSON.
    Bytes,
    Quantity,
    /// RFC 3339 in UTC, whole seconds.
    Time,
    /// RFC 3339 in UTC, microseconds.
    MicroTime,
    /// As Go prints it: `1h0m0s`.
    Duration,
    IntOrString,
    /// An embedded object (`runtime.RawExtension`): any JSON, null when absent.
    Raw,
    /// JSON of a CRD's schema (`apiextensions.JSON`): any JSON, null when absent.
    Json,
    /// A set of field paths (`metav1.FieldsV1`).
    Fields,
    List(Box<List>),
    Map(Box<Map>),
    Struct(Box<Struct>),
    /// `JSONSchemaPropsOr…`: a struct, or something else.
    Either(Box<Schema>, Other),
    /// A built-in struct; [`Schema::shape`] never returns it.
    Ref(TypeId),
}

/// What may stand in place of the struct of a [`Shape::Either`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// A list of such structs.
    List,
    Bool,
    /// A list of strings.
    Strings,
}

#[derive(Clone, Debug)]
pub struct List {
    pub item: Schema,
    pub kind: ListType,
    /// The fields that identify an item, for [`ListType::Map`].
    pub keys: Vec<Cow<'static, str>>,
    /// In protobuf a message of its own with the items in field 1 (`ExtraValue`, `Verbs`).
    pub wrapped: bool,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

#[derive(Clone, Debug)]
pub struct Map {
    pub value: Schema,
    pub kind: MapType,
}

/// `x-kubernetes-map-type`, of maps and structs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MapType {
    #[default]
    Granular,
    Atomic,
}

#[derive(Clone, Debug, Default)]
pub struct Struct {
    /// None: of a custom resource.
    pub id: Option<TypeId>,
    /// In wire order; inline structs' fields where they stand.
    pub fields: Vec<Field>,
    /// Where a field stands in `fields`, by hash of its name; a table with free places, see [`Struct::position`].
    pub(super) by_name: Vec<u16>,
    /// Structs whose fields stand inline in JSON but in a message of their own in protobuf.
    pub inlines: Vec<Inline>,
    pub kind: MapType,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-unions` of a built-in type, as JSON text; "" if none.
    pub unions: &'static str,
    /// Fields that stand on the wire when not set; found on first use.
    pub(super) always: OnceLock<Vec<u16>>,
    /// What has a protobuf number, in that order; found on first use.
    pub(super) wire: OnceLock<Vec<(u32, Wire)>>,
}

/// What a protobuf field number stands for: an index into `fields` or `inlines`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Field(u16),
    Inline(u16),
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: Cow<'static, str>,
    pub schema: Schema,
    /// Go's `omitempty`: left out when zero or empty, unless it is a pointer or a struct.
    pub omit_empty: bool,
    /// Go's `omitzero`.
    pub omit_zero: bool,
    /// A zero is a value that differs from absent.
    pub pointer: bool,
    pub required: bool,
    /// Protobuf field number; 0: not in protobuf, or in one of [`Struct::inlines`].
    pub tag: u32,
    /// Strategic merge: "", `merge`, `replace`, `retainKeys`, `merge,retainKeys`.
    pub patch_strategy: &'static str,
    /// Strategic merge: "" if none.
    pub merge_key: &'static str,
    /// The Go type, as the shapes file writes it; "" for custom resources.
    pub(crate) go: &'static str,
    /// Alias of the package in which `go` is written.
    pub(crate) package: &'static str,
    /// The names of the inline structs it comes from, outermost first.
    pub(crate) embedded: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Inline {
    pub tag: u32,
    pub schema: Schema,
    pub pointer: bool,
}

impl Schema {
    pub(crate) const STRING: Schema = Schema { shape: Shape::String, default: None, nullable: false };

    pub fn new(shape: Shape) -> Self {
        Self { shape, default: None, nullable: false }
    }

    /// Never [`Shape::Ref`]: references to built-in types are followed.
    pub fn shape(&self) -> &Shape {
        match &self.shape {
            Shape::Ref(id) => builtin::schema(*id).shape(),
            shape => shape,
        }
    }

    pub fn as_struct(&self) -> Option<&Struct> {
        match self.shape() {
            Shape::Struct(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&List> {
        match self.shape() {
            Shape::List(list) => Some(list),
            _ => None,
        }
    }

    /// The schema of a field of a struct, or of the values of a map.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        match self.shape() {
            Shape::Struct(s) => s.field(name).map(|f| &f.schema),
            Shape::Map(map) => Some(&map.value),
            _ => None,
        }
    }

    /// The schema of the items of a list.
    pub fn item(&self) -> Option<&Schema> {
        self.as_list().map(|list| &list.item)
    }

    /// Follows field names; items of lists need no step (`["spec", "containers", "name"]`).
    pub fn at(&self, path: &[&str]) -> Option<&Schema> {
        path.iter().try_fold(self, |at, name| at.item().unwrap_or(at).field(name))
    }
}

/// No field stands here.
const FREE: u16 = u16::MAX;

/// Cheap: length and the ends tell most field names apart.
fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let word = |part: &[u8]| part.iter().fold(0u64, |sum, b| (sum << 8) | u64::from(*b));
    let (head, tail) = match bytes.len() {
        0..8 => (word(bytes), 0),
        len => {
            let at = |from: usize| bytes[from..from + 8].try_into().map_or(0, u64::from_le_bytes);
            (at(0), at(len - 8))
        }
    };
    let mixed = (head ^ tail.rotate_left(29) ^ (bytes.len() as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize
}

impl Struct {
    /// Fields in wire order.
    pub fn new(id: Option<TypeId>, fields: Vec<Field>) -> Self {
        let mut by_name = vec![FREE; (fields.len() * 2).next_power_of_two().max(2)];
        let mask = by_name.len() - 1;
        for (position, field) in fields.iter().enumerate() {
            let mut at = hash(&field.name) & mask;
            while by_name[at] != FREE {
                at = (at + 1) & mask;
            }
            by_name[at] = u16::try_from(position).unwrap_or(FREE);
        }
        Self { id, fields, by_name, ..Self::default() }
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.position(name).map(|at| &self.fields[at])
    }

    /// Index into `fields`.
    pub fn position(&self, name: &str) -> Option<usize> {
        let mask = self.by_name.len().checked_sub(1)?;
        let mut at = hash(name) & mask;
        loop {
            let position = usize::from(*self.by_name.get(at)?);
            if *self.fields.get(position)?.name == *name {
                return Some(position);
            }
            at = (at + 1) & mask;
        }
    }

    /// By protobuf field number, ascending.
    pub(crate) fn wire(&self) -> &[(u32, Wire)] {
        self.wire.get_or_init(|| {
            let index = |n: usize| u16::try_from(n).unwrap_or(FREE);
            let fields = self.fields.iter().enumerate().map(|(n, f)| (f.tag, Wire::Field(index(n))));
            let inlines = self.inlines.iter().enumerate().map(|(n, i)| (i.tag, Wire::Inline(index(n))));
            let mut all: Vec<(u32, Wire)> = fields.chain(inlines).filter(|(tag, _)| *tag != 0).collect();
            all.sort_by_key(|(tag, _)| *tag);
            all
        })
    }

    /// `Pod`; "" for custom resources.
    pub fn go_name(&self) -> &'static str {
        self.id.map_or("", TypeId::short_name)
    }
}

impl Field {
    pub fn merges(&self) -> bool {
        self.patch_strategy.split(',').any(|s| s == "merge")
    }

    pub fn retains_keys(&self) -> bool {
        self.patch_strategy.split(',').any(|s| s == "retainKeys")
    }
}
