//! What the evidence says of a framework's controls.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::Deserialize;
use skep_api::{Compliance, ComplianceControl, ComplianceEntry, Problem};
use skep_compliance::{Assessed, Catalog, Framework, Report, assess, html, markdown, oscal};
use skep_core::Code;
use utoipa::IntoParams;

use super::input::{Caller, Path, Query, since};
use crate::evidence::{EvidenceError, gather};
use crate::problem::ApiError;
use crate::state::State;

/// How far a report looks back, unless it is said.
const WINDOW: Duration = Duration::from_secs(30 * 24 * 3_600);

impl From<EvidenceError> for ApiError {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::Audit(error) => error.into(),
            EvidenceError::Store(error) => Self::Store(error),
            EvidenceError::Backup(error) => {
                tracing::warn!(%error, "the folder of backups");
                Self::new(Code::Internal, Code::Internal.title())
            }
        }
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportQuery {
    /// From this moment on (RFC 3339), or of this last time (`24h`); default `30d`.
    since: Option<String>,
    /// `json` (default), `oscal`, `markdown`, or `html`.
    format: Option<String>,
}

enum Form {
    Json,
    Oscal,
    Markdown,
    Html,
}

fn form(text: Option<&str>) -> Result<Form, ApiError> {
    match text {
        None | Some("json") => Ok(Form::Json),
        Some("oscal") => Ok(Form::Oscal),
        Some("markdown") => Ok(Form::Markdown),
        Some("html") => Ok(Form::Html),
        Some(_) => {
            let detail = "query: format is `json`, `oscal`, `markdown` or `html`";
            Err(ApiError::new(Code::BadRequest, detail))
        }
    }
}

fn shown(report: Report) -> Compliance {
    let control = |Assessed { control, finding }| ComplianceControl {
        id: control.id,
        title: control.title,
        reference: control.reference,
        state: finding.state.as_str().to_owned(),
        detail: finding.said,
        query: finding.question.map(|it| it.command().to_owned()),
        count: finding.count,
        entries: (finding.entries.into_iter())
            .map(|it| ComplianceEntry {
                number: it.number,
                proof: it.proof,
            })
            .collect(),
        person: control.person,
    };
    let evidence = report.evidence;
    Compliance {
        framework: report.catalog.framework.to_string(),
        workspace: evidence.workspace,
        since: evidence.since.to_string(),
        until: evidence.until.to_string(),
        checkpoint: evidence.checkpoint.note,
        public_key: evidence.checkpoint.key,
        controls: report.controls.into_iter().map(control).collect(),
    }
}

/// A file to keep: a page of Skep's origin it is not.
fn file(kind: &'static str, name: &str, body: String) -> Response {
    let headers = [
        (CONTENT_TYPE, kind.to_owned()),
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, body).into_response()
}

/// What the evidence says of a framework's controls: `gdpr`, `hipaa`, `sox`, `soc2`.
#[utoipa::path(get, path = "/api/v1/compliance/{framework}", tag = "compliance", params(
    ("framework" = String, Path, description = "`gdpr`, `hipaa`, `sox`, or `soc2`"), ReportQuery),
    responses((status = 200, content((Compliance = "application/json"), (String = "text/markdown"),
        (String = "text/html"))), (status = "4XX", body = Problem)))]
pub(super) async fn report(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(framework): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Result<Response, ApiError> {
    let framework: Framework =
        framework
            .parse()
            .map_err(|error: skep_compliance::CatalogError| {
                ApiError::new(Code::NotFound, error.to_string())
            })?;
    let form = form(query.format.as_deref())?;
    let now = state.db.clock().now();
    let since = since(query.since.as_deref(), now)?.unwrap_or_else(|| now.minus(WINDOW));
    let broken = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a compliance report");
        ApiError::new(Code::Internal, Code::Internal.title())
    };
    let catalog = Catalog::of(framework).map_err(|error| broken(&error))?;
    let report = assess(catalog, gather(&state, &workspace, since).await?);
    Ok(match form {
        Form::Json => Json(shown(report)).into_response(),
        Form::Oscal => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| broken(&error))?;
            Json(oscal(&report, seed)).into_response()
        }
        Form::Markdown => {
            let name = format!("{framework}.md");
            file("text/markdown; charset=utf-8", &name, markdown(&report))
        }
        Form::Html => file(
            "text/html; charset=utf-8",
            &format!("{framework}.html"),
            html(&report),
        ),
    })
}
