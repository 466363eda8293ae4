//! A container's environment: `env`, `envFrom`, service variables, the downward API.

mod build;
mod expand;
mod fields;
mod services;

pub use build::{EnvError, EnvInputs, build};
pub use expand::{expand, expand_command, expand_strictly};
pub use fields::{FieldError, PodFields, field, format_map, resource};
pub use services::service_env;
