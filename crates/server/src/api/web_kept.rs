//! What is kept of exchanges with hosts of the web.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use skep_api::{Page, Problem, WebBody, WebExchange, WebExchangeContent, WebHeader};
use skep_core::ExchangeId;
use skep_egress::Recorded;

use super::input::{self, Caller, Ordered, Path};
use super::model_kept::{ExchangesQuery, id, next};
use crate::problem::ApiError;
use crate::state::State;

fn listed(one: Recorded) -> WebExchange {
    let (host, rule) = one.model.rsplit_once('/').unwrap_or((&one.model, ""));
    WebExchange {
        id: ExchangeId::from_bytes(one.id).to_string(),
        at: one.at.to_string(),
        until: one.until.to_string(),
        of: one.kind,
        whose: one.who,
        host: host.to_owned(),
        rule: rule.to_owned(),
        method: one.asked,
        outcome: one.outcome,
        bytes: one.bytes,
    }
}

fn headers(all: Vec<(String, String)>) -> Vec<WebHeader> {
    let pair = |(name, value)| WebHeader { name, value };
    all.into_iter().map(pair).collect()
}

/// A body, and how many bytes it had if it was cut.
fn body(bytes: &[u8], whole: Option<u64>) -> WebBody {
    // A letter that was cut in two is none.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if whole.is_some() && error.error_len().is_none() => {
            let (text, _) = bytes.split_at(error.valid_up_to());
            std::str::from_utf8(text).ok()
        }
        Err(_) => None,
    };
    WebBody {
        text: text.map(str::to_owned),
        base64: text.is_none().then(|| STANDARD.encode(bytes)),
        bytes: whole.unwrap_or(bytes.len() as u64),
        cut: whole.is_some(),
    }
}

/// Exchanges with hosts that are kept, the newest first: without what was said.
#[utoipa::path(get, path = "/api/v1/web/exchanges", tag = "web", params(ExchangesQuery),
    responses((status = 200, body = Page<WebExchange>), (status = "4XX", body = Problem)))]
pub(super) async fn exchanges(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    input::Query(query): input::Query<ExchangesQuery>,
) -> Result<Json<Page<WebExchange>>, ApiError> {
    let (before, limit) = query.wanted()?;
    let found = state.web.recordings(&workspace, (before, limit)).await?;
    let next = next(&found, limit);
    let items = found.into_iter().map(listed).collect();
    Ok(Json(Page { items, next }))
}

/// What was said in an exchange that is kept. Who looks at it stands in the audit log before it is shown.
#[utoipa::path(get, path = "/api/v1/web/exchanges/{exchange}", tag = "web",
    params(("exchange" = String, Path, description = "`exc_…`")),
    responses((status = 200, body = WebExchangeContent), (status = "4XX", body = Problem)))]
pub(super) async fn exchange(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(exchange): Path<String>,
) -> Result<Json<WebExchangeContent>, ApiError> {
    let id = id(&exchange)?;
    let (recorded, content) = state.web.recording(&by, &workspace, id).await?;
    Ok(Json(WebExchangeContent {
        exchange: listed(recorded),
        target: content.target,
        asked_headers: headers(content.asked_headers),
        asked: body(&content.asked, content.asked_whole),
        status: Some(content.status).filter(|it| *it > 0),
        headers: headers(content.headers),
        answer: body(&content.answer, content.answer_whole),
    }))
}

/// Removes an exchange that is kept.
#[utoipa::path(delete, path = "/api/v1/web/exchanges/{exchange}", tag = "web",
    params(("exchange" = String, Path, description = "`exc_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(exchange): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = id(&exchange)?;
    state.web.drop_recording(&by, &workspace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_comes_whole_and_a_letter_that_was_cut_is_left_out() {
        let text = |it: &WebBody| (it.text.clone(), it.base64.clone(), it.bytes, it.cut);
        let some = |it: &str| Some(it.to_owned());
        for (bytes, whole, expected) in [
            (&b"a\xc3\xa4"[..], None, (some("a\u{e4}"), None, 3, false)),
            (b"a\xc3", Some(9), (some("a"), None, 9, true)),
            (b"a\xc3", None, (None, some("YcM="), 2, false)),
            (b"\xff\xc3", Some(9), (None, some("/8M="), 9, true)),
            (b"", None, (some(""), None, 0, false)),
        ] {
            assert_eq!(text(&body(bytes, whole)), expected);
        }
    }
}
