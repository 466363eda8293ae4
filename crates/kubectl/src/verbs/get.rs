//! `kubectl get`.

use futures_util::{AsyncBufReadExt, TryStreamExt};
use http::Method;
use serde_json::{Value, json};

use super::{Session, Target, targets};
use crate::api;
use crate::error::{Error, Result};
use crate::output::{self, Format, Table, say};

#[derive(clap::Args)]
pub struct Arguments {
    /// TYPE[,TYPE], TYPE NAME… or TYPE/NAME…
    words: Vec<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long)]
    selector: Option<String>,
    #[arg(long)]
    field_selector: Option<String>,
    /// wide, json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long)]
    output: Option<String>,
    /// Go on showing changes
    #[arg(short, long)]
    watch: bool,
    #[arg(long)]
    no_headers: bool,
    #[arg(long)]
    ignore_not_found: bool,
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let format = Format::parse(arguments.output.as_deref())?;
    let resources = session.resources().await?;
    let targets = targets(&resources, &arguments.words)?;
    let view = View { arguments: &arguments, session, format, several: targets.len() > 1 };
    match view.format {
        Format::Table { .. } if arguments.watch => view.watch(&targets).await,
        Format::Table { .. } => view.tables(&targets).await,
        _ => view.objects(&targets).await,
    }
}

struct View<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    format: Format,
    several: bool,
}

impl View<'_> {
    fn namespace(&self) -> &str {
        if self.arguments.all_namespaces { "" } else { &self.session.namespace }
    }

    fn query(&self, more: &[(&str, &str)]) -> String {
        let selector = self.arguments.selector.as_deref().unwrap_or("");
        let fields = self.arguments.field_selector.as_deref().unwrap_or("");
        let mut pairs = vec![("labelSelector", selector), ("fieldSelector", fields)];
        pairs.extend_from_slice(more);
        api::query(&pairs)
    }

    fn path(&self, target: &Target) -> String {
        match &target.name {
            Some(name) => api::path(&target.resource, self.namespace(), Some(name)),
            None => {
                let page: &[_] =
                    if matches!(self.format, Format::Table { .. }) { &[("limit", "500")] } else { &[] };
                format!("{}{}", api::path(&target.resource, self.namespace(), None), self.query(page))
            }
        }
    }

    fn render(&self, target: &Target, table: &Value, headers: bool) -> String {
        let namespaces = self.arguments.all_namespaces && target.resource.namespaced;
        let wide = self.format == Format::Table { wide: true };
        let prefix = self.several.then_some(&target.resource);
        Table { table, namespaces, wide, headers, prefix }.render()
    }

    async fn tables(&self, targets: &[Target]) -> Result<u8> {
        let mut shown = 0;
        let mut status = 0;
        // Names of one type share one table.
        for group in targets.chunk_by(|a, b| a.resource == b.resource && a.name.is_some() && b.name.is_some())
        {
            let mut merged: Option<Value> = None;
            for target in group {
                let mut path = self.path(target);
                loop {
                    let table = match api::get(&self.session.client, &path, api::TABLE).await {
                        Err(error) if error.is_not_found() && target.name.is_some() => {
                            if !self.arguments.ignore_not_found {
                                eprintln!("{error}");
                                status = 1;
                            }
                            break;
                        }
                        other => other?,
                    };
                    let next = table["metadata"]["continue"].as_str().unwrap_or("").to_owned();
                    merged = Some(merge(merged, table));
                    if next.is_empty() {
                        break;
                    }
                    let query = self.query(&[("limit", "500"), ("continue", &next)]);
                    path = format!("{}{query}", api::path(&target.resource, self.namespace(), None));
                }
            }
            let Some(table) = merged else { continue };
            if table["rows"].as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            if shown > 0 {
                say("\n");
            }
            say(&self.render(&group[0], &table, !self.arguments.no_headers));
            shown += 1;
        }
        if shown == 0 && status == 0 && !self.arguments.ignore_not_found {
            match (self.namespace(), targets.iter().any(|t| t.resource.namespaced)) {
                ("", _) | (_, false) => eprintln!("No resources found"),
                (namespace, true) => eprintln!("No resources found in {namespace} namespace."),
            }
        }
        Ok(status)
    }

    async fn objects(&self, targets: &[Target]) -> Result<u8> {
        let mut items = Vec::new();
        let mut whole = None;
        for target in targets {
            let object = match api::get(&self.session.client, &self.path(target), "application/json").await {
                Err(error) if error.is_not_found() && self.arguments.ignore_not_found => continue,
                other => other?,
            };
            if target.name.is_some() {
                if self.format == Format::Name {
                    let name = object["metadata"]["name"].as_str().unwrap_or("");
                    say(&format!("{}/{name}\n", target.resource.qualified_singular()));
                }
                items.push(object.clone());
                whole = Some(object);
                continue;
            }
            for mut item in object["items"].as_array().cloned().into_iter().flatten() {
                if self.format == Format::Name {
                    let name = item["metadata"]["name"].as_str().unwrap_or("");
                    say(&format!("{}/{name}\n", target.resource.qualified_singular()));
                }
                item["apiVersion"] = target.resource.api_version().into();
                item["kind"] = target.resource.kind.clone().into();
                items.push(item);
            }
        }
        if self.format == Format::Name {
            return Ok(0);
        }
        let single = targets.len() == 1 && targets[0].name.is_some();
        let value = match whole {
            Some(object) if single => object,
            None if single => return Ok(0),
            _ => {
                json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
            }
        };
        say(&output::object(&value, &self.format)?);
        Ok(0)
    }

    /// Shows what there is, then each change, until interrupted.
    async fn watch(&self, targets: &[Target]) -> Result<u8> {
        let [target] = targets else {
            return Err(Error::Usage("you may only specify a single resource type with --watch".into()));
        };
        let name = target.name.as_ref().map(|name| format!("metadata.name={name}")).unwrap_or_default();
        let base = api::path(&target.resource, self.namespace(), None);
        let own = if name.is_empty() { Vec::new() } else { vec![("fieldSelector", name.as_str())] };
        let list = api::get(&self.session.client, &format!("{base}{}", self.query(&own)), api::TABLE).await?;
        let mut columns = list["columnDefinitions"].clone();
        say(&self.render(target, &list, !self.arguments.no_headers));
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("");
        let mut more = vec![("watch", "true"), ("resourceVersion", version)];
        more.extend(own);
        let path = format!("{base}{}", self.query(&more));
        let request = api::request(Method::GET, &path, api::TABLE, "", Vec::new())?;
        let mut lines = self.session.client.request_stream(request).await?.lines();
        while let Some(line) = lines.try_next().await? {
            let Ok(mut event) = serde_json::from_str::<Value>(&line) else { continue };
            if event["type"] == "ERROR" {
                let message = event["object"]["message"].as_str().unwrap_or("the watch ended").to_owned();
                return Err(Error::Unreachable(message));
            }
            let mut table = event["object"].take();
            // Only the first event of a watch repeats the columns.
            match table["columnDefinitions"].as_array() {
                Some(some) if !some.is_empty() => columns = table["columnDefinitions"].clone(),
                _ => table["columnDefinitions"] = columns.clone(),
            }
            say(&self.render(target, &table, false));
        }
        Ok(0)
    }
}

fn merge(first: Option<Value>, mut next: Value) -> Value {
    let Some(mut first) = first else { return next };
    if let (Some(rows), Some(more)) = (first["rows"].as_array_mut(), next["rows"].as_array_mut()) {
        rows.append(more);
    }
    first
}
