//! Headers: which stay on one connection, which Skep adds, how they are stored.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Version};
use http_body::Body as _;
use skep_store::StoreError;

use crate::body::Body;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes what concerns one connection only (RFC 9110 section 7.6.1), with what `Connection`
/// names. `TE: trailers` stays, as trailers are passed on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            // An HTTP/1.1 request without a host is none.
            if name != TE && name != HOST {
                headers.remove(name);
            }
        }
    }
    for name in [
        &CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &PROXY_AUTHORIZATION,
        &TRANSFER_ENCODING,
        &UPGRADE,
        &HTTP2_SETTINGS,
    ] {
        headers.remove(name);
    }
    let trailers = headers
        .get(TE)
        .is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    if !trailers {
        headers.remove(TE);
    }
}

/// Turns a client's headers into those of a request to an agent.
pub(crate) fn toward_agent(headers: &mut HeaderMap, context: &crate::Context) {
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    // Which run a call carries is ours to say.
    headers.remove(skep_api::HEADER_RUN_ID);
    headers.remove(CONTENT_LENGTH);
    let forwarded = match headers
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok())
    {
        Some(before) => format!("{before}, {}", context.remote),
        None => context.remote.to_string(),
    };
    if let Ok(value) = HeaderValue::try_from(forwarded) {
        headers.insert("x-forwarded-for", value);
    }
    headers.insert(
        "x-forwarded-proto",
        HeaderValue::from_static(context.scheme),
    );
    if let Some(traceparent) = &context.traceparent {
        headers.insert("traceparent", traceparent.clone());
    }
}

/// Says how a body of unknown length ends. Without it a GET would be sent on without its body.
pub(crate) fn mark_chunked(headers: &mut HeaderMap, body: &Body) {
    if body.size_hint().exact().is_none() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Brings the length that an agent said into the one form that is passed on, or tells why it is not
/// clear where its answer ends.
pub(crate) fn settle_length(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // Any other coding would stay on the body, and nobody would know of it.
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err("the agent's answer has a transfer coding that is not `chunked`");
        }
        // It counts for nothing beside chunks (RFC 9112 section 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    let unclear = "the agent's answer has no clear length";
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let said = value.to_str().map_err(|_| unclear)?;
        for said in said.split(',').map(str::trim) {
            let digits = !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || length.is_some_and(|length| length != said) {
                return Err(unclear);
            }
            length = Some(said);
        }
    }
    if let Some(value) = length.and_then(|length| HeaderValue::from_str(length).ok()) {
        headers.insert(CONTENT_LENGTH, value);
    }
    Ok(())
}

/// Whether the client wants to change to another protocol on this connection (WebSocket). HTTP/2
/// is none that is changed to: its requests would pass by the journal.
pub fn wants_upgrade(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && headers
            .get(UPGRADE)
            .is_some_and(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
            })
}

/// Headers as they are stored: lines as in HTTP/1.1, so that repeated ones and any bytes stay.
pub(crate) fn encode(headers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(headers.len() * 32);
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The headers that [`encode`] wrote.
pub(crate) fn decode(stored: &[u8]) -> Result<HeaderMap, StoreError> {
    let mut headers = HeaderMap::new();
    let mut rest = stored;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        let colon = line
            .windows(2)
            .position(|pair| pair == b": ")
            .ok_or_else(damaged)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| damaged())?;
        let value = HeaderValue::from_bytes(&line[colon + 2..]).map_err(|_| damaged())?;
        headers.append(name, value);
        rest = after;
    }
    if rest.is_empty() {
        Ok(headers)
    } else {
        Err(damaged())
    }
}

fn damaged() -> StoreError {
    StoreError::Statement("stored headers are damaged".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn connection_headers_and_those_it_names_go() {
        let mut headers = map(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(
            headers,
            map(&[("te", "trailers"), ("x-kept", "1"), ("x-kept", "2")])
        );
    }

    #[test]
    fn any_value_comes_back_in_order() {
        let mut headers = map(&[
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-empty", ""),
        ]);
        headers.insert("x-bytes", HeaderValue::from_bytes(b"\xff: \x80\t").unwrap());
        assert_eq!(decode(&encode(&headers)).unwrap(), headers);
        assert!(decode(b"no end").is_err());
        assert_eq!(decode(b"").unwrap(), HeaderMap::new());
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        let headers = map(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert!(wants_upgrade(Version::HTTP_11, &headers));
        assert!(!wants_upgrade(Version::HTTP_2, &headers));
        assert!(!wants_upgrade(
            Version::HTTP_11,
            &map(&[("upgrade", "websocket")])
        ));
    }
}
