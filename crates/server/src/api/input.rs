//! What handlers take from requests, with errors as problem documents.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;
use skep_api::Page;
use skep_core::{CallId, Code, Timestamp, Workspace, units};
use skep_store::By;
use skep_vault::{VaultError, Which};

use crate::gate::{Asker, Unasked};
use crate::problem::ApiError;
use crate::state::State;
use crate::vault::KnownSecret;

/// Rows of a page unless the client says how many.
const DEFAULT_LIMIT: u32 = 100;
/// The most rows of a page.
const MOST_LIMIT: u32 = 1000;

/// The workspace of who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Workspace);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // The dispatcher puts it into every request that it lets through.
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::new(Code::Unauthorized, Code::Unauthorized.title()))
    }
}

/// By whom something is done, put into each request that may change something.
#[derive(Debug, Clone)]
pub(crate) struct Ordered(pub(crate) By);

impl<S: Sync> FromRequestParts<S> for Ordered {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let by = parts.extensions.get::<Self>().cloned();
        by.ok_or_else(|| ApiError::new(Code::Forbidden, Code::Forbidden.title()))
    }
}

impl<S: Sync> FromRequestParts<S> for Unasked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let unasked = parts.extensions.get::<Self>().cloned();
        unasked.ok_or_else(|| ApiError::new(Code::Forbidden, Code::Forbidden.title()))
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let asker = parts.extensions.get::<Self>().cloned();
        asker.ok_or_else(|| ApiError::new(Code::Unauthorized, Code::Unauthorized.title()))
    }
}

/// A segment of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::new(Code::NotFound, "the path is malformed")),
        }
    }
}

/// The secret of a request as it was decided on, and what the path calls it. Put into each request that names one.
#[derive(Clone)]
pub(super) struct Decided(pub(super) Option<Arc<KnownSecret>>, pub(super) String);

/// The secret that the path names: the one that was decided on, even if another has its name by now.
pub(super) struct Meant(pub(super) Arc<KnownSecret>);

impl FromRequestParts<Arc<State>> for Meant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let decided = parts.extensions.get::<Decided>();
        let Decided(known, text) =
            decided.ok_or_else(|| ApiError::new(Code::Forbidden, Code::Forbidden.title()))?;
        match known {
            Some(known) => Ok(Self(known.clone())),
            None if !state.vault.is_open() => Err(VaultError::Sealed.into()),
            None => Err(Which::new(text)?.missing().into()),
        }
    }
}

/// A call's id from the path. One that is malformed is one that does not exist.
pub(crate) struct CallPath(pub(crate) CallId);

impl<S: Send + Sync> FromRequestParts<S> for CallPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text): Path<String> = Path::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|_| {
            let shown: String = text.chars().take(64).collect();
            ApiError::new(Code::CallNotFound, format!("no call has the id `{shown}`"))
        })
    }
}

/// The query string. An unknown parameter is an error.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => Err(ApiError::new(
                Code::BadRequest,
                format!("query: {}", error.body_text()),
            )),
            Err(_) => Err(ApiError::new(Code::BadRequest, "the query is malformed")),
        }
    }
}

/// A JSON body. An unknown field is an error.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(JsonRejection::JsonDataError(error)) => {
                Err(ApiError::new(Code::InvalidSpec, error.body_text()))
            }
            Err(JsonRejection::MissingJsonContentType(_)) => Err(ApiError::new(
                Code::UnsupportedMediaType,
                "the body is not declared as JSON",
            )),
            Err(error) if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE => Err(
                ApiError::new(Code::BodyTooLarge, "the JSON body is over 2 MiB"),
            ),
            Err(error) => Err(ApiError::new(Code::BadRequest, error.body_text())),
        }
    }
}

/// The number of rows that a page may have.
pub(crate) fn limit(wanted: Option<u32>) -> Result<u32, ApiError> {
    match wanted.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MOST_LIMIT => Ok(limit),
        other => Err(ApiError::new(
            Code::BadRequest,
            format!("query: limit is {other}, and must be between 1 and {MOST_LIMIT}"),
        )),
    }
}

/// Where a page begins, from the cursor that the page before gave.
pub(crate) fn cursor<T: FromStr>(cursor: Option<&str>) -> Result<Option<T>, ApiError> {
    let wrong = |_| {
        ApiError::new(
            Code::BadRequest,
            "query: the cursor is not one that a page gave",
        )
    };
    cursor
        .map(|cursor| cursor.parse().map_err(wrong))
        .transpose()
}

/// A moment: RFC 3339, or a duration back from now.
pub(crate) fn since(text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    text.map(|text| moment("since", text, now)).transpose()
}

/// As [`since`], of a parameter with this name.
pub(crate) fn moment(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    match units::parse_duration(text) {
        Some(ago) => Ok(now.minus(ago)),
        None => text.parse().map_err(|_| {
            let detail = format!("query: {name} is neither a time (RFC 3339) nor a duration (10m)");
            ApiError::new(Code::BadRequest, detail)
        }),
    }
}

/// A page of rows of which one more than `limit` was asked for: that one tells whether there is
/// another page, whose cursor is `key` of this one's last row.
pub(crate) fn page<T>(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Page<T> {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(key);
    Page { items, next }
}
