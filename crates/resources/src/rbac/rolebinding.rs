//! RoleBindings.

use super::{GROUP, binding, binding_cells, binding_update, default_binding};
use crate::columns::{CREATED, NAME};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: GROUP,
    create_on_update: true,
    kind: "RoleBinding",
    default: |obj, context| default_binding(obj, context.version),
    validate: |obj, _| binding(obj, true),
    validate_update: |new, old, _| binding_update(new, old, true),
    columns: Some(Columns { definitions: DEFINITIONS, cells: binding_cells, conditions: no_conditions }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Role",
        "string",
        "",
        0,
        "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
    ),
    ("Age", "string", "", 0, CREATED),
    ("Users", "string", "", 1, "Users in the roleBinding"),
    ("Groups", "string", "", 1, "Groups in the roleBinding"),
    ("ServiceAccounts", "string", "", 1, "ServiceAccounts in the roleBinding"),
];
