//! The language's own functions and cel-go's extensions.

pub(crate) mod convert;
pub(crate) mod format;
pub(crate) mod lists;
pub(crate) mod ops;
pub(crate) mod regex;
pub(crate) mod strings;
pub(crate) mod times;

use crate::env::EvalError;
use crate::value::Value;

pub(crate) type Res<'a> = Result<Value<'a>, EvalError>;

/// No overload takes such values.
pub(crate) fn no_overload<'a>(function: &str, args: &[Value<'_>]) -> Res<'a> {
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    Err(format!("no such overload: {function}({})", types.join(", ")).into())
}
