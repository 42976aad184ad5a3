//! What is asked of a model, read before anything is decided: which model, and which providers could answer. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::value::RawValue;
use skep_dialects::{Dialect, Glance, Usage, glance, with_temperature};

use super::books::Amount;
use super::personal::Masked;
use super::preferences::Preferences;
use super::prices::Price;
use super::prompts::ALIAS;
use super::provider::{Door, Kind, Provider, Wish};
use super::route::{Leg, Route};
use crate::EgressError;

/// Tokens of all answers to a request.
const MOST_TOKENS: u64 = 10_000_000;
/// What stands for the model that its sender prefers.
const DEFAULT: &str = "default";
/// Bytes of a model's name.
const MOST_NAME: usize = 300;
/// Tokens that a picture or a file may have.
const OF_MEDIA: u64 = 2_000;
/// Tokens of what a provider adds to a prompt.
const OF_FRAME: u64 = 64;
/// Bytes of text that are one token: in an estimate, and in what is set aside.
const BYTES: u64 = 4;
const FEWEST_BYTES: u64 = 2;

/// Who could answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The model, as it calls it.
    pub model: String,
    /// How often it is asked first, beside the others of a weighted route.
    pub weight: u32,
}

impl Target {
    /// How policies and budgets name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider.name, self.model)
    }
}

/// A request that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The model that was asked for; none, when the question is which there are.
    pub asked: Option<String>,
    /// Who could answer, in their order.
    pub targets: Vec<Target>,
    /// The route that was asked for.
    pub(super) route: Option<Arc<Route>>,
    pub(super) door: Door,
    pub(super) wish: Wish,
    pub(super) dialect: Dialect,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) glance: Glance,
    pub(super) body_bytes: u64,
    /// What its sender prefers.
    pub(super) preferences: Preferences,
    /// The version of the prompt that it was made with, as `name@3`, if one was asked for.
    pub(super) prompt: String,
    /// What is asked instead of what came in.
    pub(super) body: Option<Bytes>,
    /// What goes out without what is personal.
    pub(super) masked: Option<Masked>,
}

/// What passes of a query of Google's: nothing that hides what was used, or makes an answer unreadable.
const OF_GOOGLE: [&str; 4] = ["alt=sse", "alt=json", "pageSize=", "pageToken="];

/// The query that a provider gets.
fn passing(door: Door, query: &str) -> Option<String> {
    let passes =
        |it: &&str| door != Door::Google || OF_GOOGLE.iter().any(|known| it.starts_with(known));
    let kept: Vec<&str> = query.split('&').filter(passes).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// The characters of a path as they are meant.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A model's name in a path: it says nothing there but itself. `/` stays one where names have it.
fn encoded(model: &str, slashes: bool) -> String {
    let mut text = String::with_capacity(model.len());
    for byte in model.bytes() {
        match byte {
            b'/' if slashes => text.push('/'),
            _ if byte.is_ascii_alphanumeric() || b"-._~+=@,".contains(&byte) => {
                text.push(char::from(byte));
            }
            b':' if slashes => text.push(':'),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// Whether a name leads nowhere else in a path.
fn is_plain(model: &str) -> bool {
    let mut segments = model.split('/');
    !model.chars().any(char::is_control) && segments.all(|it| !matches!(it, "" | "." | ".."))
}

/// Which of these fields of a body is set, to something else than `null` or `false`.
fn set_field(body: &[u8], fields: &[&'static str]) -> Option<&'static str> {
    let all: BTreeMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
    let is_set = |name: &&&'static str| {
        all.get(**name)
            .is_some_and(|it| !matches!(it.get(), "null" | "false"))
    };
    fields.iter().find(is_set).copied()
}

/// Fields by which `OpenRouter` answers with other models, or does more, than was decided on.
const OF_OPENROUTER: [&str; 4] = ["models", "route", "preset", "plugins"];

/// Fields by which a provider goes on with what it remembers.
const OF_STATE: [&str; 3] = ["conversation", "container", "background"];

/// The providers that a model may be had from: the one that is named before it, else those that name it, else those
/// that take any.
///
/// `dialect`: the one of a request that can be translated; a provider of another door may answer it.
pub(super) fn targets(
    all: &[Arc<Provider>],
    (door, dialect): (Door, Option<Dialect>),
    asked: &str,
) -> Vec<Target> {
    let of_door = |it: &&Arc<Provider>| it.kind.door() == door;
    let target = |provider: &Arc<Provider>, model: &str| Target {
        provider: provider.clone(),
        model: model.to_owned(),
        weight: 1,
    };
    if let Some((name, model)) = asked.split_once('/')
        && let Some(named) = all.iter().filter(of_door).find(|it| it.name == name)
        && named.has(model)
    {
        return vec![target(named, model)];
    }
    // One that speaks another dialect must be named, or name the model.
    let translates = !matches!(dialect, None | Some(Dialect::Embeddings));
    if translates
        && let Some((name, model)) = asked.split_once('/')
        && let Some(named) = all.iter().find(|it| it.name == name)
        && named.has(model)
    {
        return vec![target(named, model)];
    }
    let naming: Vec<Target> = all
        .iter()
        .filter(of_door)
        .filter(|it| it.names(asked))
        .map(|it| target(it, asked))
        .collect();
    match naming.is_empty() {
        false => naming,
        true => {
            let others = all.iter().filter(|it| translates && it.names(asked));
            let any = all.iter().filter(of_door).filter(|it| it.models.is_empty());
            others.chain(any).map(|it| target(it, asked)).collect()
        }
    }
}

/// The models of a route that can be had.
fn of_route(all: &[Arc<Provider>], how: (Door, Option<Dialect>), route: &Route) -> Vec<Target> {
    let of_leg = |leg: &Leg| {
        let found = targets(all, how, &leg.model).into_iter();
        let weight = leg.weight;
        // A provider's own name comes first: `a/b` of another is not what is meant.
        let mut named = found.filter(|it| it.name() == leg.model);
        named.next().map(|it| Target { weight, ..it })
    };
    route.legs.iter().filter_map(of_leg).collect()
}

/// What a body says, and the model that is asked for.
fn understood(
    wish: &Wish,
    dialect: Dialect,
    body: &[u8],
) -> Result<(Glance, Option<String>), EgressError> {
    let (found, asked) = match wish {
        Wish::Models => (Glance::default(), None),
        Wish::Model(model) => (Glance::default(), Some(model.clone())),
        Wish::Work { model, .. } | Wish::Embed { model } | Wish::Count { model } => {
            let found = glance(dialect, body);
            let found = found.map_err(|error| EgressError::Invalid(error.to_string()))?;
            let asked = model.clone().or_else(|| found.model.clone());
            let asked = asked.filter(|it| !it.is_empty());
            let missing = || EgressError::Invalid("the body names no `model`".to_owned());
            (found, Some(asked.ok_or_else(missing)?))
        }
    };
    if let Some(asked) = &asked
        && (asked.len() > MOST_NAME || !is_plain(asked))
    {
        let why = format!(
            "the name of a model has {MOST_NAME} bytes at most, and no part that is empty or `..`"
        );
        return Err(EgressError::Invalid(why));
    }
    let output = found.most_output.unwrap_or_default();
    if output.saturating_mul(found.answers.max(1)) > MOST_TOKENS {
        let why = format!("an answer has {MOST_TOKENS} tokens at most");
        return Err(EgressError::Invalid(why));
    }
    Ok((found, asked))
}

/// Refuses what would not be counted, or would be answered by another model than the one that is decided on.
fn refused(
    wish: &Wish,
    dialect: Dialect,
    body: &[u8],
    targets: &[Target],
) -> Result<(), EgressError> {
    if !matches!(wish, Wish::Work { .. }) {
        return Ok(());
    }
    if dialect == Dialect::Responses && set_field(body, &["background"]).is_some() {
        let why = "`background`: what a model does then is told to nobody here; leave it out";
        return Err(EgressError::Invalid(why.to_owned()));
    }
    let router = targets
        .iter()
        .any(|it| it.provider.kind == Kind::OpenRouter);
    let field = router.then(|| set_field(body, &OF_OPENROUTER)).flatten();
    match field {
        Some(field) => Err(EgressError::Invalid(format!(
            "`{field}`: another model could answer than the one that was decided on; leave it out"
        ))),
        None => Ok(()),
    }
}

fn is_prompt(asked: Option<&str>) -> bool {
    asked.is_some_and(|it| it.starts_with(ALIAS))
}

impl Plan {
    /// Reads a request. The path begins behind the door's own.
    ///
    /// # Errors
    /// [`EgressError::NotFound`] for a path that the door has not, [`EgressError::Invalid`] for a body that is no
    /// request, [`EgressError::NoModel`] when no provider has the model.
    pub(super) fn read(
        (all, routes, usual): (&[Arc<Provider>], &[Arc<Route>], Option<&str>),
        door: Door,
        (method, path, query): (&Method, &str, Option<&str>),
        body: &[u8],
    ) -> Result<Self, EgressError> {
        let wish = door.wish(path).filter(|wish| {
            let looks = matches!(wish, Wish::Models | Wish::Model(_));
            *method == if looks { Method::GET } else { Method::POST }
        });
        let wish = wish.ok_or_else(|| {
            EgressError::NotFound(format!(
                "nothing that Skep passes on is at `{method} {path}`"
            ))
        })?;
        let dialect = match (&wish, door) {
            (Wish::Work { dialect, .. }, _) => *dialect,
            (_, Door::OpenAi) => Dialect::Chat,
            (_, Door::Anthropic) => Dialect::Messages,
            (_, Door::Google) => Dialect::Gemini,
        };
        let unreadable = || EgressError::Invalid("the path cannot be read".to_owned());
        let wish = wish.decoded(decoded).ok_or_else(unreadable)?;
        let (glance, asked) = understood(&wish, dialect, body)?;
        let asked = match asked {
            Some(asked) if asked == DEFAULT => usual.map(str::to_owned).or(Some(asked)),
            asked => asked,
        };
        let translates = matches!(wish, Wish::Work { .. }).then_some(dialect);
        let route = routes.iter().find(|it| Some(&it.name) == asked.as_ref());
        let names_prompt = is_prompt(asked.as_deref());
        let targets = match &asked {
            // Who answers is known when it is made.
            Some(_) if names_prompt => Vec::new(),
            Some(asked) => match route {
                Some(route) => of_route(all, (door, translates), route),
                None => targets(all, (door, translates), asked),
            },
            None => {
                let first = all.iter().find(|it| it.kind.door() == door);
                let target = |provider: &Arc<Provider>| Target {
                    provider: provider.clone(),
                    model: String::new(),
                    weight: 1,
                };
                first.map(target).into_iter().collect()
            }
        };
        refused(&wish, dialect, body, &targets)?;
        if targets.is_empty() && !names_prompt {
            return Err(EgressError::NoModel(match &asked {
                Some(asked) if route.is_some() => {
                    format!("no provider here has a model of the route `{asked}`")
                }
                Some(asked) => format!("no provider of this kind has the model `{asked}` here"),
                None => "there is no provider of this kind here".to_owned(),
            }));
        }
        Ok(Self {
            asked,
            targets,
            route: route.cloned(),
            door,
            wish,
            dialect,
            method: method.clone(),
            path: path.to_owned(),
            query: query.and_then(|it| passing(door, it)),
            glance,
            body_bytes: body.len() as u64,
            preferences: Preferences::default(),
            prompt: String::new(),
            body: None,
            masked: None,
        })
    }

    /// Asks with a temperature, where the body says none.
    pub(super) fn warm(&mut self, body: &[u8], temperature: f64) {
        let made = with_temperature(self.dialect, &self.glance, body, temperature);
        let made = made.and_then(|body| Some((glance(self.dialect, &body).ok()?, body)));
        if let Some((seen, body)) = made {
            self.glance = seen;
            self.body = Some(body.into());
        }
    }

    /// The same for a request with less in it.
    pub(super) fn with_rest(self, body: &Bytes) -> Self {
        let glance = glance(self.dialect, body).unwrap_or_else(|_| self.glance.clone());
        Self {
            glance,
            body_bytes: body.len() as u64,
            ..self
        }
    }

    /// Whether a prompt is asked for, which is not made yet ([`super::service::Models::with_prompt`]).
    #[must_use]
    pub fn is_prompt(&self) -> bool {
        self.prompt.is_empty() && is_prompt(self.asked.as_deref())
    }

    /// Whether its answer depends on what the provider remembers, or is only begun.
    pub(super) fn has_state(&self, body: &[u8]) -> bool {
        set_field(body, &OF_STATE).is_some()
    }

    /// Whether a model works, which costs something.
    #[must_use]
    pub const fn costs(&self) -> bool {
        matches!(self.wish, Wish::Work { .. } | Wish::Embed { .. })
    }

    /// Whether it says something to a model.
    pub(super) const fn has_texts(&self) -> bool {
        !matches!(self.wish, Wish::Models | Wish::Model(_))
    }

    /// Whether the answer comes piece by piece.
    pub(super) fn streams(&self) -> bool {
        self.glance.stream || self.path.ends_with(":streamGenerateContent")
    }

    /// The dialect that a target is asked in.
    pub(super) fn dialect_of(&self, target: &Target) -> Dialect {
        match (target.provider.kind.door(), self.door) {
            (its, own) if its == own => self.dialect,
            (Door::OpenAi, _) => Dialect::Chat,
            (Door::Anthropic, _) => Dialect::Messages,
            (Door::Google, _) => Dialect::Gemini,
        }
    }

    /// The path and the query for a target of another door.
    pub(super) fn path_elsewhere(&self, target: &Target) -> (String, Option<&'static str>) {
        let model = encoded(&target.model, false);
        match target.provider.kind.door() {
            Door::OpenAi => ("/v1/chat/completions".to_owned(), None),
            Door::Anthropic => ("/v1/messages".to_owned(), None),
            Door::Google if self.streams() => (
                format!("/v1beta/models/{model}:streamGenerateContent"),
                Some("alt=sse"),
            ),
            Door::Google => (format!("/v1beta/models/{model}:generateContent"), None),
        }
    }

    /// The path for a model: where it has one in it, that is this one.
    pub(super) fn path_for(&self, model: &str) -> String {
        let named = match &self.wish {
            Wish::Work { model, .. } | Wish::Embed { model } | Wish::Count { model } => {
                model.is_some()
            }
            Wish::Model(_) => true,
            Wish::Models => false,
        };
        let Some((before, after)) = self.path.split_once("/models/").filter(|_| named) else {
            return self.path.clone();
        };
        let model = encoded(model, true);
        match after.rsplit_once(':').filter(|_| self.door == Door::Google) {
            Some((_, verb)) => format!("{before}/models/{model}:{verb}"),
            None => format!("{before}/models/{model}"),
        }
    }

    /// Whether Skep asks for the usage of a stream whose client did not.
    pub(super) fn asks_usage(&self, kind: Kind) -> bool {
        self.dialect == Dialect::Chat
            && self.costs()
            && self.glance.stream
            && !self.glance.usage_asked
            // It tells its usage anyway, and refuses what it does not know.
            && kind != Kind::Mistral
    }

    const fn prompt_bytes(&self) -> u64 {
        match self.glance.text_bytes {
            // Texts where they are not looked for.
            0 => self.body_bytes,
            some => some,
        }
    }

    /// What it may use at most.
    pub(super) fn most_usage(&self, price: Option<&Price>) -> Usage {
        let media = self.glance.media.saturating_mul(OF_MEDIA);
        let input = self.prompt_bytes() / FEWEST_BYTES + media + OF_FRAME;
        let longest = || price.map_or_else(|| Price::default().longest(), Price::longest);
        let output = match (self.dialect, &self.wish) {
            (Dialect::Embeddings, _) | (_, Wish::Embed { .. }) => 0,
            _ => self.glance.most_output.unwrap_or_else(longest),
        };
        Usage {
            input,
            output: output.saturating_mul(self.glance.answers.max(1)),
            ..Usage::default()
        }
    }

    /// What it may cost at most.
    pub(super) fn most(&self, price: Option<&Price>) -> Amount {
        let Usage { input, output, .. } = self.most_usage(price);
        Amount {
            money: price.map(|it| it.most(input, output)).unwrap_or_default(),
            tokens: input.saturating_add(output),
            ..Amount::default()
        }
    }

    /// What it used, when its answer came to an end and the provider does not say.
    pub(super) fn unsaid(&self, price: Option<&Price>, output_bytes: u64) -> Usage {
        match self.wish {
            // Nobody says it there.
            Wish::Embed { .. } => self.estimate(output_bytes),
            _ => self.most_usage(price),
        }
    }

    /// What it used, when the provider does not say.
    pub(super) fn estimate(&self, output_bytes: u64) -> Usage {
        let media = self.glance.media.saturating_mul(OF_MEDIA);
        Usage {
            input: self.prompt_bytes().div_ceil(BYTES) + media,
            output: output_bytes.div_ceil(BYTES),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, kind: Kind, models: &[&str]) -> Arc<Provider> {
        Arc::new(Provider {
            name: name.to_owned(),
            kind,
            url: None,
            secrets: vec!["key".to_owned()],
            models: models.iter().map(|it| (*it).to_owned()).collect(),
        })
    }

    fn all() -> Vec<Arc<Provider>> {
        vec![
            provider("any", Kind::OpenAi, &[]),
            provider("claude", Kind::Anthropic, &[]),
            provider("gemini", Kind::Google, &[]),
            provider("llama", Kind::Groq, &["meta/llama-*"]),
            provider("llama-too", Kind::Groq, &["*llama*"]),
        ]
    }

    fn read(door: Door, target: &str, body: &str) -> Result<Plan, EgressError> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let method = match body {
            "" => Method::GET,
            _ => Method::POST,
        };
        Plan::read(
            (&all(), &[], None),
            door,
            (&method, path, query),
            body.as_bytes(),
        )
    }

    #[test]
    fn a_model_is_had_from_who_is_named_who_names_it_or_who_takes_any() {
        for (door, asked, expected) in [
            (Door::OpenAi, "gpt-4o", vec!["any/gpt-4o"]),
            (Door::OpenAi, "any/gpt-4o", vec!["any/gpt-4o"]),
            (
                Door::OpenAi,
                "meta/llama-3",
                vec!["llama/meta/llama-3", "llama-too/meta/llama-3"],
            ),
            (Door::OpenAi, "llama-too/llama", vec!["llama-too/llama"]),
            // A provider that does not have it is none that is named.
            (Door::OpenAi, "llama/gpt", vec!["llama-too/llama/gpt"]),
            (Door::Anthropic, "any/claude-x", vec!["claude/any/claude-x"]),
        ] {
            let found: Vec<String> = targets(&all(), (door, None), asked)
                .iter()
                .map(Target::name)
                .collect();
            assert_eq!(found, expected, "{asked}");
        }
        assert!(targets(&all()[1..], (Door::OpenAi, None), "gpt-4o").is_empty());
    }

    #[test]
    fn requests_are_understood_or_refused_with_a_reason() {
        let chat = read(
            Door::OpenAi,
            "/v1/chat/completions",
            r#"{"model":"gpt","stream":true,"messages":[]}"#,
        )
        .unwrap();
        assert!(chat.costs() && chat.streams() && chat.asks_usage(Kind::OpenAi));
        assert!(!chat.asks_usage(Kind::Mistral));
        let gemini = read(
            Door::Google,
            "/v1beta/models/gemini/x:streamGenerateContent?key=secret&alt=sse",
            "{}",
        )
        .unwrap();
        assert_eq!(gemini.asked.as_deref(), Some("gemini/x"));
        assert_eq!(gemini.query.as_deref(), Some("alt=sse"));
        assert_eq!(
            gemini.path_for(&gemini.targets[0].model),
            "/v1beta/models/x:streamGenerateContent"
        );
        assert!(gemini.streams());
        assert!(!read(Door::OpenAi, "/v1/models", "").unwrap().costs());
        for (door, target, body, told) in [
            (
                Door::OpenAi,
                "/v1/files",
                "{}",
                "nothing that Skep passes on",
            ),
            (
                Door::OpenAi,
                "/v1/chat/completions",
                "",
                "nothing that Skep passes on",
            ),
            (
                Door::OpenAi,
                "/v1/models",
                "{}",
                "nothing that Skep passes on",
            ),
            (
                Door::OpenAi,
                "/v1/chat/completions",
                "[]",
                "not a JSON object",
            ),
            (
                Door::OpenAi,
                "/v1/chat/completions",
                "{}",
                "names no `model`",
            ),
        ] {
            let error = read(door, target, body).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for (target, name) in [
            (
                "/v1beta/models/gemini%2D2.5%2dpro:generateContent",
                Some("gemini-2.5-pro"),
            ),
            ("/v1beta/models/..%2Ffiles:generateContent", None),
            ("/v1beta/models/%zz:generateContent", None),
            ("/v1beta/models/a//b:generateContent", None),
        ] {
            let read = read(Door::Google, target, "{}").ok();
            let found = read.as_ref().and_then(|it| it.asked.as_deref());
            assert_eq!(found, name, "{target}");
            if let Some(plan) = &read {
                let path = format!(
                    "/v1beta/models/{}:generateContent",
                    name.unwrap_or_default()
                );
                assert_eq!(plan.path_for(&plan.targets[0].model), path);
            }
        }
        assert!(read(Door::OpenAi, "/v1/models/../files", "").is_err());
        assert!(read(Door::OpenAi, "/v1/models/%2e%2e/files", "").is_err());
        let body = |model: &str| format!(r#"{{"model":"{model}","messages":[]}}"#);
        let chat = |model: &str| read(Door::OpenAi, "/v1/chat/completions", &body(model));
        for (model, path) in [
            ("gemini/x:y/z", "x%3Ay%2Fz"),
            ("gemini/x:generateContent?y=", "x%3AgenerateContent%3Fy="),
        ] {
            let elsewhere = chat(model).unwrap();
            let found = elsewhere.path_elsewhere(&elsewhere.targets[0]).0;
            assert_eq!(found, format!("/v1beta/models/{path}:generateContent"));
        }
    }

    #[test]
    fn what_would_not_be_counted_is_refused() {
        let background = r#"{"model":"gpt","input":"x","background":true}"#;
        assert!(read(Door::OpenAi, "/v1/responses", background).is_err());
        let plain = r#"{"model":"gpt","input":"x","background":false,"plugins":[1]}"#;
        read(Door::OpenAi, "/v1/responses", plain).unwrap();
        let many = r#"{"model":"gpt","max_tokens":18446744073709551615,"messages":[]}"#;
        assert!(read(Door::OpenAi, "/v1/chat/completions", many).is_err());
        let hides = "/v1beta/models/x:generateContent?alt=sse&fields=candidates&%24fields=a&alt=proto&key=k";
        let plan = read(Door::Google, hides, "{}").unwrap();
        assert_eq!(plan.query.as_deref(), Some("alt=sse"));
        let router = [provider("router", Kind::OpenRouter, &[])];
        let asked = (&Method::POST, "/v1/chat/completions", None);
        let other = br#"{"model":"a/b","models":["c/d"],"messages":[]}"#;
        let error = Plan::read((&router, &[], None), Door::OpenAi, asked, other).unwrap_err();
        assert!(error.to_string().contains("`models`"), "{error}");
    }

    #[test]
    fn what_is_set_aside_is_more_than_what_is_estimated() {
        let text = "x".repeat(4_000);
        let body = format!(
            r#"{{"model":"gpt","max_tokens":100,"n":2,"messages":[{{"role":"user","content":"{text}"}}]}}"#
        );
        let plan = read(Door::OpenAi, "/v1/chat/completions", &body).unwrap();
        let most = plan.most(None);
        assert_eq!(most.tokens, plan.glance.text_bytes / 2 + OF_FRAME + 200);
        let estimate = plan.estimate(400);
        assert_eq!(estimate.output, 100);
        assert!(estimate.input >= 1_000 && estimate.input < most.tokens);
    }
}
