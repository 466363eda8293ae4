//! What a connection asks for, as an object (`PodExecOptions` and the like): admission sees and may change it.

use machinery::{Get, Status, Value, json};

use crate::admission::{self, Attributes, Operation};
use crate::registry::Call;

/// The options of a connection once admission has agreed to them.
pub async fn admitted(call: &mut Call) -> Result<Value, Status> {
    let mut attributes = Attributes::new(call, Operation::Connect, false);
    let kind = attributes.kind();
    let mut options = asked(call);
    options.set("kind", kind.kind.as_str());
    options.set("apiVersion", kind.api_version());
    attributes.object = Some(options);
    admission::mutate(call, &mut attributes).await?;
    admission::validate(call, &attributes).await?;
    Ok(attributes.object.take().unwrap_or_default())
}

fn asked(call: &Call) -> Value {
    let mut out = json!({});
    match call.info.subresource.as_str() {
        "proxy" => {
            let path = path(call);
            if !path.is_empty() {
                out.set("path", path);
            }
        }
        "portforward" => {
            let given = call.query.all("ports").flat_map(|text| text.split(','));
            let ports: Vec<Value> =
                given.filter_map(|port| port.parse::<i32>().ok()).map(Value::from).collect();
            if !ports.is_empty() {
                out.set("ports", ports);
            }
        }
        sub => {
            for name in STREAMS.iter().map(|(ours, _)| ours).filter(|name| call.query.flag(name)) {
                out.set(name, true);
            }
            let container = call.query.text("container");
            if !container.is_empty() {
                out.set("container", container);
            }
            if sub == "exec" {
                let command: Vec<Value> = call.query.all("command").map(Value::from).collect();
                out.set("command", if command.is_empty() { Value::Null } else { command.into() });
            }
        }
    }
    out
}

/// Streams by the API's names, and the kubelet's.
pub const STREAMS: &[(&str, &str)] =
    &[("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];

/// What follows the name of the subresource, with its slashes.
fn path(call: &Call) -> String {
    let rest = call.info.parts.get(3..).unwrap_or_default().join("/");
    let mut path = if rest.is_empty() || rest.starts_with('/') { rest } else { format!("/{rest}") };
    if call.info.path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}
