//! Functions of the authorizer.

use crate::authz::{Authz, Check, Decision};
use crate::env::Activation;
use crate::lib_std::{Res, no_overload};
use crate::value::{Text, Value};

type Host<'h, 'a> = &'h dyn Activation<'a>;

fn made<'a>(authz: Authz) -> Res<'a> {
    Ok(Value::Authz(authz.into()))
}

fn receiver<'v>(args: &'v [Value<'_>]) -> Option<(&'v Authz, &'v str)> {
    match args {
        [Value::Authz(authz), Value::String(text)] => Some((authz, text)),
        _ => None,
    }
}

pub(crate) fn path<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match receiver(args) {
        Some((Authz::Authorizer { .. }, path)) if path.trim().is_empty() => {
            Err("path must not be empty".into())
        }
        Some((Authz::Authorizer { service_account }, path)) => {
            made(Authz::Path { service_account: service_account.clone(), path: path.into() })
        }
        _ => no_overload("path", args),
    }
}

pub(crate) fn group<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match receiver(args) {
        Some((Authz::Authorizer { service_account }, group)) => {
            made(Authz::Group { service_account: service_account.clone(), group: group.into() })
        }
        _ => no_overload("group", args),
    }
}

pub(crate) fn service_account<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::Authz(authz), Value::String(namespace), Value::String(name)] = args else {
        return no_overload("serviceAccount", args);
    };
    let Authz::Authorizer { .. } = **authz else { return no_overload("serviceAccount", args) };
    if !machinery::names::is_dns_subdomain_name(name, false).is_empty() {
        return Err("Invalid service account name".into());
    }
    if !machinery::names::is_dns_label_name(namespace, false).is_empty() {
        return Err("Invalid service account namespace".into());
    }
    made(Authz::Authorizer { service_account: Some((namespace.to_string(), name.to_string())) })
}

pub(crate) fn resource<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match receiver(args) {
        Some((Authz::Group { .. }, resource)) if resource.trim().is_empty() => {
            Err("resource must not be empty".into())
        }
        Some((Authz::Group { service_account, group }, resource)) => made(Authz::Resource(Box::new(Check {
            service_account: service_account.clone(),
            group: group.clone(),
            version: "*".into(),
            resource: resource.into(),
            ..Check::default()
        }))),
        _ => no_overload("resource", args),
    }
}

fn narrowed<'a>(args: &[Value<'a>], name: &str, set: fn(&mut Check, String)) -> Res<'a> {
    match receiver(args) {
        Some((Authz::Resource(check), text)) => {
            let mut check = check.clone();
            set(&mut check, text.to_owned());
            made(Authz::Resource(check))
        }
        _ => no_overload(name, args),
    }
}

pub(crate) fn subresource<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    narrowed(args, "subresource", |check, text| check.subresource = text)
}

pub(crate) fn namespace<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    narrowed(args, "namespace", |check, text| check.namespace = text)
}

pub(crate) fn name<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    narrowed(args, "name", |check, text| check.name = text)
}

pub(crate) fn field_selector<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    narrowed(args, "fieldSelector", |check, text| check.field_selector = Some(text).filter(|t| !t.is_empty()))
}

pub(crate) fn label_selector<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    narrowed(args, "labelSelector", |check, text| check.label_selector = Some(text).filter(|t| !t.is_empty()))
}

pub(crate) fn check<'a>(args: &[Value<'a>], host: Host<'_, 'a>) -> Res<'a> {
    let question = match receiver(args) {
        Some((Authz::Path { service_account, path }, verb)) => Check {
            service_account: service_account.clone(),
            path: path.clone(),
            verb: verb.into(),
            ..Check::default()
        },
        Some((Authz::Resource(check), verb)) => {
            Check { verb: verb.into(), version: "*".into(), ..Check::clone(check) }
        }
        _ => return no_overload("check", args),
    };
    made(Authz::Decision(host.authorize(&question)))
}

fn decision<'v>(args: &'v [Value<'_>]) -> Option<&'v Decision> {
    match args {
        [Value::Authz(authz)] => match &**authz {
            Authz::Decision(decision) => Some(decision),
            _ => None,
        },
        _ => None,
    }
}

fn text<'a>(text: &str) -> Value<'a> {
    Value::String(Text::from(text.to_owned()))
}

pub(crate) fn allowed<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    decision(args).map_or_else(|| no_overload("allowed", args), |d| Ok(Value::Bool(d.allowed)))
}

pub(crate) fn reason<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    decision(args).map_or_else(|| no_overload("reason", args), |d| Ok(text(&d.reason)))
}

pub(crate) fn errored<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    decision(args).map_or_else(|| no_overload("errored", args), |d| Ok(Value::Bool(d.error.is_some())))
}

pub(crate) fn error<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    decision(args).map_or_else(|| no_overload("error", args), |d| Ok(text(d.error.as_deref().unwrap_or(""))))
}
