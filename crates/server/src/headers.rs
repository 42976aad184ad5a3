//! Headers that every answer carries, and cross-origin requests.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_SECURITY_POLICY, HOST, ORIGIN,
    STRICT_TRANSPORT_SECURITY, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

const SECURITY: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Skep's own answers load nothing.
const OWN_POLICY: &str =
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// What an agent answers shares Skep's origin: a page of it runs in a box of its own.
const AGENT_POLICY: &str = "sandbox allow-scripts allow-forms; frame-ancestors 'none'";
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const HSTS: &str = "max-age=31536000";

/// Whether a request came to a name that others know this server by, and not to this machine's own or an
/// address: only of such a name it is promised for long that it speaks TLS.
pub(crate) fn is_named<B>(request: &Request<B>) -> bool {
    let of_uri = request.uri().authority().cloned();
    let of_host = || {
        let host = request.headers().get(HOST)?.to_str().ok()?;
        host.parse::<Authority>().ok()
    };
    of_uri.or_else(of_host).is_some_and(|authority| {
        let host = authority.host().to_ascii_lowercase();
        let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
        let is_local = host == "localhost" || host.ends_with(".localhost");
        !host.is_empty() && !is_address && !is_local
    })
}

/// Adds the headers of safety that the answer does not have yet. The content policy is added to
/// one of an agent's own, wherever its answer is read: a browser obeys both.
pub(crate) fn secure(headers: &mut HeaderMap, of_agent: bool, tls: bool) {
    for (name, value) in SECURITY {
        let name = HeaderName::from_static(name);
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    let policy = if of_agent { AGENT_POLICY } else { OWN_POLICY };
    headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    // What the browser keeps of this origin is not one agent's.
    headers.remove(CLEAR_SITE_DATA);
    if tls {
        headers
            .entry(STRICT_TRANSPORT_SECURITY)
            .or_insert(HeaderValue::from_static(HSTS));
    }
}

/// Which origins may ask from a browser.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors {
    pub(crate) origins: Vec<String>,
}

impl Cors {
    /// The origin that asks, when it may.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.origins
            .iter()
            .any(|allowed| allowed == text)
            .then(|| origin.clone())
    }

    /// The headers of the answer to a preflight request, when this is one.
    pub(crate) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
        if *method != Method::OPTIONS {
            return None;
        }
        let wanted = request.get(ACCESS_CONTROL_REQUEST_METHOD)?.clone();
        let origin = self.allowed(request)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, wanted);
        if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        Self::mark(&mut headers, origin);
        Some(headers)
    }

    /// Lets the origin read an answer.
    pub(crate) fn mark(headers: &mut HeaderMap, origin: HeaderValue) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(
                "skep-call-id, skep-request-id, idempotency-replayed, location, retry-after",
            ),
        );
        headers.insert(
            "cross-origin-resource-policy",
            HeaderValue::from_static("cross-origin"),
        );
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_its_own_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("x-frame-options", HeaderValue::from_static("SAMEORIGIN"));
        secure(&mut headers, true, true);
        assert_eq!(headers["x-frame-options"], "SAMEORIGIN");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["content-security-policy"], AGENT_POLICY);
        assert!(headers.contains_key("strict-transport-security"));
    }

    #[test]
    fn an_agent_cannot_loosen_the_policy() {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src *"),
        );
        headers.insert(CLEAR_SITE_DATA, HeaderValue::from_static("\"*\""));
        secure(&mut headers, true, false);
        let policies: Vec<_> = headers.get_all(CONTENT_SECURITY_POLICY).iter().collect();
        assert_eq!(policies, ["default-src *", AGENT_POLICY]);
        assert!(!headers.contains_key(CLEAR_SITE_DATA));
    }

    #[test]
    fn only_configured_origins_ask() {
        let cors = Cors {
            origins: vec!["https://ui.example".to_owned()],
        };
        let mut request = HeaderMap::new();
        request.insert(
            "access-control-request-method",
            HeaderValue::from_static("POST"),
        );
        request.insert("origin", HeaderValue::from_static("https://evil.example"));
        assert!(cors.preflight(&Method::OPTIONS, &request).is_none());
        request.insert("origin", HeaderValue::from_static("https://ui.example"));
        let answer = cors.preflight(&Method::OPTIONS, &request).unwrap();
        assert_eq!(answer["access-control-allow-origin"], "https://ui.example");
        assert!(cors.preflight(&Method::POST, &request).is_none());
        assert!(
            Cors::default()
                .preflight(&Method::OPTIONS, &request)
                .is_none()
        );
    }
}
