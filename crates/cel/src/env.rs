//! Environments, programs, and what an evaluation is given.

use std::collections::HashMap;
use std::sync::Arc;

use crate::authz::{Check, Decision};
use crate::check::{self, Reference};
use crate::decl::DeclType;
use crate::estimate;
use crate::eval::{self, plan::Plan};
use crate::issues::{Issues, Report, Source};
use crate::parse::{self, Features};
use crate::types::Type;
use crate::validate;
use crate::value::Value;

/// A minor version of Kubernetes 1: which libraries an expression may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    /// All libraries: for expressions that are stored already.
    pub const CURRENT: Version = Version(36);
    /// The version before: for new expressions, so that a downgrade still understands them.
    pub const COMPATIBLE: Version = Version(35);
}

/// Expressions with so many places to nest are compiled on a stack of their own.
const DEEP: usize = 60;
/// Reserved, not used, unless it is needed.
const STACK: usize = 128 << 20;

/// Variables and types that expressions may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env(pub(crate) Arc<EnvBuilder>);

/// Builds an [`Env`].
#[derive(Clone, Debug)]
pub struct EnvBuilder {
    pub(crate) version: Version,
    pub(crate) patches: bool,
    pub(crate) bindings: bool,
    pub(crate) variables: HashMap<Box<str>, Type>,
    /// Object types by name.
    pub(crate) objects: HashMap<Arc<str>, Arc<DeclType>>,
    /// Sizes of variables, for the cost estimate.
    pub(crate) sizes: HashMap<Box<str>, Arc<DeclType>>,
}

impl Env {
    pub fn builder(version: Version) -> EnvBuilder {
        EnvBuilder {
            version,
            patches: false,
            bindings: false,
            variables: HashMap::new(),
            objects: HashMap::new(),
            sizes: HashMap::new(),
        }
    }

    /// An environment with more in it.
    pub fn extend(&self) -> EnvBuilder {
        EnvBuilder::clone(&self.0)
    }

    /// Parses and checks.
    ///
    /// # Errors
    /// All that is wrong with it, in cel-go's text.
    pub fn compile(&self, expression: &str) -> Result<Program, Issues> {
        // every rule of the grammar may stand within itself 250 times: more than small stacks hold
        let nested = expression.bytes().filter(|b| b"([{?.+-*/%!".contains(b)).take(DEEP).count();
        if nested < DEEP {
            return self.compile_here(expression);
        }
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().stack_size(STACK);
            match builder.spawn_scoped(scope, || self.compile_here(expression)).map(|thread| thread.join()) {
                Ok(Ok(result)) => result,
                _ => {
                    let mut report = Report::default();
                    report.nowhere("there is no memory to compile the expression".into());
                    Err(report.finish(&Source::new(expression)))
                }
            }
        })
    }

    fn compile_here(&self, expression: &str) -> Result<Program, Issues> {
        let source = Source::new(expression);
        let mut report = Report::default();
        let version = self.0.version;
        let features = Features {
            optionals: version >= Version(28),
            two_variables: version >= Version(32),
            lists: version >= Version(34),
            bindings: self.0.bindings,
        };
        let Some((expr, nodes)) = parse::parse(&source, features, &mut report) else {
            return Err(report.finish(&source));
        };
        let checked = check::check(expr, nodes, &self.0, &source, &mut report);
        if report.count() == 0 {
            validate::validate(&checked, version >= Version(29), &source, &mut report);
        }
        if report.count() > 0 {
            return Err(report.finish(&source));
        }
        let cost = estimate::estimate(&checked, &self.0);
        let plan = eval::plan::plan(&checked);
        let output = checked.types[checked.expr.id as usize].clone();
        let mut variables: Vec<Arc<str>> = Vec::new();
        for reference in checked.references.iter().flatten() {
            if let Reference::Variable(name) = reference
                && !variables.contains(name)
            {
                variables.push(name.clone());
            }
        }
        Ok(Program(Arc::new(Parts { output, variables, cost, plan })))
    }
}

impl EnvBuilder {
    /// A variable (`object`, or a qualified name: `authorizer.requestResource`) whose size is not known.
    #[must_use]
    pub fn variable(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.into(), ty);
        self
    }

    /// A variable with the fields and sizes of its declaration. Its object types are declared with it.
    #[must_use]
    pub fn typed_variable(self, name: &str, ty: &DeclType) -> Self {
        let declared = Arc::new(ty.clone());
        let mut out = self.variable(name, ty.ty().clone()).shared_type(&declared);
        out.sizes.insert(name.into(), declared);
        out
    }

    /// A variable that is an optional of the declared type (`oldSelf` with `optionalOldSelf`).
    #[must_use]
    pub fn optional_variable(self, name: &str, ty: &DeclType) -> Self {
        let declared = Arc::new(ty.clone());
        let mut out = self.variable(name, Type::optional(ty.ty().clone())).shared_type(&declared);
        out.sizes.insert(name.into(), declared);
        out
    }

    /// Declares object types, replacing those of the same names.
    #[must_use]
    pub fn object_type(self, ty: &DeclType) -> Self {
        self.shared_type(&Arc::new(ty.clone()))
    }

    fn shared_type(mut self, ty: &Arc<DeclType>) -> Self {
        let mut objects = Vec::new();
        ty.objects(&mut objects);
        for object in objects {
            self.objects.insert(object.ty().name().into(), Arc::clone(object));
        }
        self
    }

    /// `Object{…}`, `JSONPatch{…}` and `jsonpatch.escapeKey`, for mutating policies.
    #[must_use]
    pub fn patch_types(mut self) -> Self {
        self.patches = true;
        self
    }

    /// `cel.bind(x, value, result)`, for selectors of devices.
    #[must_use]
    pub fn bindings(mut self) -> Self {
        self.bindings = true;
        self
    }

    pub fn build(self) -> Env {
        Env(Arc::new(self))
    }
}

/// A checked expression. Cheap to clone; may be evaluated by many threads at once.
#[derive(Clone, Debug)]
pub struct Program(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    output: Type,
    variables: Vec<Arc<str>>,
    cost: CostRange,
    plan: Result<Plan, EvalError>,
}

/// The estimate of what an evaluation costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostRange {
    pub min: u64,
    pub max: u64,
}

impl Program {
    pub fn output_type(&self) -> &Type {
        &self.0.output
    }

    /// Does it refer to the variable (or, by that name, to one of a comprehension)?
    pub fn uses(&self, variable: &str) -> bool {
        self.0.variables.iter().any(|name| **name == *variable)
    }

    /// From the sizes that the environment's declarations give.
    pub fn estimated_cost(&self) -> CostRange {
        self.0.cost
    }

    /// Why it can never be evaluated, if so (`duration("x")`); upstream says "program instantiation failed: …".
    pub fn defect(&self) -> Option<&EvalError> {
        self.0.plan.as_ref().err()
    }

    /// Evaluates; more than `cost_limit` ends it with [`EvalError::CostExceeded`]. Never panics.
    pub fn eval<'a>(&'a self, activation: &dyn Activation<'a>, cost_limit: u64) -> Outcome<'a> {
        match &self.0.plan {
            Ok(plan) => eval::run(plan, activation, cost_limit),
            Err(error) => Outcome { value: Err(error.clone()), cost: 0 },
        }
    }
}

/// What an evaluation gave and cost.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    pub value: Result<Value<'a>, EvalError>,
    pub cost: u64,
}

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression's own fault, in cel-go's words (`no such key: x`).
    #[error("{0}")]
    Failed(Arc<str>),
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
}

impl From<&str> for EvalError {
    fn from(message: &str) -> Self {
        EvalError::Failed(message.into())
    }
}

impl From<String> for EvalError {
    fn from(message: String) -> Self {
        EvalError::Failed(message.into())
    }
}

/// What an evaluation asks for.
pub trait Activation<'a> {
    /// The value of a declared variable; qualified names as declared.
    fn variable(&self, name: &str) -> Option<Result<Value<'a>, EvalError>>;

    /// The field of a [`Value::Lazy`] of that type; None if it has no such field.
    fn field(&self, _type_name: &str, _field: &str) -> Option<Result<Value<'a>, EvalError>> {
        None
    }

    /// Asked for each `.check(…)`; whoever answers keeps answers that need not be asked twice.
    fn authorize(&self, _check: &Check) -> Decision {
        Decision { error: Some("there is no authorizer".into()), ..Decision::default() }
    }
}

/// An [`Activation`] of plain values.
#[derive(Clone, Debug, Default)]
pub struct Variables<'a>(Vec<(Box<str>, Value<'a>)>);

impl<'a> Variables<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: Value<'a>) -> Self {
        self.0.push((name.into(), value));
        self
    }
}

impl<'a> Activation<'a> for Variables<'a> {
    fn variable(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| Ok(value.clone()))
    }
}

impl EnvBuilder {
    /// The type that a name names.
    pub(crate) fn type_named(&self, name: &str) -> Option<Type> {
        Some(match name {
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "double" => Type::Double,
            "google.protobuf.Duration" => Type::Duration,
            "int" => Type::Int,
            "list" => Type::list(Type::param("A")),
            "map" => Type::map(Type::param("A"), Type::param("B")),
            "null_type" => Type::Null,
            "string" => Type::String,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "type" => Type::Type(None),
            "uint" => Type::Uint,
            "optional_type" if self.version >= Version(28) => Type::opaque(name),
            "net.IP" | "net.CIDR" if self.version >= Version(30) => Type::opaque(name),
            _ if self.patches && (matches!(name, "Object" | "JSONPatch") || name.starts_with("Object.")) => {
                Type::object(name)
            }
            _ => self.objects.get(name)?.ty().clone(),
        })
    }

    /// The type of an object's field; None if it has no such field, an error if there is no such object type.
    pub(crate) fn field_type(&self, object: &str, field: &str) -> Result<Option<Type>, ()> {
        if self.patches {
            if object == "JSONPatch" {
                return Ok(match field {
                    "op" | "from" | "path" => Some(Type::String),
                    "value" => Some(Type::Dyn),
                    _ => None,
                });
            }
            if object == "Object" || object.starts_with("Object.") {
                return Ok(Some(Type::Dyn));
            }
        }
        let declared = self.objects.get(object).ok_or(())?;
        let found = declared.fields.get(field).or_else(|| {
            // words of the language may be written as they are behind a dot
            let word = crate::escape::RESERVED.contains(&field);
            declared
                .fields
                .get(format!("__{field}__").as_str())
                .filter(|_| word && self.version >= Version(31))
        });
        Ok(found.map(|f| f.ty().clone()))
    }

    /// May the overload be used? Comparisons of different kinds of numbers came with 1.28; within comprehensions they
    /// always were there.
    pub(crate) fn numbers_mix(&self, overload: &str, within: bool) -> bool {
        if self.version >= Version(28) || within {
            return true;
        }
        let mixed =
            overload.split('_').filter(|word| matches!(*word, "int64" | "uint64" | "double")).count() == 2;
        !(mixed && (overload.starts_with("less_") || overload.starts_with("greater_")))
    }
}
