//! Which workspace a request means.

use http::HeaderMap;
use skep_core::{Code, Workspace};
use skep_guard::Principal;

use crate::problem::ApiError;

fn none(name: &str) -> ApiError {
    let shown: String = name.chars().take(63).collect();
    ApiError::new(
        Code::WorkspaceNotFound,
        format!("there is no workspace `{shown}` for you"),
    )
}

/// The workspace that the request names, taken out of its headers.
///
/// # Errors
/// [`Code::WorkspaceNotFound`] when it is no name.
pub(crate) fn wanted(headers: &mut HeaderMap) -> Result<Option<Workspace>, ApiError> {
    let Some(value) = headers.remove(skep_api::HEADER_WORKSPACE) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let name = Workspace::new(&text).map_err(|_| none(&text))?;
    Ok(Some(name))
}

/// A key counts in its workspace alone.
///
/// # Errors
/// [`Code::WorkspaceNotFound`]: that there is another one is nothing that it may know.
pub(crate) fn must_be(principal: &Principal, wanted: Option<&Workspace>) -> Result<(), ApiError> {
    match wanted {
        Some(wanted) if *wanted != principal.workspace => Err(none(wanted.as_str())),
        _ => Ok(()),
    }
}
