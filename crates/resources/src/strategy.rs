//! The shape of a strategy, and the table of all of them.

use jiff::Timestamp;
use machinery::{Value, field::ErrorList};

/// What a strategy may know of the request.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub now: Timestamp,
    /// The API version of the objects handed over (`v1`, `v1beta1`); defaulting can differ by it.
    pub version: &'a str,
    /// "" for the resource itself, else `status`, `scale`, `ephemeralcontainers`, `resize`, ….
    pub subresource: &'a str,
    /// The authenticated user's name, for kinds that record it.
    pub user: &'a str,
    /// The names of enabled feature gates that are not on by default.
    pub features: &'a [String],
}

/// Columns of `kubectl get` (Table): definitions, and the cells of one object.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>
#[derive(Clone, Copy)]
pub struct Columns {
    /// (name, type, format, priority, description)
    pub definitions: &'static [(&'static str, &'static str, &'static str, i32, &'static str)],
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// Everything that is special about one kind. Fields not set do what most kinds do ([`Strategy::BASE`]).
///
/// Objects come decoded and pruned by schema, in the API version of the request. The order on create is: `default`,
/// (admission), `prepare_create`, `validate`; on update: `default`, (admission), `prepare_update`, `validate_update`.
/// The generic part has then already dealt with object metadata, `generation` (by [`Strategy::generation`]) and the
/// separation of status.
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
    /// Which names are good: upstream's `ValidateXName`; gives the messages, none if it is good.
    /// The flag says that it is a `generateName` prefix.
    pub validate_name: fn(&str, bool) -> Vec<String>,
    /// Does this kind count `metadata.generation` (on any change outside metadata and status)?
    pub generation: bool,
    /// Is there a status subresource that owns `status`?
    pub status: bool,
    /// May a PUT to a name that does not exist create it?
    pub create_on_update: bool,
    /// May an update leave resourceVersion out?
    pub unconditional_update: bool,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`: names, and their values in an object.
    pub selectable: &'static [&'static str],
    pub select: fn(&Value, &str) -> String,
    /// None: the default Name and Age columns.
    pub columns: Option<Columns>,
    /// Graceful deletion: the seconds to wait for this object when the client asks for this many (None: did not say).
    /// `None` as answer: delete at once.
    pub grace_period: fn(&Value, Option<i64>) -> Option<i64>,
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
        validate_name: |_, _| Vec::new(),
        generation: false,
        status: false,
        create_on_update: false,
        unconditional_update: true,
        selectable: &[],
        select: |_, _| String::new(),
        columns: None,
        grace_period: |_, _| None,
    };
}

/// All strategies, one constant per file.
static STRATEGIES: &[&Strategy] = &[];

/// The strategy of a kind; kinds without one of their own have [`Strategy::BASE`].
pub fn strategy(group: &str, kind: &str) -> &'static Strategy {
    STRATEGIES.iter().find(|s| s.group == group && s.kind == kind).copied().unwrap_or(&Strategy::BASE)
}
