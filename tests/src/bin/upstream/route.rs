//! Which dialect a request is in, and what it wants.

use http::Method;
use http::request::Parts;

use super::script::decode;

/// Whose way of speaking it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Google,
}

impl Dialect {
    /// What it calls JSON.
    pub(crate) fn json(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "application/json",
            Self::Google => "application/json; charset=UTF-8",
        }
    }
}

/// What is wanted; Google has the model in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Chat,
    Responses,
    Embeddings,
    Messages,
    CountTokens,
    Generate(String),
    Stream { model: String, array: bool },
    Count(String),
    Embed { model: String, batch: bool },
    Models(Option<String>),
    Unknown,
}

impl Route {
    /// The model, where the path has it.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Generate(model) | Self::Count(model) | Self::Models(Some(model)) => Some(model),
            Self::Stream { model, .. } | Self::Embed { model, .. } => Some(model),
            _ => None,
        }
    }

    /// Whether the body has it.
    pub(crate) fn names_in_body(&self) -> bool {
        self.model().is_none()
    }

    /// Whether its answer is a list that comes in parts.
    pub(crate) fn is_array(&self) -> bool {
        matches!(self, Self::Stream { array: true, .. })
    }
}

/// Whose request for models it is, where all three have the same path.
fn whose(head: &Parts) -> Dialect {
    let query = head.uri.query().unwrap_or_default();
    let keyed = query.split('&').any(|pair| pair.starts_with("key="));
    if head.headers.contains_key("anthropic-version") {
        Dialect::Anthropic
    } else if keyed || head.headers.contains_key("x-goog-api-key") {
        Dialect::Google
    } else {
        Dialect::OpenAi
    }
}

/// What a request is for. Google has two versions: its SDK for Python asks the first, that for Node.js the second.
pub(crate) fn find(head: &Parts) -> (Dialect, Route) {
    let path = head.uri.path();
    // Groq and Azure have OpenAI's paths below this.
    let path = path.strip_prefix("/openai").unwrap_or(path);
    if let Some(rest) = path.strip_prefix("/v1beta/models") {
        return (Dialect::Google, google(head, rest));
    }
    let post = head.method == Method::POST;
    match path {
        "/v1/chat/completions" if post => (Dialect::OpenAi, Route::Chat),
        "/v1/responses" if post => (Dialect::OpenAi, Route::Responses),
        "/v1/embeddings" if post => (Dialect::OpenAi, Route::Embeddings),
        "/v1/messages" if post => (Dialect::Anthropic, Route::Messages),
        "/v1/messages/count_tokens" if post => (Dialect::Anthropic, Route::CountTokens),
        _ => match path.strip_prefix("/v1/models") {
            Some(rest) if post => (Dialect::Google, google(head, rest)),
            Some(rest) if head.method == Method::GET => (whose(head), models(rest)),
            _ if path.starts_with("/v1beta") => (Dialect::Google, Route::Unknown),
            _ => (whose(head), Route::Unknown),
        },
    }
}

/// All models, or the one that is named.
fn models(rest: &str) -> Route {
    match rest.strip_prefix('/') {
        _ if rest.is_empty() => Route::Models(None),
        Some(id) if !id.is_empty() => Route::Models(Some(decode(id))),
        _ => Route::Unknown,
    }
}

fn google(head: &Parts, rest: &str) -> Route {
    if head.method == Method::GET {
        return models(rest);
    }
    let named = rest.strip_prefix('/').and_then(|it| it.rsplit_once(':'));
    let Some((model, verb)) = named.filter(|_| head.method == Method::POST) else {
        return Route::Unknown;
    };
    let model = decode(model);
    let query = head.uri.query().unwrap_or_default();
    match verb {
        "generateContent" => Route::Generate(model),
        "streamGenerateContent" => Route::Stream {
            model,
            array: !query.split('&').any(|pair| pair == "alt=sse"),
        },
        "countTokens" => Route::Count(model),
        "embedContent" => Route::Embed {
            model,
            batch: false,
        },
        "batchEmbedContents" => Route::Embed { model, batch: true },
        _ => Route::Unknown,
    }
}
