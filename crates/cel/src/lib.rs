//! The Common Expression Language exactly as Kubernetes 1.36 uses it: parser, type checker, cost estimate, interpreter
//! with metered cost, and Kubernetes' libraries. <https://kubernetes.io/docs/reference/using-api/cel/>
//!
//! Entry type: [`Env`], the variables and types that expressions may use. It compiles an expression to a [`Program`]
//! (or [`Issues`], in cel-go's exact text); a program tells its result's type, its worst cost, and evaluates:
//!
//! ```
//! use cel::{DeclType, Env, PER_CALL_LIMIT, Schema, Value, Variables, Version};
//! let schema = Schema::new(&serde_json::json!({
//!     "type": "object",
//!     "properties": {"replicas": {"type": "integer"}, "max": {"type": "integer"}}
//! }));
//! let this = DeclType::from_schema(&schema, false, "self").unwrap();
//! let env = Env::builder(Version::CURRENT).typed_variable("self", &this).build();
//! let program = env.compile("self.replicas <= self.max").unwrap();
//! assert_eq!(program.output_type(), &cel::Type::Bool);
//! let object = serde_json::json!({"replicas": 3, "max": 2});
//! let variables = Variables::new().with("self", Value::from_json(&object, &schema).unwrap());
//! let outcome = program.eval(&variables, PER_CALL_LIMIT);
//! assert!(matches!(outcome.value, Ok(Value::Bool(false))));
//! assert_eq!(outcome.cost, 5);
//!
//! let issues = env.compile("self.replicas <= x").unwrap_err();
//! assert!(issues.to_string().starts_with("ERROR: <input>:1:18: undeclared reference to 'x' (in container '')"));
//! ```
//!
//! What this crate deliberately does not know: admission, custom resources, authorizers (expressions that ask one get
//! it from [`Activation::authorize`]), clocks, I/O, tokio.

mod authz;
mod check;
mod decl;
mod env;
mod escape;
mod estimate;
mod eval;
mod functions;
mod issues;
mod lib_k8s;
mod lib_std;
mod parse;
mod schema;
mod types;
mod validate;
mod value;

pub use authz::{Authz, Check, Decision};
pub use decl::{DeclType, MAX_REQUEST_BYTES};
pub use env::{Activation, CostRange, Env, EnvBuilder, EvalError, Outcome, Program, Variables, Version};
pub use escape::{RESERVED, escape, unescape};
pub use issues::{Issue, Issues};
pub use schema::Schema;
pub use types::Type;
pub use value::{Entries, List, Map, Object, Text, Timestamp, Value};

/// Cost that one evaluation of an expression may have (about a tenth of a second upstream).
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// Cost that all expressions of a custom resource's validation, or of one policy binding, may have together.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// Cost that all match conditions of one webhook, policy or authorizer may have together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
