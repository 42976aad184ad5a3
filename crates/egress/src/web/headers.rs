//! Which headers pass: of a request to a host, and of its answer.

use http::HeaderMap;
use http::header::{
    ACCEPT_CHARSET, ACCEPT_ENCODING, ALT_SVC, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT,
    HOST, HeaderName, HeaderValue, IF_RANGE, RANGE, SET_COOKIE, TRAILER, UPGRADE,
};

use crate::headers::Hop;
use crate::scrub::Forms;

/// By which some servers are told of another method or path than that of the request.
const OVERRIDES: [&str; 10] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-original-path",
    "x-original-method",
    "x-forwarded-uri",
    "x-forwarded-method",
];
/// What a WebSocket agrees on that would hide what passes.
const EXTENSIONS: HeaderName = HeaderName::from_static("sec-websocket-extensions");

/// Whether a request wants to speak the WebSocket protocol.
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The headers that a host gets: all that are not of a connection, and none that shows a credential of Skep or says that
/// the method or the path is another than the one that was decided on.
pub(super) fn to_host(headers: &HeaderMap) -> HeaderMap {
    let hop = Hop::of(headers);
    let mut passed = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let is_own = name.as_str().starts_with("skep-") || shows_us(value);
        let is_framing = [HOST, CONTENT_LENGTH, EXPECT].contains(name);
        let overrides = OVERRIDES.contains(&name.as_str());
        if !is_own && !is_framing && !overrides && !hop.has(name) {
            passed.append(name.clone(), value.clone());
        }
    }
    if is_websocket(headers) {
        passed.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        passed.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    passed
}

/// Whether a key or a token of Skep stands in it: those are for nobody else.
fn shows_us(value: &HeaderValue) -> bool {
    let is_ours = |bytes: &[u8]| memchr::memmem::find(bytes, b"skep_").is_some();
    is_ours(value.as_bytes()) || super::fill::basic(value.as_bytes()).is_some_and(|it| is_ours(&it))
}

/// Of a request whose answer is looked through: that comes whole, and as it is.
pub(super) fn readable(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(ACCEPT_CHARSET);
    headers.remove(RANGE);
    headers.remove(IF_RANGE);
    headers.remove(EXTENSIONS);
}

/// Whether an answer is compressed, or in another way not as it is.
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    let all = headers.get_all(CONTENT_ENCODING).iter();
    let mut all = all.flat_map(|it| it.as_bytes().split(|byte| *byte == b','));
    all.any(|it| !it.trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// The headers of an answer that pass, without the values of the host's secrets. `keyed`: one of them was put into its
/// request.
pub(super) fn to_client(
    headers: &HeaderMap,
    (forms, keyed): (&Forms, bool),
    upgrades: bool,
) -> HeaderMap {
    let hop = Hop::of(headers);
    let mut passed = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        // Another way to the host would be one around Skep. A session that the key opened is as good as the key.
        let stays = *name == ALT_SVC || (*name == SET_COOKIE && keyed);
        if stays || *name == TRAILER || hop.has(name) {
            continue;
        }
        let shown = name.as_str().as_bytes();
        if !forms.is_empty() && forms.masked(shown) != shown {
            continue;
        }
        let value = match forms.is_empty() {
            true => value.clone(),
            false => {
                let masked = forms.masked(value.as_bytes());
                HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("*"))
            }
        };
        passed.append(name.clone(), value);
    }
    if upgrades {
        passed.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        passed.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        let pairs: Vec<(HeaderName, HeaderValue)> = all.iter().map(pair).collect();
        pairs.into_iter().collect()
    }

    #[test]
    fn nothing_of_the_connection_or_of_skep_leaves() {
        let passed = to_host(&headers(&[
            ("Authorization", "Bearer agents-own"),
            ("X-Token", "skep_token_abc.def"),
            ("X-Basic", "Basic YWdlbnQ6c2tlcF90b2tlbl9hYmM="),
            ("Skep-Call-Id", "call_1"),
            ("Proxy-Authorization", "Basic x"),
            ("Proxy-Connection", "keep-alive"),
            ("Connection", "close, X-Own"),
            ("X-Own", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "3"),
            ("Host", "a"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("X-Original-URL", "/admin"),
            ("X-Rewrite-Url", "/admin"),
            ("Accept", "*/*"),
        ]));
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization"]);
    }

    #[test]
    fn an_answer_that_is_coded_is_known_by_any_of_its_headers() {
        for (all, coded) in [
            (vec![], false),
            (vec![("Content-Encoding", "Identity")], false),
            (vec![("Content-Encoding", "identity, gzip")], true),
            (
                vec![("Content-Encoding", "identity"), ("Content-Encoding", "br")],
                true,
            ),
        ] {
            assert_eq!(is_coded(&headers(&all)), coded, "{all:?}");
        }
        let mut asked = headers(&[("Accept-Charset", "utf-16"), ("Range", "bytes=1-")]);
        readable(&mut asked);
        assert_eq!(asked.len(), 1, "{asked:?}");
    }

    #[test]
    fn an_answer_shows_no_value_and_opens_no_session() {
        let answer = headers(&[
            ("Set-Cookie", "a=b"),
            ("Location", "https://other.example/?key=sk-0123456789"),
            ("Alt-Svc", "h3=\":443\""),
            ("Content-Length", "3"),
        ]);
        let named = headers(&[("X-sk-0123456789", "1"), ("X-Other", "1")]);
        let forms = Forms::of(&[b"sk-0123456789"]);
        assert_eq!(to_client(&named, (&forms, true), false).len(), 1);
        let passed = to_client(&answer, (&forms, true), false);
        assert_eq!(passed.len(), 2, "{passed:?}");
        assert_eq!(
            passed["location"],
            "https://other.example/?key=*************"
        );
        let passed = to_client(&answer, (&Forms::default(), false), false);
        assert_eq!(passed.len(), 3, "{passed:?}");
    }
}
