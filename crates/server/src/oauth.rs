//! What clients of the doors to tools learn of who gives them tokens: the metadata of a protected resource (RFC 9728), and
//! the header that leads there. The tokens themselves are those of the issuers of `auth.issuers`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderName, StatusCode, Uri};
use serde_json::json;
use skep_core::Code;

use crate::mcp;
use crate::problem::ApiError;
use crate::state::State;

/// Where the metadata of a door is: its path stands behind it.
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";
/// The longest name of a host, with its port, in bytes.
const MOST_HOST: usize = 262;

/// The host that a request was sent to, when it is one that can be said again.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let asked = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(HOST)?.to_str().ok()?,
    };
    let plain = |it: u8| it.is_ascii_alphanumeric() || b".-:[]".contains(&it);
    let is_plain = asked.len() <= MOST_HOST && asked.bytes().all(plain);
    asked.parse().ok().filter(|_| is_plain)
}

/// Where this server is, as who asks reaches it: by TLS here, or where the file of providers says so.
pub(crate) fn origin(state: &State, uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let host = host(uri, headers)?;
    let said = state.logins.now();
    let said = said.as_ref().map(|it| it.url().trim_end_matches('/'));
    let is_secure = said == Some(&format!("https://{host}"));
    let scheme = match state.tls.is_some() || is_secure {
        true => "https",
        false => "http",
    };
    Some(format!("{scheme}://{host}"))
}

/// Whether nobody on the way can say something else: by TLS, or on this machine.
fn is_safe(origin: &str) -> bool {
    let Some(host) = origin.strip_prefix("http://") else {
        return true;
    };
    let host = host.parse::<Authority>().ok();
    let host = host.as_ref().map(|it| it.host().trim_matches(['[', ']']));
    let is_loopback = |it: &str| it.parse().is_ok_and(|it: IpAddr| it.is_loopback());
    host.is_some_and(|it| it == "localhost" || is_loopback(it))
}

/// What stands in an answer to who shows no token at a door to tools; nothing, where no issuer is set up.
pub(crate) fn challenge(state: &State, uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    if mcp::door(uri.path()).is_none() || state.outside.authorities().is_empty() {
        return None;
    }
    let origin = origin(state, uri, headers).filter(|it| is_safe(it))?;
    // The path may hold anything: what a name of a server cannot be is left out.
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-/".contains(&it);
    let path = uri.path().trim_end_matches('/');
    let path = if path.bytes().all(plain) {
        path
    } else {
        "/mcp"
    };
    let text = format!("Bearer realm=\"skep\", resource_metadata=\"{origin}{METADATA}{path}\"");
    HeaderValue::try_from(text).ok()
}

/// Puts it into an answer that says that nobody was known.
pub(crate) fn tell(challenge: Option<HeaderValue>, status: StatusCode, headers: &mut HeaderMap) {
    if let Some(challenge) = challenge
        && status == StatusCode::UNAUTHORIZED
    {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
}

/// Who gives tokens for a door.
pub(crate) async fn metadata(
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Result<Response, ApiError> {
    let nobody = || {
        let why = "no issuer of tokens is set up here: `auth.issuers` names them";
        ApiError::new(Code::NotFound, why)
    };
    let authorities = state.outside.authorities();
    let path = request.uri().path().strip_prefix(METADATA);
    let path = path.filter(|_| !authorities.is_empty());
    let path = path.ok_or_else(nobody)?;
    // Without a path it is that of the door to all servers.
    let path = if path.is_empty() { "/mcp" } else { path };
    let origin = origin(&state, request.uri(), request.headers()).ok_or_else(nobody)?;
    let text = json!({
        "resource": format!("{origin}{path}"),
        "resource_name": "Skep",
        "authorization_servers": authorities,
        "bearer_methods_supported": ["header"],
    });
    let headers: [(HeaderName, HeaderValue); 2] = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // It says what host was asked.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, text.to_string()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_over_the_open_net_without_tls() {
        for safe in [
            "https://a.example",
            "http://127.0.0.1:7537",
            "http://[::1]",
            "http://localhost:1",
        ] {
            assert!(is_safe(safe), "{safe}");
        }
        for open in [
            "http://a.example",
            "http://10.0.0.1:7537",
            "http://127.0.0.1.example",
        ] {
            assert!(!is_safe(open), "{open}");
        }
    }

    #[test]
    fn a_host_that_could_say_more_is_none() {
        let at = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(text).unwrap());
            host(&Uri::from_static("/mcp"), &headers).map(|it| it.to_string())
        };
        for good in [
            "skep.example",
            "skep.example:7537",
            "[::1]:7537",
            "10.0.0.1",
        ] {
            assert_eq!(at(good).as_deref(), Some(good));
        }
        for odd in ["a\"b", "me@host", "a b", "a/b", "a,b", &"a".repeat(300)] {
            assert_eq!(at(odd), None, "{odd}");
        }
    }
}
