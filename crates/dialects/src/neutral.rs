//! What the dialects say, in no dialect: requests, answers, and the events of a stream.

use serde_json::Number;

use crate::Dialect;
use crate::json::{Json, refused};
use crate::tap::Usage;
use crate::translate::Untranslatable;

/// Where something stood in what came in, for messages; two things are the same wherever they stood.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(pub(crate) String);

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Place {
    pub(crate) fn refused(&self, why: impl Into<String>) -> Untranslatable {
        refused(self.0.clone(), why)
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) from: Dialect,
    pub(crate) stream: bool,
    pub(crate) usage_asked: bool,
    pub(crate) turns: Vec<Turn>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: Option<Choice>,
    pub(crate) parallel: Option<bool>,
    pub(crate) most_output: Option<u64>,
    pub(crate) temperature: Option<Number>,
    pub(crate) top_p: Option<Number>,
    pub(crate) top_k: Option<Number>,
    pub(crate) seed: Option<Number>,
    pub(crate) frequency_penalty: Option<Number>,
    pub(crate) presence_penalty: Option<Number>,
    pub(crate) stops: Vec<String>,
    pub(crate) reasoning: Reasoning,
    pub(crate) format: Option<Format>,
    /// How much the model is to write, in a word.
    pub(crate) verbosity: Option<String>,
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

/// What one side says before the other does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part>,
    pub(crate) at: Place,
}

/// A part of what is said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Refusal(String),
    Media(Media),
    Call(Call),
    Result(Outcome),
    Thought(Thought),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON, as the model wrote it.
    pub(crate) arguments: String,
    pub(crate) signature: Option<Signature>,
    pub(crate) at: Place,
}

impl Call {
    /// The arguments as an object.
    pub(crate) fn object(&self) -> Result<Json, Untranslatable> {
        if self.arguments.trim().is_empty() {
            return Ok(Json::Object(Vec::new()));
        }
        match Json::read(self.arguments.as_bytes()) {
            Ok(object @ Json::Object(_)) => Ok(object),
            _ => Err(self.at.refused("the arguments must be a JSON object")),
        }
    }
}

/// What a call of a tool came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) parts: Vec<Part>,
    pub(crate) is_error: bool,
    pub(crate) at: Place,
}

impl Outcome {
    /// The texts of it together; anything else is refused.
    pub(crate) fn text(&self) -> Result<String, Untranslatable> {
        let mut all = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => all.push_str(text),
                Part::Media(media) => {
                    let why = "the result of a tool can only be text here";
                    return Err(media.at.refused(why));
                }
                _ => {
                    return Err(self
                        .at
                        .refused("the result of a tool can only be text here"));
                }
            }
        }
        Ok(all)
    }

    /// The texts of it, saying in words that it is an error.
    pub(crate) fn told(&self) -> Result<String, Untranslatable> {
        let text = self.text()?;
        Ok(match self.is_error {
            true => format!("Error: {text}"),
            false => text,
        })
    }
}

/// What a model thought.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Thought {
    pub(crate) text: String,
    pub(crate) signature: Option<Signature>,
    /// The text is hidden, and the signature all that there is.
    pub(crate) is_hidden: bool,
}

/// By what the provider knows a thought of its model again: of no worth to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) of: Dialect,
    pub(crate) text: String,
}

const GEMINI: &str = "skep.gemini.";
const RESPONSES: &str = "skep.responses.";
const MESSAGES: &str = "skep.messages.";

impl Signature {
    /// One that a client holds, who speaks this dialect.
    pub(crate) fn read(dialect: Dialect, text: String) -> Self {
        for (of, word) in [
            (Dialect::Gemini, GEMINI),
            (Dialect::Responses, RESPONSES),
            (Dialect::Messages, MESSAGES),
        ] {
            if let Some(text) = text.strip_prefix(word) {
                let text = text.to_owned();
                return Self { of, text };
            }
        }
        Self { of: dialect, text }
    }

    /// As a client keeps it, who speaks this dialect.
    pub(crate) fn kept(&self, dialect: Dialect) -> String {
        match self.of {
            of if of == dialect => self.text.clone(),
            Dialect::Gemini => format!("{GEMINI}{}", self.text),
            Dialect::Responses => format!("{RESPONSES}{}", self.text),
            _ => format!("{MESSAGES}{}", self.text),
        }
    }

    /// The text, if a provider of this dialect wrote it.
    pub(crate) fn own(&self, dialect: Dialect) -> Option<&str> {
        (self.of == dialect).then_some(self.text.as_str())
    }
}

/// An image, a file or a sound.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Media {
    pub(crate) kind: Kind,
    pub(crate) source: Source,
    pub(crate) name: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) at: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Image,
    File,
    Audio,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Url(String),
    /// In base64.
    Data {
        mime: String,
        data: String,
    },
}

impl Media {
    /// What a URL points at, or holds.
    pub(crate) fn of_url(kind: Kind, url: String, at: String) -> Result<Self, Untranslatable> {
        let source = match url.strip_prefix("data:") {
            None if url.starts_with("https://") || url.starts_with("http://") => Source::Url(url),
            None => return Err(refused(at, "it must be a URL of http, https or data")),
            Some(rest) => match rest.split_once(";base64,") {
                Some((mime, data)) => Source::Data {
                    mime: mime.to_owned(),
                    data: data.to_owned(),
                },
                None => return Err(refused(at, "a data URL must be in base64")),
            },
        };
        Ok(Self {
            kind,
            source,
            name: None,
            detail: None,
            at: Place(at),
        })
    }

    /// The URL that points at it, or holds it.
    pub(crate) fn url(&self) -> String {
        match &self.source {
            Source::Url(url) => url.clone(),
            Source::Data { mime, data } => format!("data:{mime};base64,{data}"),
        }
    }

    /// Refuses a wish for a resolution, where none can be said.
    pub(crate) fn without_detail(&self) -> Result<(), Untranslatable> {
        match self.detail {
            None => Ok(()),
            Some(_) => Err(self.at.refused("`detail` cannot be translated")),
        }
    }
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) schema: Option<Json>,
    pub(crate) strict: Option<bool>,
}

/// Which tools the model is to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    Never,
    Any,
    Tool(String),
}

/// How a model is to think.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reasoning {
    pub(crate) mode: Option<Mode>,
    pub(crate) effort: Option<Effort>,
    /// Its thoughts are to be told.
    pub(crate) show: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Off,
    Adaptive,
    Budget(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

/// Tokens of thinking that are called a low and a medium effort, where there is no other word for them.
const LOW: u64 = 4096;
const MEDIUM: u64 = 16_384;

impl Effort {
    pub(crate) fn read(word: &str, path: &str) -> Result<Self, Untranslatable> {
        Ok(match word {
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::XHigh,
            "max" => Self::Max,
            _ => return Err(refused(path, "this effort is not known")),
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }
}

impl Reasoning {
    /// What a word for an effort says.
    pub(crate) fn of_word(word: &str, path: &str) -> Result<Self, Untranslatable> {
        let (mode, effort) = match word {
            "none" => (Mode::Off, None),
            word => (Mode::Adaptive, Some(Effort::read(word, path)?)),
        };
        Ok(Self {
            mode: Some(mode),
            effort,
            show: None,
        })
    }

    /// The nearest word for it.
    pub(crate) fn word(&self) -> Option<&'static str> {
        match (self.mode, self.effort) {
            (Some(Mode::Off), _) => Some("none"),
            (_, Some(effort)) => Some(effort.word()),
            (Some(Mode::Budget(tokens)), None) => Some(match tokens {
                tokens if tokens <= LOW => "low",
                tokens if tokens <= MEDIUM => "medium",
                _ => "high",
            }),
            (Some(Mode::Adaptive) | None, None) => None,
        }
    }
}

/// The form of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// Some JSON.
    Json,
    Schema {
        name: Option<String>,
        schema: Json,
        strict: Option<bool>,
    },
}

impl Request {
    pub(crate) fn new(from: Dialect) -> Self {
        Self {
            from,
            stream: false,
            usage_asked: false,
            turns: Vec::new(),
            tools: Vec::new(),
            choice: None,
            parallel: None,
            most_output: None,
            temperature: None,
            top_p: None,
            top_k: None,
            seed: None,
            frequency_penalty: None,
            presence_penalty: None,
            stops: Vec::new(),
            reasoning: Reasoning::default(),
            format: None,
            verbosity: None,
        }
    }

    pub(crate) fn say(&mut self, role: Role, parts: Vec<Part>, at: &str) {
        self.turns.push(Turn {
            role,
            parts,
            at: Place(at.to_owned()),
        });
    }

    /// The texts of the instructions at the beginning, and the turns after them, where those of one side that
    /// follow each other are one.
    pub(crate) fn parted(&self) -> Result<(Vec<&str>, Vec<Turn>), Untranslatable> {
        let mut system = Vec::new();
        let mut turns: Vec<Turn> = Vec::new();
        for turn in &self.turns {
            match turn.role {
                Role::System if turns.is_empty() => system.extend(texts(turn)?),
                Role::System => {
                    let why = "instructions can only stand before everything else here";
                    return Err(turn.at.refused(why));
                }
                role => match turns.last_mut().filter(|last| last.role == role) {
                    Some(last) => last.parts.extend(turn.parts.iter().cloned()),
                    None => turns.push(turn.clone()),
                },
            }
        }
        Ok((system, turns))
    }

    /// Refuses what the other dialect cannot say.
    pub(crate) fn without(&self, knobs: &[Knob]) -> Result<(), Untranslatable> {
        for knob in knobs {
            let is_set = match knob {
                Knob::TopK => self.top_k.is_some(),
                Knob::Seed => self.seed.is_some(),
                Knob::FrequencyPenalty => self.frequency_penalty.is_some(),
                Knob::PresencePenalty => self.presence_penalty.is_some(),
                Knob::Stops => !self.stops.is_empty(),
                Knob::Verbosity => self.verbosity.is_some(),
                // Without tools there is nothing to call at once.
                Knob::Parallel => self.parallel == Some(false) && !self.tools.is_empty(),
                Knob::AnyJson => self.format == Some(Format::Json),
            };
            if is_set {
                let why = "the provider's API has nothing like it";
                return Err(refused(knob.called(self.from), why));
            }
        }
        Ok(())
    }
}

/// The texts of instructions.
pub(crate) fn texts(turn: &Turn) -> Result<Vec<&str>, Untranslatable> {
    let each = turn.parts.iter().map(|part| match part {
        Part::Text(text) => Ok(text.as_str()),
        _ => Err(turn.at.refused("instructions can only be text")),
    });
    each.collect()
}

/// What not every dialect can say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Knob {
    TopK,
    Seed,
    FrequencyPenalty,
    PresencePenalty,
    Stops,
    Verbosity,
    Parallel,
    AnyJson,
}

impl Knob {
    /// What it is called in a dialect.
    fn called(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::TopK, Dialect::Gemini) => "generationConfig.topK",
            (Self::TopK, _) => "top_k",
            (Self::Seed, Dialect::Gemini) => "generationConfig.seed",
            (Self::Seed, _) => "seed",
            (Self::FrequencyPenalty, Dialect::Gemini) => "generationConfig.frequencyPenalty",
            (Self::FrequencyPenalty, _) => "frequency_penalty",
            (Self::PresencePenalty, Dialect::Gemini) => "generationConfig.presencePenalty",
            (Self::PresencePenalty, _) => "presence_penalty",
            (Self::Stops, Dialect::Gemini) => "generationConfig.stopSequences",
            (Self::Stops, Dialect::Messages) => "stop_sequences",
            (Self::Stops, _) => "stop",
            (Self::Verbosity, Dialect::Responses) => "text.verbosity",
            (Self::Verbosity, _) => "verbosity",
            (Self::Parallel, Dialect::Messages) => "tool_choice.disable_parallel_tool_use",
            (Self::Parallel, _) => "parallel_tool_calls",
            (Self::AnyJson, Dialect::Gemini) => "generationConfig.responseMimeType",
            (Self::AnyJson, Dialect::Responses) => "text.format",
            (Self::AnyJson, _) => "response_format",
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created: Option<u64>,
    pub(crate) parts: Vec<Part>,
    pub(crate) stop: Stop,
    pub(crate) usage: Usage,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    End,
    Length,
    /// At a text that was to stop it.
    Text(String),
    Calls,
    Filter,
}

/// What happens in a stream. A part goes on until another begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Start {
        id: String,
        model: String,
        created: Option<u64>,
    },
    Text(String),
    Refusal(String),
    Thought(String),
    /// The signature of the thought before; if that is hidden, all of it.
    Signed {
        signature: Signature,
        is_hidden: bool,
    },
    Call {
        id: String,
        name: String,
        signature: Option<Signature>,
    },
    Arguments(String),
    Stop(Stop),
    End(Usage),
    Failed {
        status: u16,
        message: String,
    },
}
