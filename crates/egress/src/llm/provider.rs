//! Providers: who answers for a model, where they are, and which secrets hold their keys.

use http::header::{AUTHORIZATION, HeaderName};
use serde::{Deserialize, Serialize};
use skep_dialects::Dialect;

use crate::EgressError;

/// Keys of one provider.
const MOST_KEYS: usize = 16;
/// Models, or patterns of models, of one provider.
const MOST_MODELS: usize = 500;
const MOST_NAME: usize = 64;
const MOST_TEXT: usize = 500;

/// What kind of provider it is: what it speaks, and how it wants its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// OpenAI.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini API.
    Google,
    /// OpenAI's API as a resource of Azure has it: `https://RESOURCE.openai.azure.com/openai/v1`.
    Azure,
    /// OpenAI's API as Amazon Bedrock has it in a region: `https://bedrock-runtime.REGION.amazonaws.com/openai/v1`.
    Bedrock,
    /// Mistral.
    Mistral,
    /// Groq.
    Groq,
    /// OpenRouter.
    OpenRouter,
    /// Whatever speaks as OpenAI does: vLLM, Ollama, llama.cpp, LM Studio.
    Compatible,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::Google,
        Self::Azure,
        Self::Bedrock,
        Self::Mistral,
        Self::Groq,
        Self::OpenRouter,
        Self::Compatible,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Google => "google",
            Self::Azure => "azure",
            Self::Bedrock => "bedrock",
            Self::Mistral => "mistral",
            Self::Groq => "groq",
            Self::OpenRouter => "openrouter",
            Self::Compatible => "compatible",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// Where it is, when it is in one place.
    const fn home(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Google => Some("https://generativelanguage.googleapis.com"),
            Self::Mistral => Some("https://api.mistral.ai/v1"),
            Self::Groq => Some("https://api.groq.com/openai/v1"),
            Self::OpenRouter => Some("https://openrouter.ai/api/v1"),
            Self::Azure | Self::Bedrock | Self::Compatible => None,
        }
    }

    /// Whether its models cost money. What runs at home does not.
    pub(crate) const fn is_priced(self) -> bool {
        !matches!(self, Self::Compatible)
    }

    /// The door that leads to it.
    #[must_use]
    pub const fn door(self) -> Door {
        match self {
            Self::Anthropic => Door::Anthropic,
            Self::Google => Door::Google,
            _ => Door::OpenAi,
        }
    }

    /// The header that its key goes into, and what stands before it there.
    pub(crate) const fn key_header(self) -> (HeaderName, &'static str) {
        match self {
            Self::Anthropic => (HeaderName::from_static("x-api-key"), ""),
            Self::Google => (HeaderName::from_static("x-goog-api-key"), ""),
            Self::Azure => (HeaderName::from_static("api-key"), ""),
            _ => (AUTHORIZATION, "Bearer "),
        }
    }
}

/// A door for the SDKs of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// Those that speak as OpenAI does.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Google's.
    Google,
}

impl Door {
    /// The word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Google => "google",
        }
    }
}

/// What a path behind a door asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A model works.
    Work {
        /// In which dialect.
        dialect: Dialect,
        /// The model, where the path has it.
        model: Option<String>,
    },
    /// Texts become vectors, by a model of the path.
    Embed {
        /// The model.
        model: Option<String>,
    },
    /// Tokens are counted; a model is named, and nothing is spent.
    Count {
        /// The model, where the path has it.
        model: Option<String>,
    },
    /// Which models there are.
    Models,
    /// What one model is.
    Model(String),
}

impl Wish {
    /// The same, with the name of a model as it is meant; nothing, when it cannot be read.
    pub(super) fn decoded(self, decode: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let name = |model: Option<String>| match model {
            Some(text) => decode(&text).map(Some),
            None => Some(None),
        };
        Some(match self {
            Self::Work { dialect, model } => Self::Work {
                dialect,
                model: name(model)?,
            },
            Self::Embed { model } => Self::Embed {
                model: name(model)?,
            },
            Self::Count { model } => Self::Count {
                model: name(model)?,
            },
            Self::Model(model) => Self::Model(decode(&model)?),
            Self::Models => Self::Models,
        })
    }
}

impl Door {
    /// What a path asks for, which begins behind the door's own; nothing, when the door has no such path.
    #[must_use]
    pub fn wish(self, path: &str) -> Option<Wish> {
        let work = |dialect| Wish::Work {
            dialect,
            model: None,
        };
        match self {
            Self::OpenAi => match path.strip_prefix("/v1")? {
                "/chat/completions" => Some(work(Dialect::Chat)),
                "/responses" => Some(work(Dialect::Responses)),
                "/embeddings" => Some(work(Dialect::Embeddings)),
                "/models" => Some(Wish::Models),
                other => {
                    let model = other.strip_prefix("/models/").filter(|it| !it.is_empty());
                    model.map(|it| Wish::Model(it.to_owned()))
                }
            },
            Self::Anthropic => match path.strip_prefix("/v1")? {
                "/messages" => Some(work(Dialect::Messages)),
                "/messages/count_tokens" => Some(Wish::Count { model: None }),
                "/models" => Some(Wish::Models),
                other => {
                    let model = other.strip_prefix("/models/").filter(|it| !it.is_empty());
                    model.map(|it| Wish::Model(it.to_owned()))
                }
            },
            Self::Google => Self::google(path),
        }
    }

    fn google(path: &str) -> Option<Wish> {
        let rest = path
            .strip_prefix("/v1beta/models")
            .or_else(|| path.strip_prefix("/v1/models"))?;
        if rest.is_empty() {
            return Some(Wish::Models);
        }
        let rest = rest.strip_prefix('/').filter(|it| !it.is_empty())?;
        let Some((model, verb)) = rest.rsplit_once(':') else {
            return Some(Wish::Model(rest.to_owned()));
        };
        let model = Some(model.to_owned());
        match verb {
            "generateContent" | "streamGenerateContent" => Some(Wish::Work {
                dialect: Dialect::Gemini,
                model,
            }),
            // What it is asked is in other places than `Dialect::Embeddings` looks, and it tells no usage.
            "embedContent" | "batchEmbedContents" => Some(Wish::Embed { model }),
            "countTokens" => Some(Wish::Count { model }),
            _ => None,
        }
    }
}

/// A provider of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name, of which there is one in a workspace.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// Where it is, without a slash at its end; the kind's own place when nothing is said.
    pub url: Option<String>,
    /// The names of the secrets that hold its keys; they take turns. None, for one that wants no key.
    pub secrets: Vec<String>,
    /// The models that it is asked for; `*` stands for any text. All, when there are none.
    pub models: Vec<String>,
}

/// A provider as its row has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    models: Vec<String>,
}

/// Whether a text is one that a pattern stands for: `*` is any text.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    true
}

/// Whether something of a workspace may have this name.
pub(super) fn check_name(name: &str) -> Result<(), EgressError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match name.is_empty() || name.len() > MOST_NAME || !name.chars().all(plain) {
        true => Err(EgressError::Invalid(
            "`name`: 1 to 64 of a-z, 0-9 and `-`".to_owned(),
        )),
        false => Ok(()),
    }
}

impl Provider {
    /// Whether all is as it may be.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], with the field.
    pub fn check(&self) -> Result<(), EgressError> {
        let wrong = |field: &str, why: &str| Err(EgressError::Invalid(format!("`{field}`: {why}")));
        check_name(&self.name)?;
        let is_text = |it: &String| {
            !it.is_empty() && it.len() <= MOST_TEXT && !it.chars().any(char::is_control)
        };
        if self.secrets.len() > MOST_KEYS || !self.secrets.iter().all(is_text) {
            return wrong("secrets", "the names of 16 secrets at most");
        }
        if self.models.len() > MOST_MODELS || !self.models.iter().all(is_text) {
            return wrong("models", "500 names at most");
        }
        if self.secrets.is_empty() && self.kind != Kind::Compatible {
            return wrong(
                "secrets",
                "this kind of provider wants a key: name the secret that holds it",
            );
        }
        let Some(url) = &self.url else {
            return match self.kind {
                Kind::Azure => wrong(
                    "url",
                    "say which resource it is: `https://RESOURCE.openai.azure.com/openai/v1`",
                ),
                Kind::Bedrock => wrong(
                    "url",
                    "say in which region it is: `https://bedrock-runtime.REGION.amazonaws.com/openai/v1`",
                ),
                Kind::Compatible => wrong(
                    "url",
                    "say where it is, such as `http://127.0.0.1:11434/v1`",
                ),
                _ => Ok(()),
            };
        };
        let parsed: Option<http::Uri> = url.parse().ok();
        let Some(uri) = parsed.filter(|it| it.authority().is_some()) else {
            return wrong("url", "it is no URL such as `https://host/v1`");
        };
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() {
            return wrong(
                "url",
                "it begins with `https://` or `http://` and has no query",
            );
        }
        if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return wrong(
                "url",
                "a name or a password stands in it: name a secret instead",
            );
        }
        if url.ends_with('/') || url.len() > MOST_TEXT {
            return wrong("url", "it has 500 characters at most and no `/` at its end");
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn base(&self) -> &str {
        let given = self.url.as_deref();
        given.or(self.kind.home()).unwrap_or_default()
    }

    /// Where a path behind its door is with it.
    pub(crate) fn address(&self, path: &str, query: Option<&str>) -> String {
        let path = match self.kind.door() {
            // Their base has the version.
            Door::OpenAi => path.strip_prefix("/v1").unwrap_or(path),
            Door::Anthropic | Door::Google => path,
        };
        let query = query.map(|it| format!("?{it}")).unwrap_or_default();
        format!("{}{path}{query}", self.base())
    }

    /// Whether it is asked for a model.
    #[must_use]
    pub fn has(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| fits(pattern, model))
    }

    /// Whether it names a model, itself or by a pattern.
    #[must_use]
    pub fn names(&self, model: &str) -> bool {
        !self.models.is_empty() && self.has(model)
    }

    pub(crate) fn to_text(&self) -> String {
        let Self {
            kind,
            url,
            secrets,
            models,
            ..
        } = self.clone();
        let stored = Stored {
            kind,
            url,
            secrets,
            models,
        };
        // Texts alone: it cannot fail.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    pub(crate) fn from_text(name: &str, text: &str) -> Result<Self, serde_json::Error> {
        let Stored {
            kind,
            url,
            secrets,
            models,
        } = serde_json::from_str(text)?;
        let name = name.to_owned();
        Ok(Self {
            name,
            kind,
            url,
            secrets,
            models,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(kind: Kind) -> Provider {
        Provider {
            name: "mine".to_owned(),
            kind,
            url: None,
            secrets: vec!["key".to_owned()],
            models: Vec::new(),
        }
    }

    #[test]
    fn a_provider_that_is_wrong_says_where() {
        let good = provider(Kind::OpenAi);
        good.check().unwrap();
        for (field, wrong) in [
            (
                "name",
                Provider {
                    name: "Mine".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "secrets",
                Provider {
                    secrets: Vec::new(),
                    ..good.clone()
                },
            ),
            ("url", provider(Kind::Compatible)),
            (
                "url",
                Provider {
                    url: Some("ftp://x".to_owned()),
                    ..good.clone()
                },
            ),
            (
                "url",
                Provider {
                    url: Some("https://ada:canary@x/v1".to_owned()),
                    ..good.clone()
                },
            ),
            (
                "url",
                Provider {
                    url: Some("https://x/v1/".to_owned()),
                    ..good.clone()
                },
            ),
            (
                "models",
                Provider {
                    models: vec![String::new()],
                    ..good.clone()
                },
            ),
        ] {
            let told = wrong.check().unwrap_err().to_string();
            assert!(told.starts_with(&format!("`{field}`")), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
        let text = good.to_text();
        assert_eq!(Provider::from_text("mine", &text).unwrap(), good);
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
            let stored = serde_json::to_string(&kind).unwrap();
            assert_eq!(stored, format!("\"{}\"", kind.as_str()));
        }
    }

    #[test]
    fn models_are_named_by_patterns() {
        let named = Provider {
            models: ["gpt-4o", "o*-mini", "*/llama-*"]
                .map(str::to_owned)
                .to_vec(),
            ..provider(Kind::OpenAi)
        };
        for (model, has) in [
            ("gpt-4o", true),
            ("gpt-4o-mini", false),
            ("o3-mini", true),
            ("o-min", false),
            ("meta/llama-3", true),
            ("llama-3", false),
        ] {
            assert_eq!(named.has(model), has, "{model}");
        }
        assert!(
            provider(Kind::OpenAi).has("anything") && !provider(Kind::OpenAi).names("anything")
        );
    }

    #[test]
    fn a_path_is_a_wish_and_has_a_place_with_the_provider() {
        let work = |dialect, model: Option<&str>| Wish::Work {
            dialect,
            model: model.map(str::to_owned),
        };
        for (kind, path, wish, address) in [
            (
                Kind::OpenAi,
                "/v1/chat/completions",
                work(Dialect::Chat, None),
                "https://api.openai.com/v1/chat/completions?a=b",
            ),
            (
                Kind::OpenAi,
                "/v1/models/gpt-4o",
                Wish::Model("gpt-4o".to_owned()),
                "https://api.openai.com/v1/models/gpt-4o?a=b",
            ),
            (
                Kind::Groq,
                "/v1/embeddings",
                work(Dialect::Embeddings, None),
                "https://api.groq.com/openai/v1/embeddings?a=b",
            ),
            (
                Kind::Anthropic,
                "/v1/messages",
                work(Dialect::Messages, None),
                "https://api.anthropic.com/v1/messages?a=b",
            ),
            (
                Kind::Anthropic,
                "/v1/messages/count_tokens",
                Wish::Count { model: None },
                "https://api.anthropic.com/v1/messages/count_tokens?a=b",
            ),
            (
                Kind::Google,
                "/v1beta/models/gemini-2.5:streamGenerateContent",
                work(Dialect::Gemini, Some("gemini-2.5")),
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5:streamGenerateContent?a=b",
            ),
        ] {
            assert_eq!(kind.door().wish(path), Some(wish), "{path}");
            assert_eq!(provider(kind).address(path, Some("a=b")), address);
        }
        for (door, path) in [
            (Door::OpenAi, "/v1/files"),
            (Door::OpenAi, "/chat/completions"),
            (Door::OpenAi, "/v1/models/"),
            (Door::Anthropic, "/v1/organizations"),
            (Door::Google, "/v1beta/models/x:tuneModel"),
            (Door::Google, "/v1beta/files"),
        ] {
            assert_eq!(door.wish(path), None, "{path}");
        }
    }
}
