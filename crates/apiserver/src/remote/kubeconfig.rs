//! The parts of a kubeconfig file that say whom to ask and how to prove who asks.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::{Get, Value};

use super::Settings;

pub fn read(path: &Path) -> Result<Settings, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    settings(&text, dir).map_err(|e| format!("{}: {e}", path.display()))
}

/// `dir`: what file names in it are relative to.
pub fn settings(text: &str, dir: &Path) -> Result<Settings, String> {
    let config = super::document(text)?;
    let named = |list: &str, name: &str, what: &str| -> Result<Value, String> {
        let found = config.list(list).iter().find(|item| item.text("name") == name);
        found.map(|item| item.at(what).clone()).ok_or_else(|| format!("{what} {name:?} does not exist"))
    };
    let context = match config.text("current-context") {
        // upstream's examples have exactly one of each, and some no current context
        "" => config.list("contexts").first().map(|c| c.at("context").clone()).unwrap_or_default(),
        name => named("contexts", name, "context")?,
    };
    let cluster = match context.text("cluster") {
        "" => config.list("clusters").first().map(|c| c.at("cluster").clone()).unwrap_or_default(),
        name => named("clusters", name, "cluster")?,
    };
    let user = match context.text("user") {
        "" => config.list("users").first().map(|u| u.at("user").clone()).unwrap_or_default(),
        name => named("users", name, "user")?,
    };
    let file = |name: &str| -> Result<String, String> {
        let path: PathBuf = dir.join(name);
        std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let pem = |object: &Value, key: &str| -> Result<Option<String>, String> {
        let data = object.text(&format!("{key}-data"));
        if !data.is_empty() {
            let bytes = STANDARD.decode(data).map_err(|e| format!("{key}-data: {e}"))?;
            return String::from_utf8(bytes).map(Some).map_err(|e| format!("{key}-data: {e}"));
        }
        Some(object.text(key)).filter(|name| !name.is_empty()).map(file).transpose()
    };
    let certificate = pem(&user, "client-certificate")?;
    let key = pem(&user, "client-key")?;
    let token = match (user.text("token"), user.text("tokenFile")) {
        ("", "") => None,
        ("", name) => Some(file(name)?.trim().to_owned()),
        (token, _) => Some(token.to_owned()),
    };
    let basic = Some(user.text("username")).filter(|u| !u.is_empty()).map(|username| {
        let pair = format!("{username}:{}", user.text("password"));
        format!("Basic {}", STANDARD.encode(pair))
    });
    if cluster.text("server").is_empty() {
        return Err("no server in it".to_owned());
    }
    Ok(Settings {
        url: cluster.text("server").to_owned(),
        ca_pem: pem(&cluster, "certificate-authority")?,
        identity: certificate.zip(key),
        authorization: token.map(|t| format!("Bearer {t}")).or(basic),
        server_name: Some(cluster.text("tls-server-name").to_owned()).filter(|n| !n.is_empty()),
        insecure: cluster.flag("insecure-skip-tls-verify") == Some(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_webhooks_need() {
        let text = "clusters:\n- name: c\n  cluster: {server: 'https://a/b'}\nusers:\n- name: u\n  user: {token: t}\ncurrent-context: x\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n";
        let settings = settings(text, Path::new("/")).unwrap();
        assert_eq!(
            (settings.url.as_str(), settings.authorization.as_deref()),
            ("https://a/b", Some("Bearer t"))
        );
        let missing = text.replace("cluster: c,", "cluster: d,");
        assert_eq!(super::settings(&missing, Path::new("/")).unwrap_err(), "cluster \"d\" does not exist");
    }
}
