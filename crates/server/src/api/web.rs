//! Rules of the way out to the web.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::{StatusCode, Uri};
use serde::Deserialize;
use skep_api::{NewWebRule, Page, Problem, WebCa, WebCheck, WebCredential, WebRule};
use skep_egress::web::{Asked, Credential, Origin, Place, Rule, Scheme, WebError, seen_path};
use skep_guard::Circumstances;
use skep_guard::policy::{PrincipalKind, Resource};
use skep_guard::{Principal, Scopes};

use super::input::{self, Caller, Ordered, Path};
use crate::access::WEB_REQUEST;
use crate::credentials::may_name;
use crate::gate::{self, Asker};
use crate::problem::ApiError;
use crate::state::State;

fn invalid(field: &str, why: impl std::fmt::Display) -> ApiError {
    let field = field.to_owned();
    let why = why.to_string();
    WebError::Invalid { field, why }.into()
}

fn shown(rule: &Rule) -> WebRule {
    let credential = rule.credential.as_ref().map(|it| {
        let mut shown = WebCredential {
            secret: it.secret.clone(),
            field: it.field.clone(),
            ..WebCredential::default()
        };
        match &it.place {
            Place::Header { name, form } => {
                shown.header = Some(name.clone());
                shown.form = Some(form.clone());
            }
            Place::Query(name) => shown.query = Some(name.clone()),
            Place::Placeholder(text) => shown.placeholder.clone_from(text),
        }
        shown
    });
    WebRule {
        name: rule.name.clone(),
        host: rule.to.to_string(),
        methods: rule.methods.clone(),
        paths: rule.paths.clone(),
        credential,
        opened: rule.opens() || rule.to.scheme == Scheme::Http,
        record_days: Some(rule.record_days).filter(|it| *it > 0),
    }
}

/// The rules, by name.
#[utoipa::path(get, path = "/api/v1/web/rules", tag = "web",
    responses((status = 200, body = Page<WebRule>), (status = "4XX", body = Problem)))]
pub(super) async fn rules(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<WebRule>>, ApiError> {
    let all = state.web.rules(&workspace).await?;
    let items = all.iter().map(|it| shown(it)).collect();
    Ok(Json(Page { items, next: None }))
}

fn place(credential: &WebCredential) -> Result<Place, ApiError> {
    let WebCredential {
        header,
        form,
        query,
        placeholder,
        ..
    } = credential;
    match (header, query, placeholder) {
        (Some(name), None, None) => {
            let usual = match name.eq_ignore_ascii_case("authorization") {
                true => "Bearer {}",
                false => "{}",
            };
            let form = form.clone().unwrap_or_else(|| usual.to_owned());
            let name = name.clone();
            Ok(Place::Header { name, form })
        }
        (None, _, _) if form.is_some() => Err(invalid("form", "it is that of a header: name one")),
        (None, Some(name), None) => Ok(Place::Query(name.clone())),
        (None, None, text) => Ok(Place::Placeholder(text.clone())),
        _ => Err(invalid(
            "credential",
            "one of `header`, `query` and `placeholder`, or none of them",
        )),
    }
}

fn wanted(name: String, new: NewWebRule) -> Result<Rule, ApiError> {
    let to: Origin = new.host.parse()?;
    let credential = match &new.credential {
        None => None,
        Some(it) => Some(Credential {
            secret: it.secret.clone(),
            field: it.field.clone(),
            place: place(it)?,
        }),
    };
    let rule = Rule {
        name,
        to,
        methods: new.methods,
        paths: new.paths,
        credential,
        open: new.open,
        record_days: new.record_days.unwrap_or_default(),
    };
    rule.check()?;
    Ok(rule)
}

/// Adds a rule, or puts it in the place of the one of its name. Whoever names a secret must be allowed to use it.
#[utoipa::path(put, path = "/api/v1/web/rules/{rule}", tag = "web", request_body = NewWebRule,
    params(("rule" = String, Path, description = "Its name")),
    responses((status = 200, body = WebRule), (status = "4XX", body = Problem)))]
pub(super) async fn allow(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<NewWebRule>,
) -> Result<Json<WebRule>, ApiError> {
    let workspace = &asker.principal.workspace;
    let rule = wanted(name, new)?;
    if let Some(Credential { secret, .. }) = &rule.credential {
        may_name(&state, &asker, secret)
            .await?
            .map_err(|why| invalid("secret", why))?;
    }
    state.web.put_rule(&by, workspace, &rule).await?;
    Ok(Json(shown(&rule)))
}

/// Removes a rule. Requests that run go on.
#[utoipa::path(delete, path = "/api/v1/web/rules/{rule}", tag = "web",
    params(("rule" = String, Path, description = "Its name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.web.drop_rule(&by, &workspace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which request.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckQuery {
    /// What is asked for, such as `https://api.example.com/v1/items`.
    url: String,
    /// How; `GET` unless it is said.
    method: Option<String>,
    /// Which agent asks; without it, who asks here.
    agent: Option<String>,
}

/// Who is asked about: an agent, or who asks here.
fn asking(asker: &Asker, agent: Option<String>) -> Asker {
    let Some(agent) = agent else {
        return asker.clone();
    };
    let principal = Principal {
        kind: PrincipalKind::Agent,
        id: agent.into(),
        workspace: asker.principal.workspace.clone(),
        role: None,
        scopes: Scopes::all(),
    };
    Asker::plain(principal, asker.remote)
}

/// Tells what becomes of a request to the web. Nothing is sent.
#[utoipa::path(get, path = "/api/v1/web/check", tag = "web", params(CheckQuery),
    responses((status = 200, body = WebCheck), (status = "4XX", body = Problem)))]
pub(super) async fn check(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    input::Query(query): input::Query<CheckQuery>,
) -> Result<Json<WebCheck>, ApiError> {
    let workspace = &asker.principal.workspace;
    let uri: Option<Uri> = query.url.parse().ok();
    let asked = uri.as_ref().and_then(Asked::of);
    let (Some(uri), Some(asked)) = (uri, asked) else {
        return Err(invalid("url", "a URL of http or https"));
    };
    let method = query
        .method
        .unwrap_or_else(|| "GET".to_owned())
        .to_ascii_uppercase();
    let path = seen_path(uri.path())?;
    let rule = match state
        .web
        .rule(workspace, &asked, (&method, uri.path()))
        .await
    {
        Ok(rule) => rule,
        Err(WebError::Denied { what, hint }) => {
            let why = format!("{what}. {hint}");
            return Ok(Json(WebCheck {
                allowed: false,
                rule: None,
                opened: false,
                why,
            }));
        }
        Err(error) => return Err(error.into()),
    };
    let tunnel = match asked.scheme {
        Scheme::Http => true,
        Scheme::Https => state.web.tunnel(workspace, &asked).await?.1,
    };
    let who = asking(&asker, query.agent);
    let (method, path) = match tunnel {
        true => (method.as_str(), Some(path.as_str())),
        // Skep does not see more.
        false => ("CONNECT", None),
    };
    let circumstances = Circumstances {
        path,
        rule: Some(&rule.name),
        ..who.circumstances(&state, method, "")
    };
    let name = asked.name();
    let action = (WEB_REQUEST.action, Resource::Host(&name));
    let allowed = gate::may_under(&state, &who, action, &circumstances).await?;
    let why = match allowed {
        true => format!("the rule `{}` and the policies let it out", rule.name),
        false => format!(
            "the rule `{}` lets it out, and no policy allows it, or one forbids it: see `skep policy explain {}`",
            rule.name, WEB_REQUEST.action
        ),
    };
    Ok(Json(WebCheck {
        allowed,
        rule: Some(rule.name.clone()),
        opened: tunnel,
        why,
    }))
}

/// The CA by which Skep opens TLS for the agents of this workspace; made, when there is none.
#[utoipa::path(get, path = "/api/v1/web/ca", tag = "web",
    responses((status = 200, body = WebCa), (status = "4XX", body = Problem)))]
pub(super) async fn ca(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<WebCa>, ApiError> {
    let authority = state.web.authority(&workspace).await;
    let authority = authority.map_err(|why| WebError::Closed {
        host: "any host".to_owned(),
        why,
    });
    let certificate = authority?.pem();
    Ok(Json(WebCa { certificate }))
}
