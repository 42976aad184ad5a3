//! Sessions in browsers: the cookies, and which pages may use them.
//!
//! A browser sends cookies whoever made the page that asks. So a request with a session counts when the browser
//! says that a page of this origin makes it, by `Sec-Fetch-Site` (Fetch Metadata) or by an `Origin` that is
//! the `Host`. What only looks may come by a link too, except at an agent, where Skep knows nothing of
//! what a GET does.

use std::net::IpAddr;

use http::header::{COOKIE, HOST, ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use skep_core::Code;

use crate::problem::ApiError;

/// The session's cookie. Its prefix makes browsers keep it to this host, to TLS (and loopback) and to all
/// paths.
const SESSION: &str = "__Host-skep-session";
/// The cookie of a device that was logged in before.
const DEVICE: &str = "__Host-skep-device";
/// The cookie of a login at a provider that is on its way.
const FLOW: &str = "__Host-skep-flow";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The cookies of ours that a request has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cookies {
    pub(crate) session: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) flow: Option<String>,
}

/// Somebody who asks for what is public.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) remote: IpAddr,
    pub(crate) cookies: Cookies,
}

/// Takes our cookies out of the headers; those of others stay.
pub(crate) fn take(headers: &mut HeaderMap) -> Cookies {
    let mut found = Cookies::default();
    if !headers.contains_key(COOKIE) {
        return found;
    }
    let mut others = Vec::new();
    for value in headers.get_all(COOKIE) {
        let mut kept: Vec<&[u8]> = Vec::new();
        for pair in value.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let text = std::str::from_utf8(pair).unwrap_or_default();
            let (name, content) = text.split_once('=').unwrap_or_default();
            let slot = match name.trim_end() {
                SESSION => &mut found.session,
                DEVICE => &mut found.device,
                FLOW => &mut found.flow,
                _ => {
                    kept.push(pair);
                    continue;
                }
            };
            // The first one counts; none goes on.
            slot.get_or_insert_with(|| content.trim().to_owned());
        }
        let kept = kept.join(&b"; "[..]);
        if !kept.is_empty()
            && let Ok(value) = HeaderValue::from_bytes(&kept)
        {
            others.push(value);
        }
    }
    headers.remove(COOKIE);
    for value in others {
        headers.append(COOKIE, value);
    }
    found
}

/// Whether no page of another site makes this request, for what needs no session: nobody is to be logged in
/// as somebody else by a page that they look at. A program says nothing of where it is.
///
/// # Errors
/// [`Code::CrossSite`].
pub(crate) fn must_not_be_foreign<B>(request: &Request<B>) -> Result<(), ApiError> {
    let headers = request.headers();
    match headers.contains_key(FETCH_SITE) || headers.contains_key(ORIGIN) {
        true => must_be_own(request),
        false => Ok(()),
    }
}

/// Whether a page of Skep's own makes this request.
///
/// # Errors
/// [`Code::CrossSite`].
pub(crate) fn must_be_own<B>(request: &Request<B>) -> Result<(), ApiError> {
    let headers = request.headers();
    let looks = matches!(*request.method(), Method::GET | Method::HEAD)
        && !headers.contains_key(UPGRADE)
        && !request.uri().path().starts_with("/agents/");
    let own = match headers.get(FETCH_SITE) {
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        None => headers.get(ORIGIN).is_some_and(|origin| {
            let host = request.uri().authority().map(|it| it.as_str().as_bytes());
            let host = host.or_else(|| headers.get(HOST).map(HeaderValue::as_bytes));
            let origin = origin.as_bytes();
            let of = |scheme: &[u8]| origin.strip_prefix(scheme);
            host.is_some() && of(b"https://").or_else(|| of(b"http://")) == host
        }),
    };
    match own || looks {
        true => Ok(()),
        false => Err(ApiError::new(
            Code::CrossSite,
            "the browser does not say that a page of Skep's own asks",
        )),
    }
}

/// The cookies of a session that begins.
pub(crate) fn set(session: &str, device: &str, session_s: u64) -> [HeaderValue; 2] {
    let year = 90 * 24 * 3600;
    [
        cookie(SESSION, session, session_s),
        cookie(DEVICE, device, year),
    ]
}

/// The cookie of a login at a provider that begins. It comes back with the browser from there, as a link does.
pub(crate) fn set_flow(text: &str, seconds: u64) -> HeaderValue {
    cookie(FLOW, text, seconds)
}

/// What takes it away.
pub(crate) fn clear_flow() -> HeaderValue {
    cookie(FLOW, "", 0)
}

/// What takes the session's cookie away.
pub(crate) fn clear() -> HeaderValue {
    cookie(SESSION, "", 0)
}

fn cookie(name: &str, value: &str, seconds: u64) -> HeaderValue {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    // Name and value are of base62 and `_`.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn cookies_of_ours_do_not_go_on() {
        let mut all = headers(&[
            ("cookie", "a=1; __Host-skep-session=one; b=2"),
            (
                "cookie",
                "__Host-skep-device = two;__Host-skep-session=three",
            ),
            ("cookie", "c=\"x\""),
        ]);
        let found = take(&mut all);
        assert_eq!(found.session.as_deref(), Some("one"));
        assert_eq!(found.device.as_deref(), Some("two"));
        assert_eq!(
            all,
            headers(&[("cookie", "a=1; b=2"), ("cookie", "c=\"x\"")])
        );
    }

    #[test]
    fn only_pages_of_skep_use_a_session() {
        const OWN: (&str, &str) = ("host", "skep.example:7537");
        let asks = |method: &str, path: &str, more: &[(&'static str, &'static str)]| {
            let mut request = Request::builder().method(method).uri(path);
            let all = [&[OWN], more].concat();
            *request.headers_mut().unwrap() = headers(&all);
            must_be_own(&request.body(()).unwrap()).is_ok()
        };
        let api = "/api/v1/agents";
        for (method, path, more, fits) in [
            ("GET", api, &[][..], true),
            ("GET", api, &[("sec-fetch-site", "cross-site")], true),
            (
                "GET",
                api,
                &[("upgrade", "websocket"), ("origin", "https://evil.example")],
                false,
            ),
            ("POST", api, &[], false),
            ("POST", api, &[("sec-fetch-site", "same-origin")], true),
            ("POST", api, &[("sec-fetch-site", "none")], true),
            ("POST", api, &[("sec-fetch-site", "same-site")], false),
            ("POST", api, &[("sec-fetch-site", "cross-site")], false),
            // What the browser says of itself counts more than an origin.
            (
                "POST",
                api,
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://skep.example:7537"),
                ],
                false,
            ),
            (
                "POST",
                api,
                &[("origin", "https://skep.example:7537")],
                true,
            ),
            ("POST", api, &[("origin", "https://skep.example")], false),
            ("POST", api, &[("origin", "https://evil.example")], false),
            ("POST", api, &[("origin", "null")], false),
            (
                "DELETE",
                api,
                &[("origin", "https://skep.example:7537.evil.example")],
                false,
            ),
            (
                "GET",
                "/agents/a/x",
                &[("sec-fetch-site", "cross-site")],
                false,
            ),
            ("GET", "/agents/a/x", &[], false),
            (
                "GET",
                "/agents/a/x",
                &[("sec-fetch-site", "same-origin")],
                true,
            ),
        ] {
            assert_eq!(asks(method, path, more), fits, "{method} {path} {more:?}");
        }
    }

    #[test]
    fn the_cookie_says_all_that_keeps_it() {
        let [session, device] = set("skep_session_x", "skep_device_y", 60);
        assert_eq!(
            session,
            "__Host-skep-session=skep_session_x; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60"
        );
        assert!(device.to_str().unwrap().contains("HttpOnly"));
        assert!(clear().to_str().unwrap().ends_with("Max-Age=0"));
    }
}
