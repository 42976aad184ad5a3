//! Web APIs that do not speak the protocol, and Skep itself: what is asked of such a server is answered here, in its place, and
//! a call of a tool becomes a request to the API. To everything else it is one more server over HTTP, without sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, USER_AGENT,
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use skep_core::Workspace;
use skep_mcp::{
    Api, Asked, Era, HEADER_VERSION, Kind, LEGACY, MODERN, Message, Object, Settings, Transport,
    code, error, reply, strict,
};
use zeroize::Zeroizing;

use super::chain::Steps;
use super::client::MOST_ANSWER;
use super::door::DoorError;
use super::link::{CUT, Coming, LATE, LONG, Sending, filled_all, forms};
use super::merged::{complete, listed, must_say};
use super::service::Inner;
use crate::EgressError;

/// Who is called, and for whom.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) settings: &'a Settings,
    /// By which Skep itself is asked.
    pub(super) own: Option<&'a dyn Steps>,
}

/// What a server says that has another version or another header than this one.
fn refusal(id: Option<&str>, error_of: DoorError) -> Coming {
    let DoorError::Refused(refused) = error_of else {
        let text = error(id, code::INTERNAL, "it cannot be answered", None);
        return Coming::of(StatusCode::INTERNAL_SERVER_ERROR, text);
    };
    let speaks = |asked: String| {
        let all: Vec<&str> = MODERN.iter().chain(&LEGACY).copied().collect();
        json!({ "supported": all, "requested": asked })
    };
    let data = refused.asked.map(speaks);
    let text = error(id, refused.code, &refused.why, data.as_ref());
    Coming::of(refused.status, text)
}

/// What it says of itself, in place of the API.
fn hello(api: &Api, era: Era, asked: &str) -> String {
    let info = json!({ "name": api.title, "version": api.version });
    let capabilities = json!({ "tools": {} });
    match era {
        Era::Legacy => {
            let spoken = LEGACY.iter().find(|it| **it == asked).unwrap_or(&LEGACY[0]);
            json!({ "protocolVersion": spoken, "capabilities": capabilities, "serverInfo": info })
        }
        Era::Modern => json!({
            "resultType": "complete", "supportedVersions": MODERN.iter().chain(&LEGACY).collect::<Vec<_>>(),
            "capabilities": capabilities, "ttlMs": 0, "cacheScope": "private",
            "_meta": { "io.modelcontextprotocol/serverInfo": info },
        }),
    }
    .to_string()
}

/// A result that says what is wrong: who called may call again, in another way.
fn failed(why: &str) -> String {
    json!({ "content": [{ "type": "text", "text": why }], "isError": true }).to_string()
}

/// The result that an answer of the API is.
fn result(status: StatusCode, kind: Option<&HeaderValue>, body: &[u8]) -> String {
    let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let word = kind.split(';').next().unwrap_or_default().trim();
    let is_json = word.eq_ignore_ascii_case("application/json")
        || word.to_ascii_lowercase().ends_with("+json");
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|it| !it.contains('\0'));
    let shown = match text {
        Some(text) if !text.is_empty() => text.to_owned(),
        Some(_) => format!("HTTP {status}"),
        None => format!(
            "HTTP {status}, with {} bytes of {word:?}, which are not shown",
            body.len()
        ),
    };
    if !status.is_success() {
        return failed(&match shown.starts_with("HTTP ") {
            true => shown,
            false => format!("HTTP {status}\n{shown}"),
        });
    }
    let content = json!([{ "type": "text", "text": shown }]).to_string();
    // What has one meaning alone: whoever reads it again reads the same.
    let structured = text.filter(|it| is_json && strict(it).is_ok());
    match structured.map(|it| (it, Object::parse(it).is_some())) {
        None => format!(r#"{{"content":{content}}}"#),
        Some((it, true)) => format!(r#"{{"content":{content},"structuredContent":{it}}}"#),
        Some((it, false)) => {
            format!(r#"{{"content":{content},"structuredContent":{{"result":{it}}}}}"#)
        }
    }
}

/// Reads an answer whole; or says how it ended, and why.
async fn whole(body: Incoming, patience: Duration) -> Result<Bytes, (&'static str, &'static str)> {
    let read = tokio::time::timeout(patience, Limited::new(body, MOST_ANSWER).collect()).await;
    match read {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err((LONG, "it answers with more than 8 MiB"))
        }
        Ok(Err(_)) => Err((CUT, "it cut its answer")),
        Err(_) => Err((LATE, "its answer does not end in time")),
    }
}

/// The headers of a request, but those of the settings.
fn headers(asked: &Asked) -> Option<HeaderMap> {
    let mut all = HeaderMap::new();
    let json = HeaderValue::from_static("application/json, text/*;q=0.8, */*;q=0.1");
    all.insert(ACCEPT, json);
    all.insert(USER_AGENT, HeaderValue::from_static("skep"));
    for (name, value) in &asked.headers {
        let name = HeaderName::try_from(name).ok()?;
        all.insert(name, HeaderValue::try_from(value).ok()?);
    }
    if let Some((kind, _)) = &asked.body {
        all.insert(CONTENT_TYPE, HeaderValue::try_from(kind).ok()?);
    }
    all.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Some(all)
}

impl Inner {
    /// Answers a message in place of a web API.
    pub(super) async fn ask_api(&self, sending: Sending<'_>) -> Result<Coming, EgressError> {
        let settings = sending.settings;
        let why = |why: &str| Self::unreachable(settings, why);
        let api = match settings.api() {
            Some(Ok(api)) => api,
            Some(Err(it)) => return Err(why(it)),
            None => return Err(why("it is no web API")),
        };
        if sending.method != Method::POST {
            let mut coming = Coming::accepted();
            coming.status = StatusCode::METHOD_NOT_ALLOWED;
            coming
                .headers
                .insert(ALLOW, HeaderValue::from_static("POST"));
            return Ok(coming);
        }
        let text = std::str::from_utf8(&sending.body).unwrap_or_default();
        let message = match Message::of_client(text) {
            Ok(message) => message,
            Err(fault) => {
                let text = error(None, fault.code, &fault.why, None);
                return Ok(Coming::of(StatusCode::BAD_REQUEST, text));
            }
        };
        let Kind::Request { id, method } = &message.kind else {
            return Ok(Coming::accepted());
        };
        let (id, params) = (id.get(), message.params.as_ref());
        let version = sending.headers.get(HEADER_VERSION);
        let era = Era::of(params, version.and_then(|it| it.to_str().ok()));
        if era == Era::Modern
            && let Err(wrong) = must_say(&sending.headers)
        {
            return Ok(refusal(Some(id), wrong));
        }
        let result = match (method.as_str(), era) {
            ("initialize", Era::Legacy) => {
                let asked = params.and_then(|it| it.text("protocolVersion"));
                hello(api, era, &asked.unwrap_or_default())
            }
            ("server/discover", Era::Modern) => hello(api, era, ""),
            ("ping", Era::Legacy) => "{}".to_owned(),
            ("tools/list", _) => {
                let all = api.operations.iter().map(|it| it.definition.clone());
                listed(era, "tools", &all.collect::<Vec<_>>())
            }
            ("tools/call", _) => {
                let to = To {
                    workspace: sending.workspace,
                    settings,
                    own: sending.own,
                };
                complete(era, self.call_api(to, params).await?)
            }
            _ => {
                let status = match era {
                    Era::Modern => StatusCode::NOT_FOUND,
                    Era::Legacy => StatusCode::OK,
                };
                let text = error(Some(id), code::METHOD, "there is no such method", None);
                return Ok(Coming::of(status, text));
            }
        };
        Ok(Coming::of(StatusCode::OK, reply(id, &result)))
    }

    /// Calls a tool of a web API, or of Skep itself. What does not fit is said in the result.
    pub(super) async fn call_api(
        &self,
        to: To<'_>,
        params: Option<&Object<'_>>,
    ) -> Result<String, EgressError> {
        let name = params.and_then(|it| it.text("name")).unwrap_or_default();
        let api = to.settings.api().and_then(Result::ok);
        let Some(operation) = api.and_then(|it| it.operation(&name)) else {
            return Ok(failed("there is no such tool"));
        };
        let given = params.and_then(|it| it.get("arguments"));
        let given = given.map_or(Ok(Value::Object(Map::new())), |it| strict(it.get()));
        let Ok(Value::Object(given)) = given else {
            return Ok(failed("`arguments` is no object, or has a name twice"));
        };
        let asked = match operation.asked(&given) {
            Ok(asked) => asked,
            Err(why) => return Ok(failed(&why)),
        };
        match &to.settings.transport {
            Transport::OpenApi { url, headers, .. } => {
                self.ask_web(to, (url, headers), asked).await
            }
            _ => ask_own(to, asked).await,
        }
    }

    /// Asks a web API.
    async fn ask_web(
        &self,
        to: To<'_>,
        (url, own): (&str, &BTreeMap<String, skep_mcp::Value>),
        asked: Asked,
    ) -> Result<String, EgressError> {
        let settings = to.settings;
        let why = |why: &str| Self::unreachable(settings, why);
        let mut all = headers(&asked).ok_or_else(|| why("a header of the request"))?;
        let mut secrets: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        let of = (to.workspace, settings);
        filled_all(self, of, own, (&mut all, &mut secrets)).await?;
        let method = Method::from_bytes(asked.method.to_ascii_uppercase().as_bytes());
        let method = method.map_err(|_| why("the method of the request"))?;
        let uri = format!("{}{}", url.trim_end_matches('/'), asked.target);
        let body = asked.body.map(|(_, text)| text).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(its) = request.headers_mut() {
            *its = all;
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| why(&error.to_string()))?;
        let answer = self.answer_of(settings, request).await?;
        let (head, body) = answer.into_parts();
        if head.status.is_redirection() {
            let status = head.status;
            return Ok(failed(&format!(
                "HTTP {status}: a redirection, which is not followed"
            )));
        }
        let encoding = head.headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let why = "it answers in an encoding that nobody asked for";
            return Err(Self::failed(settings, "encoded", why));
        }
        let body = whole(body, settings.timeout).await;
        let body = body.map_err(|(outcome, why)| Self::failed(settings, outcome, why))?;
        let forms = forms(&secrets);
        // What it says that its answer is may say a secret as well as the answer.
        let kind = head.headers.get(CONTENT_TYPE);
        let kind = kind.map(|it| HeaderValue::from_bytes(&forms.masked(it.as_bytes())));
        let kind = kind.and_then(Result::ok);
        Ok(result(head.status, kind.as_ref(), &forms.masked(&body)))
    }
}

/// Asks Skep itself, as who asks.
async fn ask_own(to: To<'_>, asked: Asked) -> Result<String, EgressError> {
    let settings = to.settings;
    let own = to
        .own
        .ok_or_else(|| Inner::unreachable(settings, "nobody asks"))?;
    let answer = tokio::time::timeout(settings.timeout, own.own(asked)).await;
    let answer = answer.map_err(|_| Inner::failed(settings, LATE, "no answer in time"))?;
    let own = answer.map_err(|why| Inner::failed(settings, CUT, why))?;
    Ok(result(own.status, own.kind.as_ref(), &own.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, kind: &str, body: &[u8]) -> Value {
        let kind = HeaderValue::try_from(kind).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        serde_json::from_str(&result(status, Some(&kind), body)).unwrap()
    }

    #[test]
    fn an_answer_is_what_its_status_and_its_kind_say() {
        let json = "application/json; charset=utf-8";
        let pet = read(200, json, br#"{"a": 1}"#);
        assert_eq!(pet["structuredContent"], json!({ "a": 1 }));
        assert_eq!(pet["content"][0]["text"], r#"{"a": 1}"#);
        assert_eq!(
            read(200, json, b"[1]")["structuredContent"],
            json!({ "result": [1] })
        );
        for (status, kind, body, text, is_error) in [
            (200, "text/plain", &b"{}"[..], "{}", false),
            (200, json, b"{", "{", false),
            (200, json, br#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#, false),
            (204, "", b"", "HTTP 204 No Content", false),
            (
                200,
                "image/png",
                b"\xff\0",
                "HTTP 200 OK, with 2 bytes of \"image/png\", which are not shown",
                false,
            ),
            (404, json, b"{}", "HTTP 404 Not Found\n{}", true),
            (500, "", b"", "HTTP 500 Internal Server Error", true),
        ] {
            let said = read(status, kind, body);
            assert_eq!(said["content"][0]["text"], text);
            assert_eq!(said["isError"] == true, is_error, "{said}");
            assert!(said.get("structuredContent").is_none(), "{said}");
        }
    }
}
