//! `kubectl api-resources`.

use super::Session;
use crate::error::Result;
use crate::output;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only resources of this API group
    #[arg(long)]
    api_group: Option<String>,
    /// Only (non-)namespaced resources
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    namespaced: Option<bool>,
    #[arg(long)]
    no_headers: bool,
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let mut lines = Vec::new();
    if !arguments.no_headers {
        lines.push(["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"].map(str::to_owned).to_vec());
    }
    let mut resources = session.resources().await?;
    resources.sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
    let mut seen: Option<(String, String)> = None;
    for resource in resources {
        // Versions come in order of preference: the first one is the one to show.
        let key = (resource.group.clone(), resource.name.clone());
        let wanted = arguments.api_group.as_ref().is_none_or(|group| *group == resource.group)
            && arguments.namespaced.is_none_or(|namespaced| namespaced == resource.namespaced);
        if !wanted || seen.as_ref() == Some(&key) {
            continue;
        }
        seen = Some(key);
        lines.push(vec![
            resource.name.clone(),
            resource.short_names.join(","),
            resource.api_version(),
            resource.namespaced.to_string(),
            resource.kind.clone(),
        ]);
    }
    output::say(&output::align(&lines));
    Ok(0)
}
