//! Watching an answer as it passes: its usage, how much was written, and whether it came to its end. Nothing
//! here can fail, and memory is bounded whatever comes.

use crate::Dialect;
use crate::frames::{Frames, MOST_FRAME, Piece, Values, event};
use crate::lazy::Lazy;

/// Bytes of a name or a message that are kept.
const MOST_NAME: usize = 1024;
/// Bytes of a frame that is held back until it is known whether it carries usage alone; a longer one does not.
const MOST_HELD: usize = 1 << 20;

/// The tokens of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of the prompt, cached or not.
    pub input: u64,
    /// What of it was read from a cache.
    pub cache_read: u64,
    /// What of it was written to a cache.
    pub cache_write: u64,
    /// All that the model wrote, its reasoning included.
    pub output: u64,
    /// What of it was reasoning.
    pub reasoning: u64,
}

/// Watches an answer as it passes, and learns its usage.
#[derive(Debug)]
pub struct Tap {
    way: Way,
    learned: Learned,
}

#[derive(Debug)]
enum Way {
    /// A stream of which no byte has come.
    Begins,
    Events(Frames),
    Json(Values),
}

#[derive(Debug)]
struct Learned {
    dialect: Dialect,
    streams: bool,
    usage: Option<Counts>,
    model: Option<String>,
    error: Option<String>,
    output_bytes: u64,
    seen: u64,
    complete: bool,
}

impl Tap {
    /// Begins to watch an answer in a dialect, which comes as a stream or at once.
    #[must_use]
    pub fn new(dialect: Dialect, streams: bool) -> Self {
        let way = match streams {
            true => Way::Begins,
            false => Way::Json(Values::new(false)),
        };
        let learned = Learned {
            dialect,
            streams,
            usage: None,
            model: None,
            error: None,
            output_bytes: 0,
            seen: 0,
            complete: false,
        };
        Self { way, learned }
    }

    /// The next bytes of it.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { way, learned } = self;
        learned.seen += bytes.len() as u64;
        if let Way::Begins = way {
            match bytes.trim_ascii_start().first() {
                // An error, or a stream of Gemini that is one list.
                Some(b'{' | b'[') => *way = Way::Json(Values::new(true)),
                Some(_) => *way = Way::Events(Frames::new(MOST_FRAME)),
                None => return,
            }
        }
        match way {
            Way::Begins => {}
            Way::Events(frames) => frames.push(bytes, &mut |piece| {
                if let Piece::Frame(frame) = piece {
                    learned.frame(frame);
                }
            }),
            Way::Json(values) => values.push(bytes, &mut |value| {
                if let Some(value) = Lazy::of(value) {
                    learned.value(value);
                }
            }),
        }
    }

    /// Nothing more comes: what stands at the end without the empty line that should end it counts too.
    pub fn finish(&mut self) {
        if let Way::Events(frames) = &mut self.way {
            let rest = frames.finish();
            self.learned.frame(&rest);
        }
    }

    /// The usage, as far as it is known.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.learned.usage.map(|counts| counts.usage())
    }

    /// Bytes of text that the model has written so far: for an estimate when a stream is cut. Of an answer that
    /// comes at once and is cut, all of its bytes.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        match (&self.way, self.learned.complete) {
            (Way::Json(_), false) if !self.learned.streams => self.learned.seen,
            _ => self.learned.output_bytes,
        }
    }

    /// The model that answers, by its own words.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.learned.model.as_deref()
    }

    /// Whether the answer came to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.learned.complete
    }

    /// What an error in the answer says.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.learned.error.as_deref()
    }
}

/// What has been told, as each dialect counts it.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// The input tells all but what was cached.
    is_apart: bool,
    told: Usage,
}

impl Counts {
    fn usage(self) -> Usage {
        let mut usage = self.told;
        if self.is_apart {
            let cached = usage.cache_read.saturating_add(usage.cache_write);
            usage.input = usage.input.saturating_add(cached);
        }
        usage
    }
}

fn number(value: Option<Lazy<'_>>) -> Option<u64> {
    value.and_then(Lazy::number)
}

fn set(place: &mut u64, value: Option<Lazy<'_>>) {
    if let Some(value) = number(value) {
        *place = value;
    }
}

fn short(text: &str) -> String {
    let mut end = text.len().min(MOST_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Usage as Chat and Embeddings tell it.
pub(crate) fn chat_usage(usage: Lazy<'_>) -> Usage {
    let [prompt, completion, total, details, written, hit] = usage.fields([
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
        "prompt_cache_hit_tokens",
    ]);
    let cached = details.and_then(|it| it.field("cached_tokens"));
    let reasoning = number(written.and_then(|it| it.field("reasoning_tokens"))).unwrap_or(0);
    let (input, mut output) = (number(prompt).unwrap_or(0), number(completion).unwrap_or(0));
    // Some count reasoning beside the output, and tell so by the total alone.
    let apart = input.saturating_add(output).saturating_add(reasoning);
    if reasoning > 0 && number(total) == Some(apart) {
        output = output.saturating_add(reasoning);
    }
    Usage {
        input,
        cache_read: number(cached).or(number(hit)).unwrap_or(0),
        cache_write: number(details.and_then(|it| it.field("cache_write_tokens"))).unwrap_or(0),
        output,
        reasoning,
    }
}

/// Usage as Responses tells it.
pub(crate) fn responses_usage(usage: Lazy<'_>) -> Usage {
    let [input, output, read, written] = usage.fields([
        "input_tokens",
        "output_tokens",
        "input_tokens_details",
        "output_tokens_details",
    ]);
    let of = |from: Option<Lazy<'_>>, name| number(from.and_then(|it| it.field(name))).unwrap_or(0);
    Usage {
        input: number(input).unwrap_or(0),
        cache_read: of(read, "cached_tokens"),
        cache_write: of(read, "cache_write_tokens"),
        output: number(output).unwrap_or(0),
        reasoning: of(written, "reasoning_tokens"),
    }
}

/// Usage as Gemini tells it.
pub(crate) fn gemini_usage(usage: Lazy<'_>) -> Usage {
    let [prompt, tools, cached, written, thoughts] = usage
        .fields([
            "promptTokenCount",
            "toolUsePromptTokenCount",
            "cachedContentTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
        ])
        .map(|it| number(it).unwrap_or(0));
    Usage {
        input: prompt.saturating_add(tools),
        cache_read: cached,
        cache_write: 0,
        output: written.saturating_add(thoughts),
        reasoning: thoughts,
    }
}

impl Learned {
    fn frame(&mut self, frame: &[u8]) {
        let (_, Some(data)) = event(frame) else {
            return;
        };
        if data.trim_ascii() == b"[DONE]" {
            self.complete |= self.dialect == Dialect::Chat;
            return;
        }
        if let Some(value) = Lazy::of(&data) {
            self.value(value);
        }
    }

    fn told(&mut self, usage: Usage) {
        self.usage = Some(Counts {
            is_apart: false,
            told: usage,
        });
    }

    fn named(&mut self, model: Option<Lazy<'_>>) {
        if let (None, Some(model)) = (&self.model, model.and_then(Lazy::text)) {
            self.model = Some(short(&model));
        }
    }

    fn failed(&mut self, error: Lazy<'_>) {
        if !error.is_some() {
            return;
        }
        let message = error.field("message").or(Some(error));
        let message = message.map(|it| it.text().unwrap_or(it.raw().into()));
        self.error = message.as_deref().map(short);
    }

    fn wrote(&mut self, text: Option<Lazy<'_>>) {
        self.output_bytes += text.map_or(0, Lazy::text_bytes);
    }

    fn value(&mut self, value: Lazy<'_>) {
        match self.dialect {
            Dialect::Chat => self.chat(value),
            Dialect::Embeddings => {
                self.chat(value);
                self.complete = true;
            }
            Dialect::Responses => self.responses(value),
            Dialect::Messages => self.messages(value),
            Dialect::Gemini => self.gemini(value),
        }
    }

    fn chat(&mut self, value: Lazy<'_>) {
        let [model, choices, usage, error] = value.fields(["model", "choices", "usage", "error"]);
        self.named(model);
        if let Some(usage) = usage.filter(|it| it.is_some()) {
            self.told(chat_usage(usage));
        }
        if let Some(error) = error {
            self.failed(error);
        }
        if let Some(choices) = choices {
            choices.each(|choice| {
                let [delta, message] = choice.fields(["delta", "message"]);
                if let Some(message) = delta.or(message) {
                    self.chat_message(message);
                }
            });
        }
        // An answer that comes at once is whole when it could be read.
        self.complete |= !self.streams;
    }

    fn chat_message(&mut self, message: Lazy<'_>) {
        let [content, refusal, thought, reasoning, calls, call] = message.fields([
            "content",
            "refusal",
            "reasoning_content",
            "reasoning",
            "tool_calls",
            "function_call",
        ]);
        for text in [content, refusal, thought.or(reasoning)] {
            self.wrote(text);
        }
        let mut called = |function: Option<Lazy<'_>>| {
            if let Some([name, arguments]) = function.map(|it| it.fields(["name", "arguments"])) {
                self.wrote(name);
                self.wrote(arguments);
            }
        };
        called(call);
        if let Some(calls) = calls {
            calls.each(|call| called(call.field("function")));
        }
    }

    fn responses(&mut self, value: Lazy<'_>) {
        let [kind, response, delta, error, message] =
            value.fields(["type", "response", "delta", "error", "message"]);
        let kind = kind.and_then(Lazy::text).unwrap_or_default();
        let Some(response) = response.or((!self.streams).then_some(value)) else {
            match &*kind {
                "error" => match error.filter(|it| it.is_some()).or(message) {
                    Some(error) => self.failed(error),
                    None => self.error = Some("an error".to_owned()),
                },
                // Sound is no text.
                "response.audio.delta" | "response.output_audio.delta" => {}
                kind if kind.ends_with(".delta") => self.wrote(delta),
                // An error instead of a stream.
                _ if kind.is_empty() => error.into_iter().for_each(|error| self.failed(error)),
                _ => {}
            }
            return;
        };
        let [model, usage, error, output] = response.fields(["model", "usage", "error", "output"]);
        self.named(model);
        if let Some(usage) = usage.filter(|it| it.is_some()) {
            self.told(responses_usage(usage));
        }
        if let Some(error) = error {
            self.failed(error);
        }
        match (self.streams, output) {
            (true, _) => {
                self.complete |= matches!(
                    &*kind,
                    "response.completed" | "response.incomplete" | "response.failed"
                );
            }
            (false, output) => {
                self.complete = true;
                if let Some(output) = output {
                    output.each(|item| self.responses_item(item));
                }
            }
        }
    }

    fn responses_item(&mut self, item: Lazy<'_>) {
        let [content, arguments, input, summary] =
            item.fields(["content", "arguments", "input", "summary"]);
        self.wrote(arguments);
        self.wrote(input);
        for parts in [content, summary].into_iter().flatten() {
            parts.each(|part| {
                let [text, refusal] = part.fields(["text", "refusal"]);
                self.wrote(text);
                self.wrote(refusal);
            });
        }
    }

    fn messages(&mut self, value: Lazy<'_>) {
        let [kind, message, usage, delta, block, error] = value.fields([
            "type",
            "message",
            "usage",
            "delta",
            "content_block",
            "error",
        ]);
        match kind.and_then(Lazy::text).as_deref() {
            Some("message_start") => {
                if let Some(message) = message {
                    self.messages_whole(message);
                }
            }
            Some("message") => {
                self.messages_whole(value);
                self.complete = true;
            }
            Some("content_block_start") => {
                if let Some(block) = block {
                    self.messages_block(block);
                }
            }
            Some("content_block_delta") => {
                let parts = delta.map(|it| it.fields(["text", "thinking", "partial_json"]));
                for part in parts.into_iter().flatten() {
                    self.wrote(part);
                }
            }
            Some("message_delta") => self.messages_usage(usage),
            Some("message_stop") => self.complete = true,
            _ => {
                // The answer to a question how many tokens there are.
                if let (None, Some(_)) = (error, value.field("input_tokens")) {
                    self.complete = true;
                }
            }
        }
        if let Some(error) = error {
            self.failed(error);
            self.complete |= !self.streams;
        }
    }

    fn messages_whole(&mut self, message: Lazy<'_>) {
        let [model, usage, content] = message.fields(["model", "usage", "content"]);
        self.named(model);
        self.messages_usage(usage);
        if let Some(content) = content {
            content.each(|block| self.messages_block(block));
        }
    }

    fn messages_block(&mut self, block: Lazy<'_>) {
        let [text, thinking, input] = block.fields(["text", "thinking", "input"]);
        self.wrote(text);
        self.wrote(thinking);
        // A stream begins with nothing in it.
        let input = input.map_or("", Lazy::raw);
        if input != "{}" {
            self.output_bytes += input.len() as u64;
        }
    }

    fn messages_usage(&mut self, usage: Option<Lazy<'_>>) {
        let Some(usage) = usage.filter(|it| it.is_some()) else {
            return;
        };
        let [input, read, write, output, details] = usage.fields([
            "input_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "output_tokens",
            "output_tokens_details",
        ]);
        let counts = self.usage.get_or_insert(Counts {
            is_apart: true,
            told: Usage::default(),
        });
        set(&mut counts.told.input, input);
        set(&mut counts.told.cache_read, read);
        set(&mut counts.told.cache_write, write);
        set(&mut counts.told.output, output);
        let thinking = details.and_then(|it| it.field("thinking_tokens"));
        set(&mut counts.told.reasoning, thinking);
    }

    fn gemini(&mut self, value: Lazy<'_>) {
        let [candidates, usage, model, feedback, error] = value.fields([
            "candidates",
            "usageMetadata",
            "modelVersion",
            "promptFeedback",
            "error",
        ]);
        self.named(model);
        if let Some(usage) = usage {
            self.told(gemini_usage(usage));
        }
        if let Some(error) = error {
            self.failed(error);
        }
        self.complete |= !self.streams
            || feedback
                .and_then(|it| it.field("blockReason"))
                .is_some_and(Lazy::is_some);
        let Some(candidates) = candidates else {
            return;
        };
        candidates.each(|candidate| {
            let [content, reason] = candidate.fields(["content", "finishReason"]);
            self.complete |= reason.is_some_and(Lazy::is_some);
            if let Some(parts) = content.and_then(|it| it.field("parts")) {
                parts.each(|part| {
                    let [text, call] = part.fields(["text", "functionCall"]);
                    self.wrote(text);
                    self.output_bytes += call.map_or(0, |it| it.raw().len() as u64);
                });
            }
        });
    }
}

/// Takes the chunk that carries nothing but usage out of a chat stream whose client did not ask for it. Every
/// other byte is kept, whatever way the bytes are cut.
#[derive(Debug)]
pub struct WithoutUsage {
    frames: Frames,
    /// The last frame was taken out.
    was_taken: bool,
}

impl Default for WithoutUsage {
    fn default() -> Self {
        Self::new()
    }
}

impl WithoutUsage {
    /// Begins with a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            frames: Frames::new(MOST_HELD),
            was_taken: false,
        }
    }

    /// Takes the next bytes, and gives what passes. A frame is held back until it is whole.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        let was_taken = &mut self.was_taken;
        self.frames.push(bytes, &mut |piece| match piece {
            Piece::Frame(frame) => {
                *was_taken = is_usage(frame);
                if !*was_taken {
                    passed.extend_from_slice(frame);
                }
            }
            Piece::Long(bytes) => {
                *was_taken = false;
                passed.extend_from_slice(bytes);
            }
            Piece::Tail(bytes) if !*was_taken => passed.extend_from_slice(bytes),
            Piece::Tail(_) => {}
        });
        passed
    }

    /// What was held back when the stream ended within a frame.
    pub fn finish(&mut self) -> Vec<u8> {
        let rest = self.frames.finish();
        match is_usage(&rest) {
            true => Vec::new(),
            false => rest,
        }
    }
}

/// Whether a frame carries nothing but usage.
fn is_usage(frame: &[u8]) -> bool {
    let (_, Some(data)) = event(frame) else {
        return false;
    };
    let Some(value) = Lazy::of(&data) else {
        return false;
    };
    let [choices, usage] = value.fields(["choices", "usage"]);
    choices.and_then(Lazy::count) == Some(0) && usage.is_some_and(Lazy::is_some)
}
