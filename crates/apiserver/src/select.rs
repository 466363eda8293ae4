//! Label and field selectors as the watch cache applies them.

use machinery::Status;
use machinery::field::go_quote;
use machinery::select::{FieldSelector, LabelSelector};

use crate::cache::{Entry, Scope};

/// What is selected from.
#[derive(Clone, Copy, Default)]
pub struct Known<'a> {
    pub group: &'a str,
    pub kind: &'a str,
    /// No fields but name and namespace.
    pub none: bool,
}

/// Both selectors of a list or watch, compiled for one resource.
#[derive(Clone, Default)]
pub struct Selector {
    labels: LabelSelector,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug)]
struct FieldRequirement {
    field: Field,
    equals: bool,
    value: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    At(usize),
}

impl Selector {
    /// Parses both; errors are upstream's 400s. `position` tells where a field stands among those of the cache.
    pub fn parse(
        labels: &str,
        fields: &str,
        position: impl Fn(&str) -> Option<usize>,
        namespaced: bool,
        known: Known,
    ) -> Result<Self, Status> {
        let labels = LabelSelector::parse(labels).map_err(Status::bad_request)?;
        let mut out = Vec::new();
        for term in FieldSelector::parse(fields).map_err(Status::bad_request)?.terms {
            if term.field.is_empty() && term.value.is_empty() {
                continue;
            }
            let field = match &*term.field {
                "metadata.name" => Field::Name,
                "metadata.namespace" if namespaced || known.none => Field::Namespace,
                other => match position(other) {
                    Some(at) => Field::At(at),
                    None => return Err(Status::bad_request(unknown_field(other, known))),
                },
            };
            out.push(FieldRequirement { field, equals: term.equal, value: term.value.into() });
        }
        Ok(Self { labels, fields: out })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Narrowed to one object.
    pub fn named(mut self, name: &str) -> Self {
        self.fields.push(FieldRequirement { field: Field::Name, equals: true, value: name.into() });
        self
    }

    pub fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        self.fields.iter().all(|r| {
            let value = match r.field {
                Field::Name => entry.name(),
                Field::Namespace => entry.namespace(),
                Field::At(at) => entry.fields.get(at).map_or("", |v| v),
            };
            (*value == *r.value) == r.equals
        }) && self.labels.matches_with(|key| entry.label(key))
    }

    /// Apart: what the cache's own fields do not tell, if anything.
    pub fn split_fields(mut self) -> (Self, Option<Self>) {
        let (late, early): (Vec<_>, Vec<_>) =
            self.fields.into_iter().partition(|r| matches!(r.field, Field::At(_)));
        self.fields = early;
        let late = (!late.is_empty()).then(|| Self { labels: LabelSelector::default(), fields: late });
        (self, late)
    }

    /// Do values of the selectable fields, in their order, meet what is asked of them?
    pub fn fields_match(&self, values: &[Box<str>]) -> bool {
        self.fields.iter().all(|r| match r.field {
            Field::At(at) => (values.get(at).map_or("", |v| v) == &*r.value) == r.equals,
            _ => true,
        })
    }

    /// The one value that a field must have.
    fn required(&self, field: Field) -> Option<&str> {
        self.fields.iter().find(|r| r.field == field && r.equals).map(|r| &*r.value)
    }

    pub fn name(&self) -> Option<&str> {
        self.required(Field::Name)
    }

    pub fn namespace(&self) -> Option<&str> {
        self.required(Field::Namespace)
    }

    /// The narrowest index bucket that covers a namespace ("" for all) and this selector.
    pub fn scope(&self, namespace: &str) -> Scope {
        let namespace = if namespace.is_empty() { self.namespace().unwrap_or("") } else { namespace };
        if let Some(name) = self.name().filter(|n| !n.is_empty())
            && !namespace.is_empty()
        {
            return Scope::Key(format!("{namespace}/{name}").into());
        }
        let field = self.fields.iter().find_map(|r| match r.field {
            Field::At(at) if r.equals => Some(Scope::Field(at, r.value.clone())),
            _ => None,
        });
        match field {
            Some(field) => field,
            None if namespace.is_empty() => Scope::All,
            None => Scope::Namespace(namespace.into()),
        }
    }
}

/// Upstream's words differ by who converts the field names of a kind (group, kind).
fn unknown_field(name: &str, known: Known) -> String {
    match (known.group, known.kind) {
        ("batch", "Job") => format!("field label {} not supported for Job", go_quote(name)),
        ("resource.k8s.io", "ResourceSlice") => {
            format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {name}")
        }
        ("apps", _) => generic(name),
        _ if known.none => generic(name),
        _ => format!("field label not supported: {name}"),
    }
}

fn generic(name: &str) -> String {
    format!(
        "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        go_quote(name)
    )
}
