//! Selectors: [`LabelSelector`] (`k8s.io/apimachinery/pkg/labels`) from a query string or a `LabelSelector` object, and
//! [`FieldSelector`] (`k8s.io/apimachinery/pkg/fields`), with upstream's error messages.

mod fields;
mod labels;

pub use fields::{FieldSelector, FieldTerm};
pub use labels::{LabelSelector, Operator, Requirement};

#[cfg(test)]
mod tests;
