//! Expressions in CEL of webhooks and admission policies: what they may use, and how they compile.
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#validation-expression>

use std::sync::OnceLock;

use cel::{DeclType, Env, Issues, Program, Type, Version};

/// The type of `variables`.
pub const VARIABLES: &str = "kubernetes.variables";

/// Which variables and types there are beyond `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// With `authorizer`.
    Condition,
    /// Messages, without it.
    Message,
    /// Mutations: with `authorizer`, `Object{…}` and `JSONPatch{…}`.
    Patch,
}

/// Compiles the expressions of one policy or webhook. Variables are added one by one: each may use those before it.
pub struct Compiler {
    params: bool,
    variables: Option<DeclType>,
    types: Option<Types>,
}

/// What schemas say of `object` and `oldObject`, and of `params`; None where there is no schema.
#[derive(Clone, Debug)]
pub struct Types {
    pub object: Option<DeclType>,
    pub params: Option<DeclType>,
}

impl Compiler {
    /// `params`: there is a `params` variable.
    pub fn new(params: bool) -> Self {
        Self { params, variables: None, types: None }
    }

    /// With `variables`, still without any in it.
    pub fn with_variables(params: bool) -> Self {
        Self { params, variables: Some(DeclType::object(VARIABLES, [])), types: None }
    }

    /// With `variables` and objects of known types, for [`Compiler::check`].
    pub fn with_types(params: bool, types: Types) -> Self {
        Self { types: Some(types), ..Self::with_variables(params) }
    }

    fn env(&self, use_: Use, version: Version) -> Env {
        let mut env = Env::builder(version)
            .typed_variable("namespaceObject", namespace_type())
            .typed_variable("request", request_type());
        let (object, params) = match &self.types {
            Some(types) => (types.object.as_ref(), types.params.as_ref()),
            None => (None, None),
        };
        let named = [("object", true, object), ("oldObject", true, object), ("params", self.params, params)];
        for (name, _, ty) in named.into_iter().filter(|(_, there, _)| *there) {
            env = match ty {
                Some(ty) => env.typed_variable(name, ty),
                None => env.variable(name, Type::Dyn),
            };
        }
        if use_ != Use::Message {
            env = env.variable("authorizer", Type::object("kubernetes.authorization.Authorizer"));
        }
        // the check of types does not know this one, upstream either
        if use_ != Use::Message && self.types.is_none() {
            let check = Type::object("kubernetes.authorization.ResourceCheck");
            env = env.variable("authorizer.requestResource", check);
        }
        if let Some(variables) = &self.variables {
            env = env.typed_variable("variables", variables);
        }
        if use_ == Use::Patch {
            env = env.patch_types();
        }
        env.build()
    }

    /// Compiles an expression that must give one of these types (none: any).
    ///
    /// # Errors
    /// Upstream's words for what is wrong.
    pub fn compile(
        &self,
        source: &str,
        wanted: &[Type],
        use_: Use,
        version: Version,
    ) -> Result<Program, String> {
        let compiled = self.env(use_, version).compile(source);
        let program = compiled.map_err(|issues| format!("compilation failed: {issues}"))?;
        let got = program.output_type();
        if wanted.is_empty() || wanted.contains(got) {
            return match program.defect() {
                Some(why) => Err(format!("program instantiation failed: {why}")),
                None => Ok(program),
            };
        }
        Err(match wanted {
            [one] => format!("must evaluate to {one} but got {got}"),
            many => {
                let many: Vec<String> = many.iter().map(ToString::to_string).collect();
                format!("must evaluate to one of [{}] but got {got}", many.join(" "))
            }
        })
    }

    /// Compiles a variable and makes it known to what comes after, whether it compiles or not.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn variable(&mut self, name: &str, source: &str, version: Version) -> Result<Program, String> {
        let compiled = self.compile(source, &[], Use::Condition, version);
        if let Some(variables) = &mut self.variables {
            let ty = match &compiled {
                Ok(program) => DeclType::of_type(program.output_type()),
                Err(_) => DeclType::simple(Type::Dyn),
            };
            variables.set_field(name, ty);
        }
        compiled
    }

    /// Checks the types in an expression that is stored already, whatever it gives.
    ///
    /// # Errors
    /// In cel-go's words.
    pub fn check(&self, source: &str) -> Result<Type, Issues> {
        let program = self.env(Use::Condition, Version::CURRENT).compile(source)?;
        Ok(program.output_type().clone())
    }

    /// Makes a stored variable known to what comes after, by the type that [`Compiler::check`] finds.
    pub fn declare(&mut self, name: &str, source: &str) {
        let ty = self.check(source).map_or(DeclType::simple(Type::Dyn), |ty| DeclType::of_type(&ty));
        if let Some(variables) = &mut self.variables {
            variables.set_field(name, ty);
        }
    }
}

/// What an `applyConfiguration` gives.
pub fn object_type() -> Type {
    Type::object("Object")
}

/// What a `jsonPatch` gives.
pub fn json_patch_type() -> Type {
    Type::list(Type::object("JSONPatch"))
}

fn texts() -> DeclType {
    DeclType::list(DeclType::simple(Type::String), -1)
}

fn object(name: &str, fields: &[(&str, DeclType)]) -> DeclType {
    DeclType::object(name, fields.iter().map(|(name, ty)| (*name, ty.clone())))
}

fn request_type() -> &'static DeclType {
    static TYPE: OnceLock<DeclType> = OnceLock::new();
    TYPE.get_or_init(|| {
        let text = || DeclType::simple(Type::String);
        let kind = object(
            "kubernetes.GroupVersionKind",
            &[("group", text()), ("version", text()), ("kind", text())],
        );
        let resource = object(
            "kubernetes.GroupVersionResource",
            &[("group", text()), ("version", text()), ("resource", text())],
        );
        let user = object(
            "kubernetes.UserInfo",
            &[
                ("username", text()),
                ("uid", text()),
                ("groups", texts()),
                ("extra", DeclType::map(text(), texts(), -1)),
            ],
        );
        object(
            "kubernetes.AdmissionRequest",
            &[
                ("kind", kind.clone()),
                ("resource", resource.clone()),
                ("subResource", text()),
                ("requestKind", kind),
                ("requestResource", resource),
                ("requestSubResource", text()),
                ("name", text()),
                ("namespace", text()),
                ("operation", text()),
                ("userInfo", user),
                ("dryRun", DeclType::simple(Type::Bool)),
                ("options", DeclType::simple(Type::Dyn)),
            ],
        )
    })
}

fn namespace_type() -> &'static DeclType {
    static TYPE: OnceLock<DeclType> = OnceLock::new();
    TYPE.get_or_init(|| {
        let text = || DeclType::simple(Type::String);
        let time = || DeclType::simple(Type::Timestamp);
        let int = || DeclType::simple(Type::Int);
        let labels = || DeclType::map(text(), text(), -1);
        let spec = object("kubernetes.NamespaceSpec", &[("finalizers", texts())]);
        let condition = object(
            "kubernetes.NamespaceCondition",
            &[
                ("status", text()),
                ("type", text()),
                ("lastTransitionTime", time()),
                ("message", text()),
                ("reason", text()),
            ],
        );
        let status = object(
            "kubernetes.NamespaceStatus",
            &[("conditions", DeclType::list(condition, -1)), ("phase", text())],
        );
        let metadata = object(
            "kubernetes.NamespaceMetadata",
            &[
                ("name", text()),
                ("generateName", text()),
                ("namespace", text()),
                ("labels", labels()),
                ("annotations", labels()),
                ("UID", text()),
                ("creationTimestamp", time()),
                ("deletionGracePeriodSeconds", int()),
                ("deletionTimestamp", time()),
                ("generation", int()),
                ("resourceVersion", text()),
                ("finalizers", texts()),
            ],
        );
        object("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
    })
}
