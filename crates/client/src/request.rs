//! What is asked for: a call to an agent, and the queries of lists and logs.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use skep_api::CallState;

use crate::{ClientError, RequestBody};

/// A request to an agent.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// The agent's name.
    pub agent: String,
    /// The HTTP method.
    pub method: Method,
    /// Path and query as the agent shall see them.
    pub target: String,
    /// The headers, for the agent and for Skep (`Prefer`, `Idempotency-Key`).
    pub headers: HeaderMap,
    /// The body.
    pub body: RequestBody,
}

impl CallRequest {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, agent: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            agent: agent.into(),
            method,
            target: target.into(),
            headers: HeaderMap::new(),
            body: RequestBody::default(),
        }
    }

    /// A POST of JSON.
    #[must_use]
    pub fn post(
        agent: impl Into<String>,
        target: impl Into<String>,
        json: impl Into<Bytes>,
    ) -> Self {
        let mut request = Self::new(Method::POST, agent, target);
        let kind = HeaderValue::from_static("application/json");
        request.headers.insert(http::header::CONTENT_TYPE, kind);
        request.body = RequestBody::Bytes(json.into());
        request
    }

    /// The same key gets the same answer, however often the request is sent.
    ///
    /// # Errors
    /// [`ClientError::Request`] when the key is not visible ASCII.
    pub fn idempotency_key(mut self, key: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(key).map_err(|_| {
            ClientError::Request("an idempotency key is made of visible ASCII characters".into())
        })?;
        let name = HeaderName::from_static(skep_api::HEADER_IDEMPOTENCY_KEY);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Asks for an answer as soon as the call is durable, instead of the agent's.
    #[must_use]
    pub fn respond_async(mut self) -> Self {
        let value = HeaderValue::from_static("respond-async");
        self.headers.insert("prefer", value);
        self
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Default)]
pub struct PageQuery {
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 1000; the server's default is 100.
    pub limit: Option<u32>,
}

/// Which calls.
#[derive(Debug, Clone, Default)]
pub struct CallsQuery {
    /// Only this agent's.
    pub agent: Option<String>,
    /// Only those in this state.
    pub state: Option<CallState>,
    /// Which page.
    pub page: PageQuery,
}

/// Which lines of a log.
#[derive(Debug, Clone, Default)]
pub struct LogsQuery {
    /// Go on with new lines as they come.
    pub follow: bool,
    /// Lines from this time on: RFC 3339, or a duration back from now.
    pub since: Option<String>,
    /// The last lines only.
    pub tail: Option<u32>,
    /// Lines that contain this text.
    pub filter: Option<String>,
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventsQuery {
    /// Only this agent's.
    pub agent: Option<String>,
    /// Only those of this type, or whose type begins so.
    pub kind: Option<String>,
    /// Those from this time on: RFC 3339, or a duration back from now.
    pub since: Option<String>,
    /// Which page; a stream begins behind its cursor.
    pub page: PageQuery,
}

/// A query string that is being written.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn with(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encode(&value.to_string()));
        }
        self
    }

    pub(crate) fn page(self, page: &PageQuery) -> Self {
        self.with("cursor", page.cursor.as_deref())
            .with("limit", page.limit)
    }

    pub(crate) fn calls(query: &CallsQuery) -> Self {
        Self::default()
            .with("agent", query.agent.as_deref())
            .with("state", query.state.map(CallState::as_str))
            .page(&query.page)
    }

    pub(crate) fn logs(query: &LogsQuery) -> Self {
        Self::default()
            .with("follow", query.follow.then_some("true"))
            .with("since", query.since.as_deref())
            .with("tail", query.tail)
            .with("filter", query.filter.as_deref())
    }

    pub(crate) fn events(query: &EventsQuery) -> Self {
        Self::default()
            .with("agent", query.agent.as_deref())
            .with("type", query.kind.as_deref())
            .with("since", query.since.as_deref())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text as one segment of a path or one value of a query (RFC 3986 section 2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_hold_what_is_given_and_nothing_else() {
        let query = CallsQuery {
            agent: Some("a b&c".into()),
            state: Some(CallState::Dead),
            page: PageQuery {
                cursor: None,
                limit: Some(5),
            },
        };
        assert_eq!(
            Query::calls(&query).as_str(),
            "?agent=a%20b%26c&state=dead&limit=5"
        );
        assert_eq!(Query::logs(&LogsQuery::default()).as_str(), "");
        assert_eq!(encode("../é"), "..%2F%C3%A9");
    }
}
