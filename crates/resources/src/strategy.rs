//! The shape of a strategy, and the way to find one.

use jiff::Timestamp;
use machinery::{Value, field::ErrorList};

use crate::registry::STRATEGIES;

/// What a strategy may know of the request.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub now: Timestamp,
    /// The API version of the objects handed over (`v1`, `v1beta1`); defaulting can differ by it.
    pub version: &'a str,
    /// "" for the resource itself, else `status`, `scale`, `ephemeralcontainers`, `resize`, ….
    pub subresource: &'a str,
    /// The authenticated user, for kinds that record it.
    pub user: User<'a>,
    /// The names of enabled feature gates that are not on by default.
    pub features: &'a [String],
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct User<'a> {
    pub name: &'a str,
    pub uid: &'a str,
    pub groups: &'a [String],
    /// Key to list of strings; null when there are none.
    pub extra: Option<&'a Value>,
}

impl Context<'_> {
    /// Is a gate that is off by default switched on?
    pub fn enabled(&self, gate: &str) -> bool {
        self.features.iter().any(|f| f == gate)
    }
}

/// Columns of `kubectl get` (Table): definitions, and the cells of one object.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>
#[derive(Clone, Copy)]
pub struct Columns {
    pub definitions: &'static [Column],
    /// As many cells as there are definitions.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// The row's `conditions`; most kinds have none.
    pub conditions: fn(&Value) -> Vec<Value>,
}

/// (name, type, format, priority, description)
pub type Column = (&'static str, &'static str, &'static str, i32, &'static str);

/// Everything that is special about one kind. Fields not set do what most kinds do ([`Strategy::BASE`]).
///
/// Objects come decoded and pruned by schema, in the API version of the request. Every function looks at
/// [`Context::subresource`] where subresources differ.
///
/// After `default` and `prepare_*` the generic part brings the object into canonical form by schema
/// ([`machinery::schema::normalize`]): strategies leave out zero values that upstream writes, such as counts in a status.
///
/// On create: `default`, (admission), `prepare_create`, `validate`, and if that found nothing
/// [`crate::objectmeta::validate_generic`] with [`crate::names::path_segment`]; then `warnings`. `prepare_create` also wipes
/// the status and sets `metadata.generation` where the kind has these; `validate` includes the metadata, in upstream's
/// order.
///
/// On update: the generic part copies `metadata.generation` of the old object to the new one, then `default`,
/// (admission), `prepare_update` (keeps status or spec, as the subresource asks; counts the generation up), then
/// [`crate::objectmeta::validate_any_update`] and `validate_update`: the causes of both, in this order.
#[derive(Clone, Copy)]
pub struct Strategy {
    pub group: &'static str,
    pub kind: &'static str,
    /// Upstream's `SetDefaults_*` of that version.
    pub default: fn(&mut Value, &Context),
    /// Clears what a client may not set on creation; fills what the server sets.
    pub prepare_create: fn(&mut Value, &Context),
    /// (new, old): keeps what a client may not change.
    pub prepare_update: fn(&mut Value, &Value, &Context),
    pub validate: fn(&Value, &Context) -> ErrorList,
    /// (new, old). All errors of an update, so most call their `validate` too.
    pub validate_update: fn(&Value, &Value, &Context) -> ErrorList,
    /// Warning headers for a create (old is None) or an update.
    pub warnings: fn(&Value, Option<&Value>, &Context) -> Vec<String>,
    /// May a PUT to a name that does not exist create it?
    pub create_on_update: bool,
    /// May an update leave resourceVersion out?
    pub unconditional_update: bool,
    /// Does a delete without propagation policy orphan the dependents (instead of deleting them in the background)?
    pub orphans: bool,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`: names, and their values in an object.
    pub selectable: &'static [&'static str],
    pub select: fn(&Value, &str) -> String,
    /// None: the default Name and Age columns.
    pub columns: Option<Columns>,
    /// Graceful deletion: the seconds to wait for this object when the client asks for this many (None: did not say).
    /// `None` as answer: delete at once.
    pub grace_period: fn(&Value, Option<i64>) -> Option<i64>,
    /// Subresource ("" for the resource) and the paths that a write through it leaves as they were: such fields get
    /// no owner in managedFields.
    pub resets: &'static [(&'static str, &'static [&'static [&'static str]])],
    /// Subresources through which only these paths can be written (`*` is any list element): all other fields get no
    /// owner in managedFields.
    pub writes_only: &'static [(&'static str, &'static [&'static [&'static str]])],
    /// Annotations that upstream keeps elsewhere: they are not shown where only metadata is.
    pub hidden_annotations: &'static [&'static str],
    /// What an object of which nothing is known shows beyond what its schema says (bookmarks have such).
    pub blank: fn(&mut Value),
    /// The API version objects are stored in; "" for the only or first one.
    pub storage: &'static str,
    /// (object, from, to): changes the shape between API versions of the kind; `apiVersion` is not its business.
    pub convert: fn(&mut Value, &str, &str),
}

pub(crate) fn no_conditions(_: &Value) -> Vec<Value> {
    Vec::new()
}

impl Strategy {
    pub const BASE: Strategy = Strategy {
        group: "",
        kind: "",
        default: |_, _| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _, _| {},
        validate: |_, _| Vec::new(),
        validate_update: |_, _, _| Vec::new(),
        warnings: |_, _, _| Vec::new(),
        create_on_update: false,
        unconditional_update: true,
        orphans: false,
        selectable: &[],
        select: |_, _| String::new(),
        columns: None,
        grace_period: |_, _| None,
        resets: &[],
        writes_only: &[],
        hidden_annotations: &[],
        blank: |_| {},
        storage: "",
        convert: |_, _, _| {},
    };

    /// The paths a write through this subresource leaves alone.
    pub fn reset_paths(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        self.resets.iter().find(|(sub, _)| *sub == subresource).map_or(&[], |(_, paths)| paths)
    }
}

/// The strategy of a kind; kinds without one of their own have [`Strategy::BASE`].
pub fn strategy(group: &str, kind: &str) -> &'static Strategy {
    STRATEGIES.iter().find(|s| s.group == group && s.kind == kind).copied().unwrap_or(&Strategy::BASE)
}
