//! Expressions of configuration files about access: over a token's claims, over a user, over a question to an authorizer.

use cel::{DeclType, Env, Program, Type, Value as CelValue, Variables, Version};
use machinery::Value;

/// One compiled expression over one variable.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    program: Program,
    variable: &'static str,
}

/// What an expression is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// `claims`: a map of a token's claims.
    Claims,
    /// `user`: username, uid, groups, extra.
    User,
    /// `request`: the spec of a SubjectAccessReview.
    Request,
}

impl About {
    fn variable(self) -> &'static str {
        match self {
            About::Claims => "claims",
            About::User => "user",
            About::Request => "request",
        }
    }

    fn env(self) -> Env {
        let builder = Env::builder(Version::CURRENT);
        match self {
            About::Claims => builder.variable("claims", Type::map(Type::String, Type::Any)),
            About::User => builder.typed_variable("user", &user()),
            About::Request => builder.typed_variable("request", &request()),
        }
        .build()
    }
}

fn text() -> DeclType {
    DeclType::simple(Type::String)
}

fn texts() -> DeclType {
    DeclType::list(text(), -1)
}

fn user() -> DeclType {
    let extra = DeclType::map(text(), texts(), -1);
    let fields = [("username", text()), ("uid", text()), ("groups", texts()), ("extra", extra)];
    DeclType::object("kubernetes.UserInfo", fields)
}

fn request() -> DeclType {
    let requirement = || {
        let fields = [("key", text()), ("operator", text()), ("values", texts())];
        DeclType::object("kubernetes.SelectorRequirement", fields)
    };
    let selector = |name: &str| {
        let fields = [("rawSelector", text()), ("requirements", DeclType::list(requirement(), -1))];
        DeclType::object(name, fields)
    };
    let mut resource: Vec<(&str, DeclType)> =
        ["namespace", "verb", "group", "version", "resource", "subresource", "name"]
            .into_iter()
            .map(|name| (name, text()))
            .collect();
    resource.push(("fieldSelector", selector("kubernetes.FieldSelectorAttributes")));
    resource.push(("labelSelector", selector("kubernetes.LabelSelectorAttributes")));
    let path = DeclType::object("kubernetes.NonResourceAttributes", [("path", text()), ("verb", text())]);
    let fields = [
        ("resourceAttributes", DeclType::object("kubernetes.ResourceAttributes", resource)),
        ("nonResourceAttributes", path),
        ("user", text()),
        ("groups", texts()),
        ("extra", DeclType::map(text(), texts(), -1)),
        ("uid", text()),
    ];
    DeclType::object("kubernetes.SubjectAccessReviewSpec", fields)
}

impl Expression {
    /// Compiles; the result must have one of the types (none: any type).
    pub fn compile(text: &str, about: About, results: &[Type]) -> Result<Self, String> {
        let program = about.env().compile(text).map_err(|e| format!("compilation failed: {e}"))?;
        if let Some(defect) = program.defect() {
            return Err(format!("program instantiation failed: {defect}"));
        }
        let output = program.output_type();
        if !results.is_empty() && !results.contains(output) {
            return Err(match results {
                // upstream's two compilers differ in this
                [one] if about == About::Request => format!("must evaluate to {one} but got {output}"),
                [one] => format!("must evaluate to {one}"),
                many => {
                    let names: Vec<String> = many.iter().map(ToString::to_string).collect();
                    format!("must evaluate to one of [{}]", names.join(" "))
                }
            });
        }
        Ok(Self { text: text.to_owned(), program, variable: about.variable() })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value, as JSON. Numbers of claims are floats, as Go reads JSON.
    pub fn eval(&self, input: &Value) -> Result<Value, String> {
        let claims;
        let input = if self.variable == "claims" {
            claims = claims_of(input, self.text.contains("__"));
            &claims
        } else {
            input
        };
        let variables = Variables::new().with(self.variable, CelValue::from_dynamic(input));
        let outcome = self.program.eval(&variables, cel::PER_CALL_LIMIT);
        let value = outcome.value.map_err(|e| e.to_string())?;
        value.to_json().map_err(|e| e.to_string())
    }
}

/// Claims as expressions see them. `escaped`: also under names that can be selected (`a__dot__b` for `a.b`).
fn claims_of(value: &Value, escaped: bool) -> Value {
    match value {
        Value::Number(n) => n.as_f64().map_or(Value::Null, Value::from),
        Value::Array(items) => items.iter().map(|item| claims_of(item, escaped)).collect(),
        Value::Object(entries) => {
            let mut out = machinery::Map::new();
            for (key, value) in entries {
                let value = claims_of(value, escaped);
                if escaped
                    && let Some(name) = cel::escape(key)
                    && name != *key
                {
                    out.insert(name, value.clone());
                }
                out.insert(key.clone(), value);
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}
