//! What some SDKs and frameworks say in another way at the doors to models: a key in a header of its provider's, a path
//! without its version. It is put in the way of all others before anybody looks at it.

use http::{HeaderName, Request, Uri};

/// The door to which messages go as Anthropic reads them.
const ANTHROPIC: &str = "/llm/anthropic/";
/// The header in which Anthropic's clients show their key, unless they show it as a bearer's.
const ANTHROPIC_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Where this server finds who asks.
const OWN_KEY: HeaderName = HeaderName::from_static(skep_api::HEADER_API_KEY);
/// What the AI SDK asks for below its base, which has the version in it elsewhere.
const WITHOUT_VERSION: [&str; 2] = ["messages", "models"];

/// Puts it right.
pub(crate) fn mend<B>(request: &mut Request<B>) {
    if !request.uri().path().starts_with(ANTHROPIC) {
        return;
    }
    if let Some(mut key) = request.headers_mut().remove(ANTHROPIC_KEY)
        && !request.headers().contains_key(OWN_KEY)
    {
        key.set_sensitive(true);
        request.headers_mut().insert(OWN_KEY, key);
    }
    if let Some(uri) = with_version(request.uri()) {
        *request.uri_mut() = uri;
    }
}

/// The same with the version; nothing, when it has one.
fn with_version(uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix(ANTHROPIC)?;
    let first = rest.split('/').next()?;
    if !WITHOUT_VERSION.contains(&first) {
        return None;
    }
    let query = uri.query().map(|it| format!("?{it}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{ANTHROPIC}v1/{rest}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        mend(&mut request);
        request
    }

    #[test]
    fn a_path_gets_its_version_once() {
        for (before, after) in [
            ("/llm/anthropic/messages", "/llm/anthropic/v1/messages"),
            (
                "/llm/anthropic/messages/count_tokens?beta=true",
                "/llm/anthropic/v1/messages/count_tokens?beta=true",
            ),
            ("/llm/anthropic/v1/messages", "/llm/anthropic/v1/messages"),
            ("/llm/anthropic/messagesx", "/llm/anthropic/messagesx"),
            ("/llm/openai/messages", "/llm/openai/messages"),
            (
                "/agents/a/llm/anthropic/messages",
                "/agents/a/llm/anthropic/messages",
            ),
        ] {
            assert_eq!(mended(before, &[]).uri().to_string(), after);
        }
    }

    #[test]
    fn a_key_of_anthropics_header_is_read_at_its_door_alone() {
        let key = [("x-api-key", "skep_1")];
        let there = mended("/llm/anthropic/v1/messages", &key);
        assert_eq!(there.headers()["skep-api-key"], "skep_1");
        assert!(!there.headers().contains_key("x-api-key"));
        let elsewhere = mended("/agents/a/x", &key);
        assert!(!elsewhere.headers().contains_key("skep-api-key"));
        // Our own says more.
        let both = [("x-api-key", "other"), ("skep-api-key", "skep_1")];
        let both = mended("/llm/anthropic/v1/messages", &both);
        assert_eq!(both.headers()["skep-api-key"], "skep_1");
    }
}
