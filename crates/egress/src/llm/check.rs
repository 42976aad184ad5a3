//! Whether a provider can be reached with its keys, and which models it has: asked when somebody wants to know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;
use skep_core::Workspace;
use tokio::time::Instant;

use super::headers;
use super::provider::{Door, Provider};
use super::service::Models;
use crate::EgressError;

/// How long a provider may take to say which models it has.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of that.
const MOST_ANSWER: usize = 4 << 20;
/// Models that are told, and letters of one's name.
const MOST_MODELS: usize = 1_000;
const MOST_NAME: usize = 200;

/// How it was with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCheck {
    /// The secret that holds it; none, when the provider wants no key.
    pub secret: Option<String>,
    /// What the provider answered.
    pub status: Option<u16>,
    /// Why there is no answer, or none that is of use.
    pub trouble: Option<&'static str>,
    /// Until its answer was there.
    pub took: Duration,
}

/// What a provider says that it has.
#[derive(Deserialize)]
struct Listed {
    /// As OpenAI and Anthropic tell it.
    #[serde(default)]
    data: Vec<Named>,
    /// As Google does.
    #[serde(default)]
    models: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
}

/// The names of models in an answer, without what could deceive who reads them.
fn names(bytes: &[u8]) -> Option<Vec<String>> {
    let Listed { data, models } = serde_json::from_slice(bytes).ok()?;
    let of_google = |it: &Named| it.name.trim_start_matches("models/").to_owned();
    let all = data.into_iter().map(|it| it.id);
    let all = all.chain(models.iter().map(of_google));
    let clean = |name: String| {
        let plain = name.chars().filter(char::is_ascii_graphic);
        plain.take(MOST_NAME).collect::<String>()
    };
    let mut all: Vec<String> = all.map(clean).filter(|it| !it.is_empty()).collect();
    all.sort();
    all.dedup();
    all.truncate(MOST_MODELS);
    Some(all)
}

/// Why a key is of no use, by what was answered to it.
const fn trouble(door: Door, status: u16) -> Option<&'static str> {
    match (status, door) {
        (200..300, _) => None,
        // Google says so of a request with a key that is none.
        (400, Door::Google) | (401 | 403, _) => Some("the provider does not take the key"),
        (404, _) => {
            Some("the provider has no list of models there: see whether its address is right")
        }
        (429, _) => Some("the provider says that the key has asked too often"),
        _ => Some("the provider does not say which models it has"),
    }
}

impl Models {
    /// Asks a provider for its models, once with each of its keys. It costs nothing.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn check(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(Vec<KeyCheck>, Vec<String>), EgressError> {
        let all = self.providers(workspace).await?;
        let found = all.iter().find(|it| it.name == name);
        let missing = || EgressError::NotFound(format!("there is no provider `{name}`"));
        let provider = found.ok_or_else(missing)?;
        let mut keys: Vec<Option<&String>> = provider.secrets.iter().map(Some).collect();
        if keys.is_empty() {
            keys.push(None);
        }
        let (mut checks, mut models) = (Vec::new(), Vec::new());
        for secret in keys {
            let (began, door) = (Instant::now(), provider.kind.door());
            let asked = self.list(workspace, provider, secret);
            let asked = tokio::time::timeout(PATIENCE, asked).await;
            let late = Err("it does not answer in time");
            let (status, trouble) = match asked.unwrap_or(late) {
                Ok((status, Some(names))) if trouble(door, status).is_none() => {
                    models.extend(names);
                    (Some(status), None)
                }
                Ok((status, _)) => {
                    let unread = Some("its answer is no list of models");
                    (Some(status), trouble(door, status).or(unread))
                }
                Err(why) => (None, Some(why)),
            };
            checks.push(KeyCheck {
                secret: secret.cloned(),
                status,
                trouble,
                took: began.elapsed(),
            });
        }
        models.sort();
        models.dedup();
        Ok((checks, models))
    }

    /// What the provider answers to one key: the status, and the models.
    async fn list(
        &self,
        workspace: &Workspace,
        provider: &Arc<Provider>,
        secret: Option<&String>,
    ) -> Result<(u16, Option<Vec<String>>), &'static str> {
        let path = match provider.kind.door() {
            Door::OpenAi | Door::Anthropic => "/v1/models",
            Door::Google => "/v1beta/models",
        };
        let mut headers = headers::elsewhere(provider.kind.door());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::GET;
        let address = provider.address(path, None);
        *request.uri_mut() = address.parse().map_err(|_| "its address is none")?;
        *request.headers_mut() = headers;
        if let Some(secret) = secret {
            let shown = self.show((workspace, secret), provider, (&mut request, b""));
            shown.await.map_err(|why| {
                tracing::info!(provider = provider.name, why, "a key cannot be shown");
                "its key cannot be had from the vault, or is none: the log says why"
            })?;
        }
        let answer = self.0.upstream.ask(request).await;
        let answer = answer.map_err(|(why, _)| {
            tracing::info!(provider = provider.name, why, "a provider cannot be asked");
            "it cannot be reached: the log says why"
        })?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MOST_ANSWER);
        let whole = body.collect().await.ok();
        let names = whole.and_then(|it| names(&it.to_bytes()));
        Ok((status, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_as_each_provider_lists_them() {
        for (text, expected) in [
            (
                r#"{"object":"list","data":[{"id":"b"},{"id":"a","name":"A"}]}"#,
                vec!["a", "b"],
            ),
            (
                r#"{"models":[{"name":"models/gemini-x"}]}"#,
                vec!["gemini-x"],
            ),
            (
                r#"{"data":[{"id":"a\u001b[31m"},{"id":""}]}"#,
                vec!["a[31m"],
            ),
            (r#"{}"#, vec![]),
        ] {
            assert_eq!(names(text.as_bytes()).unwrap(), expected, "{text}");
        }
        assert_eq!(names(b"<html>"), None);
    }
}
