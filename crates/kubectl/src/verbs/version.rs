//! `kubectl version`.

use serde_json::json;

use super::Session;
use crate::api;
use crate::error::Result;
use crate::output::{self, Format, say};

#[derive(clap::Args)]
pub struct Arguments {
    /// json or yaml
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let server = api::get(&session.client, "/version", "application/json").await?;
    let client = env!("CARGO_PKG_VERSION");
    match Format::parse(arguments.output.as_deref())? {
        format @ (Format::Json | Format::Yaml | Format::JsonPath(_)) => {
            let both =
                json!({"clientVersion": {"gitVersion": format!("r8s v{client}")}, "serverVersion": server});
            say(&output::object(&both, &format)?);
        }
        _ => {
            let version = server["gitVersion"].as_str().unwrap_or("unknown");
            say(&format!("Client Version: r8s v{client}\nServer Version: {version}\n"));
        }
    }
    Ok(0)
}
