//! The types of expressions, as the checker sees them.

use std::fmt;
use std::sync::Arc;

/// A type. [`fmt::Display`] is the form of upstream's messages about result types (`list(string)`,
/// `google.protobuf.Timestamp`); [`Type::checker_name`] that of the checker's messages (`timestamp`, `null`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// What an expression with errors has.
    Error,
    /// Known at evaluation only.
    Dyn,
    /// `google.protobuf.Any`; as wide as [`Type::Dyn`].
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// An object with declared fields, by name: see [`crate::DeclType`].
    Struct(Arc<str>),
    /// A type with functions only, `net.IP` and `optional_type(int)` among them.
    Opaque(Arc<str>, Arc<[Type]>),
    /// A type variable of a function's declaration.
    Param(Arc<str>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A primitive type or null: `google.protobuf.Int64Value` and its like.
    Wrapper(Arc<Type>),
}

impl Type {
    pub fn list(item: Type) -> Type {
        Type::List(Arc::new(item))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    pub fn object(name: &str) -> Type {
        Type::Struct(name.into())
    }

    pub fn optional(of: Type) -> Type {
        Type::Opaque("optional_type".into(), [of].into())
    }

    pub fn opaque(name: &str) -> Type {
        Type::Opaque(name.into(), [].into())
    }

    pub fn param(name: &str) -> Type {
        Type::Param(name.into())
    }

    /// `optional_type(T)`: T.
    pub fn optional_of(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, of) if **name == *"optional_type" => of.first(),
            _ => None,
        }
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any)
    }

    /// The name without parameters: what `type(x)` prints.
    pub fn name(&self) -> &str {
        match self {
            Type::Error => "error",
            Type::Dyn => "dyn",
            Type::Any => "google.protobuf.Any",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Duration => "google.protobuf.Duration",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Struct(name) | Type::Opaque(name, _) | Type::Param(name) => name,
            Type::Type(_) => "type",
            Type::Wrapper(of) => of.name(),
        }
    }

    pub(crate) fn params(&self) -> &[Type] {
        match self {
            Type::List(item) => std::slice::from_ref(item),
            Type::Map(both) => {
                // a pair of one type is no slice; the two readers of maps match them themselves
                std::slice::from_ref(&both.0)
            }
            Type::Opaque(_, params) => params,
            Type::Type(Some(of)) => std::slice::from_ref(of),
            _ => &[],
        }
    }

    /// As the checker's errors name it.
    pub fn checker_name(&self) -> String {
        match self {
            Type::Any => "any".into(),
            Type::Duration => "duration".into(),
            Type::Error => "!error!".into(),
            Type::Null => "null".into(),
            Type::Timestamp => "timestamp".into(),
            Type::Wrapper(of) => format!("wrapper({})", of.name()),
            Type::Map(both) => format!("map({}, {})", both.0.checker_name(), both.1.checker_name()),
            _ => {
                let params: Vec<String> = self.params().iter().map(Type::checker_name).collect();
                if params.is_empty() {
                    return self.name().into();
                }
                format!("{}({})", self.name(), params.join(", "))
            }
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Param(name) => write!(f, "<{name}>"),
            Type::Wrapper(of) => write!(f, "wrapper({})", of.name()),
            Type::Map(both) => write!(f, "map({}, {})", both.0, both.1),
            _ => {
                f.write_str(self.name())?;
                for (n, param) in self.params().iter().enumerate() {
                    write!(f, "{}{param}", if n == 0 { "(" } else { ", " })?;
                }
                if self.params().is_empty() { Ok(()) } else { f.write_str(")") }
            }
        }
    }
}
