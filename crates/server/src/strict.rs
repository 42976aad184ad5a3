//! What HTTP forbids and its parser lets through. Such a request is refused before anybody looks at
//! it: an agent, or a proxy on the way, could read it as another one.

use http::header::{HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Method, Request, Version};
use skep_core::Code;
use skep_guard::threats::patterns::Pattern;

use crate::problem::ApiError;

fn bad(pattern: Pattern, detail: &str) -> (Pattern, ApiError) {
    (pattern, ApiError::new(Code::BadRequest, detail))
}

/// Refuses what has more than one meaning, and leaves the host that is meant in `Host`. Tells what it looks like,
/// too.
pub(crate) fn check<B>(request: &mut Request<B>) -> Result<(), (Pattern, ApiError)> {
    if request.method() == Method::CONNECT {
        // An agent that agreed would be given the bare connection. What is for the proxy does not come here.
        let error = ApiError::new(
            Code::MethodNotAllowed,
            "no tunnel is made to that: write `CONNECT HOST:PORT`",
        );
        return Err((Pattern::Framing, error));
    }
    // Any other coding would reach the agent applied, and without its name.
    if !is_chunked_at_most(request.headers()) {
        let detail = "the only transfer coding is `chunked`, once";
        return Err(bad(Pattern::Framing, detail));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => {}
        (None, _) if request.version() != Version::HTTP_11 => {}
        _ => return Err(bad(Pattern::Host, "a request names one host")),
    }
    // What the target says counts, be it HTTP/2 or an absolute form (RFC 9112 section 3.2.2).
    let target = request.uri().authority().map(Authority::as_str);
    let host = target.and_then(|it| it.rsplit('@').next());
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

fn is_chunked_at_most(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_none_or(|it| it.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// A name or an IPv4 address, with a port or without: what nearly every request says, known without
/// parsing it.
fn is_plain(host: &[u8]) -> bool {
    let end = host
        .iter()
        .position(|byte| *byte == b':')
        .unwrap_or(host.len());
    let (name, port) = host.split_at(end);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let port = port.get(1..).unwrap_or_default();
    !name.is_empty()
        && name.iter().all(is_name)
        && port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
}

fn is_host(host: &HeaderValue) -> bool {
    // An empty one is what a target without an authority has.
    host.is_empty()
        || is_plain(host.as_bytes())
        || Authority::try_from(host.as_bytes()).is_ok_and(|it| !it.as_str().contains('@'))
}
