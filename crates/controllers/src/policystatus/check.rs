//! The warnings about a policy, given the types.

use cel::DeclType;
use k8s_openapi::api::admissionregistration::v1::{ExpressionWarning, ValidatingAdmissionPolicy as Policy};
use resources::admissionregistration::expressions::{Compiler, Types};

use super::kinds::Kind;

/// `objects`: the kinds that have a schema, with their types (None: rules see nothing of such objects). `params` is None
/// for a policy without parameters.
pub fn check(
    policy: &Policy,
    objects: Vec<(Kind, Option<DeclType>)>,
    params: Option<Option<DeclType>>,
) -> Vec<ExpressionWarning> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let compiler = |object| {
        let types = Types { object, params: params.clone().flatten() };
        let mut compiler = Compiler::with_types(params.is_some(), types);
        for variable in spec.variables.iter().flatten() {
            compiler.declare(&variable.name, &variable.expression);
        }
        compiler
    };
    let compilers: Vec<(Kind, Compiler)> =
        objects.into_iter().map(|(kind, object)| (kind, compiler(object))).collect();
    let mut warnings = Vec::new();
    let mut expression = |i: usize, field: &str, source: &str| {
        let found: Vec<String> = compilers
            .iter()
            .filter_map(|(kind, compiler)| Some(format!("{kind}: {}\n", compiler.check(source).err()?)))
            .collect();
        if !found.is_empty() {
            let field_ref = format!("spec.validations[{i}].{field}");
            warnings.push(ExpressionWarning { field_ref, warning: found.join("\n") });
        }
    };
    for (i, validation) in spec.validations.iter().flatten().enumerate() {
        expression(i, "expression", &validation.expression);
        if let Some(message) = validation.message_expression.as_deref().filter(|m| !m.is_empty()) {
            expression(i, "messageExpression", message);
        }
    }
    warnings
}
