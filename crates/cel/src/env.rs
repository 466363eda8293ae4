//! Environments, programs, and what an evaluation is given.

use std::collections::HashMap;
use std::sync::Arc;

use crate::authz::{Check, Decision};
use crate::decl::DeclType;
use crate::issues::Issues;
use crate::types::Type;
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

/// Variables and types that expressions may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env(pub(crate) Arc<EnvBuilder>);

/// Builds an [`Env`].
#[derive(Clone, Debug)]
pub struct EnvBuilder {
    pub(crate) version: Version,
    pub(crate) patches: bool,
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
        let source = crate::issues::Source::new(expression);
        let mut report = crate::issues::Report::default();
        report.at(&source, 0, "expressions are not compiled yet".into());
        Err(report.finish(&source))
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

    pub fn build(self) -> Env {
        Env(Arc::new(self))
    }
}

/// A checked expression. Cheap to clone; may be evaluated by many threads at once.
#[derive(Clone, Debug)]
pub struct Program(Arc<ProgramParts>);

#[derive(Debug)]
struct ProgramParts {
    output: Type,
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

    /// Does it refer to the variable?
    pub fn uses(&self, _variable: &str) -> bool {
        false
    }

    /// From the sizes that the environment's declarations give.
    pub fn estimated_cost(&self) -> CostRange {
        CostRange { min: 0, max: 0 }
    }

    /// Evaluates; more than `cost_limit` ends it with [`EvalError::CostExceeded`]. Never panics.
    pub fn eval<'a>(&'a self, _activation: &dyn Activation<'a>, _cost_limit: u64) -> Outcome<'a> {
        Outcome { value: Ok(Value::Null), cost: 0 }
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
