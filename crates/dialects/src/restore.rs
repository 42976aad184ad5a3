//! Giving back in an answer what was taken out of its request: each placeholder that a model says becomes its value again, also
//! one that is cut over the pieces of a stream. What has none passes byte for byte.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::frames::{Frames, Piece, event};

/// Bytes of a frame that is looked into; a longer one is looked through as it passes.
const MOST_FRAME: usize = 1 << 20;
/// Bytes of an answer that comes at once.
const MOST_WHOLE: usize = 32 << 20;
/// Texts of a stream that are open at once.
const MOST_OPEN: usize = 256;
/// Fields of a stream whose texts go on in the next piece.
const TEXTS: [&str; 9] = [
    "content",
    "text",
    "thinking",
    "partial_json",
    "arguments",
    "delta",
    "refusal",
    "reasoning",
    "reasoning_content",
];
/// Fields that tell one text from another.
const PLACES: [&str; 5] = ["type", "index", "output_index", "content_index", "item_id"];
/// What a piece is named by, when only its rest is said.
const NAMES: [&str; 5] = ["id", "object", "created", "model", "sequence_number"];

/// A placeholder and its value.
pub type Pair = (String, String);

/// Where a text stands in a piece: fields, and places of lists.
type Way = Vec<Step>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Place(usize),
}

impl Step {
    /// The same where nothing else stands beside it.
    fn alone(&self) -> Self {
        match self {
            Self::Field(name) => Self::Field(name.clone()),
            Self::Place(_) => Self::Place(0),
        }
    }
}

/// The end of a text that could be the beginning of a placeholder.
struct Held {
    rest: String,
    word: String,
    /// A piece with nothing but that text in it.
    piece: Value,
    way: Way,
}

/// Gives values back.
pub struct Restore {
    pairs: Vec<Pair>,
    streams: bool,
    frames: Frames,
    whole: Vec<u8>,
    held: BTreeMap<String, Held>,
}

/// What is found of a text: what can go on, and what waits.
struct Cut {
    said: String,
    rest: String,
}

/// A text as it stands in JSON, without its quotes.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    let inner = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

impl Restore {
    /// Of an answer, which comes as a stream of events or at once. Values stand in the text of tools' arguments too, which is
    /// JSON in JSON: none has what would have to be escaped there.
    #[must_use]
    pub fn new(pairs: Vec<Pair>, streams: bool) -> Self {
        Self {
            pairs,
            streams,
            frames: Frames::new(MOST_FRAME),
            whole: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    /// Takes the next bytes, and gives what passes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if !self.streams {
            if self.whole.len() + bytes.len() <= MOST_WHOLE {
                self.whole.extend_from_slice(bytes);
                return Vec::new();
            }
            // It is too long to be kept: what is cut over its pieces stays as it is.
            let mut made = replaced(&std::mem::take(&mut self.whole), &self.pairs);
            made.extend(replaced(bytes, &self.pairs));
            return made;
        }
        let mut passed = Vec::with_capacity(bytes.len());
        let mut frames = std::mem::replace(&mut self.frames, Frames::new(MOST_FRAME));
        frames.push(bytes, &mut |piece| match piece {
            Piece::Frame(frame) => self.frame(frame, &mut passed),
            Piece::Long(bytes) => passed.extend(replaced(bytes, &self.pairs)),
            Piece::Tail(bytes) => passed.extend_from_slice(bytes),
        });
        self.frames = frames;
        passed
    }

    /// What is left when the answer has ended.
    pub fn finish(&mut self) -> Vec<u8> {
        let whole = std::mem::take(&mut self.whole);
        let mut made = replaced(&whole, &self.pairs);
        let rest = self.frames.finish();
        if !rest.is_empty() {
            self.frame(&rest, &mut made);
        }
        self.flush(&mut made);
        made
    }

    /// One event.
    fn frame(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        let (word, data) = event(frame);
        let Some(data) = data else {
            return out.extend_from_slice(frame);
        };
        let Ok(mut piece) = serde_json::from_slice::<Value>(&data) else {
            // `[DONE]`, or what nobody understands.
            self.flush(out);
            return out.extend(replaced(frame, &self.pairs));
        };
        let ends = is_end(&piece);
        let (mut ways, mut way) = (Vec::new(), Vec::new());
        texts(&piece, &mut way, &mut ways);
        let mut changed = false;
        for way in &ways {
            changed |= self.text(&mut piece, way, (word, ends));
        }
        if ends {
            self.flush(out);
        }
        if !changed {
            return out.extend(replaced(frame, &self.pairs));
        }
        say(word, &piece, &self.pairs, out);
    }

    /// One text of a piece goes on. Tells whether it is another than it was.
    fn text(&mut self, piece: &mut Value, way: &Way, (word, ends): (&str, bool)) -> bool {
        let key = place(piece, way);
        let before = self.held.remove(&key);
        let Some(Value::String(text)) = at(piece, way) else {
            return false;
        };
        let joined = match &before {
            Some(held) => format!("{}{text}", held.rest),
            None => text.clone(),
        };
        let cut = match ends || self.held.len() >= MOST_OPEN {
            true => Cut {
                said: joined,
                rest: String::new(),
            },
            false => self.cut(joined),
        };
        if before.is_none() && cut.rest.is_empty() {
            return false;
        }
        *text = cut.said;
        if !cut.rest.is_empty() {
            let held = Held {
                rest: cut.rest,
                word: word.to_owned(),
                piece: only(piece, way),
                way: way.iter().map(Step::alone).collect(),
            };
            self.held.insert(key, held);
        }
        true
    }

    /// What of a text could be the beginning of a placeholder.
    fn cut(&self, text: String) -> Cut {
        let longest = self.pairs.iter().map(|(name, _)| name.len()).max();
        let from = text.len().saturating_sub(longest.unwrap_or_default());
        let starts = text
            .char_indices()
            .map(|(at, _)| at)
            .filter(|at| *at >= from);
        for start in starts {
            let Some(end) = text.get(start..) else {
                continue;
            };
            let begins = |(name, _): &Pair| name.len() > end.len() && name.starts_with(end);
            if self.pairs.iter().any(begins) {
                let said = text.get(..start).unwrap_or_default().to_owned();
                let rest = end.to_owned();
                return Cut { said, rest };
            }
        }
        Cut {
            said: text,
            rest: String::new(),
        }
    }

    /// What waits is no beginning of a placeholder after all.
    fn flush(&mut self, out: &mut Vec<u8>) {
        for (_, mut held) in std::mem::take(&mut self.held) {
            if let Some(text) = at(&mut held.piece, &held.way) {
                *text = Value::String(held.rest);
            }
            say(&held.word, &held.piece, &self.pairs, out);
        }
    }
}

/// Writes an event.
fn say(word: &str, piece: &Value, pairs: &[Pair], out: &mut Vec<u8>) {
    if !word.is_empty() {
        out.extend_from_slice(format!("event: {word}\n").as_bytes());
    }
    out.extend_from_slice(b"data: ");
    out.extend(replaced(piece.to_string().as_bytes(), pairs));
    out.extend_from_slice(b"\n\n");
}

/// JSON with values in the place of placeholders.
fn replaced(json: &[u8], pairs: &[Pair]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(json) else {
        return json.to_vec();
    };
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let (before, from) = rest.split_at(at);
        made.push_str(before);
        let found = pairs
            .iter()
            .find(|(name, _)| from.starts_with(name.as_str()));
        match found {
            Some((name, value)) => {
                made.push_str(&escaped(value));
                rest = from.get(name.len()..).unwrap_or_default();
            }
            None => {
                made.push('[');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    made.push_str(rest);
    made.into_bytes()
}

/// Whether no text goes on after this piece.
fn is_end(piece: &Value) -> bool {
    const ENDS: [&str; 8] = [
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.output_item.done",
    ];
    let kind = piece
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let of = |list: &str, field: &str| {
        let all = piece.get(list).and_then(Value::as_array);
        all.is_some_and(|all| {
            all.iter()
                .any(|it| it.get(field).is_some_and(|it| !it.is_null()))
        })
    };
    let is_done = kind.starts_with("response.") && kind.ends_with(".done");
    ENDS.contains(&kind)
        || is_done
        || of("choices", "finish_reason")
        || of("candidates", "finishReason")
}

/// The ways to all texts that can go on.
fn texts(value: &Value, way: &mut Way, found: &mut Vec<Way>) {
    match value {
        Value::Object(all) => {
            for (name, value) in all {
                way.push(Step::Field(name.clone()));
                match value {
                    Value::String(_) if TEXTS.contains(&name.as_str()) => found.push(way.clone()),
                    _ => texts(value, way, found),
                }
                way.pop();
            }
        }
        Value::Array(all) => {
            for (place, value) in all.iter().enumerate() {
                way.push(Step::Place(place));
                texts(value, way, found);
                way.pop();
            }
        }
        _ => {}
    }
}

/// The value at the end of a way.
fn at<'a>(piece: &'a mut Value, way: &Way) -> Option<&'a mut Value> {
    let mut value = piece;
    for step in way {
        value = match step {
            Step::Field(name) => value.get_mut(name.as_str())?,
            Step::Place(place) => value.get_mut(*place)?,
        };
    }
    Some(value)
}

/// What tells a text from others over the pieces of a stream.
fn place(piece: &Value, way: &Way) -> String {
    let mut key = String::new();
    let mut value = piece;
    for (depth, step) in way.iter().enumerate() {
        // Further in, what else there is stands in the first piece alone.
        let names = if depth == 0 { &PLACES[..] } else { &["index"] };
        for name in names {
            if let Some(it) = value
                .get(name)
                .filter(|it| !it.is_object() && !it.is_array())
            {
                key.push_str(&format!("{name}={it};"));
            }
        }
        let next = match step {
            Step::Field(name) => {
                key.push_str(name);
                value.get(name.as_str())
            }
            Step::Place(place) => {
                let next = value.get(*place);
                // A list of one piece has its elements' own numbers.
                if next.is_none_or(|it| it.get("index").is_none()) {
                    key.push_str(&place.to_string());
                }
                next
            }
        };
        key.push('/');
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    key
}

/// A piece with nothing in it but one text, and what it is named by.
fn only(piece: &Value, way: &[Step]) -> Value {
    let Some((step, rest)) = way.split_first() else {
        return Value::String(String::new());
    };
    match step {
        Step::Field(name) => {
            let mut made = Map::new();
            for (other, value) in piece.as_object().into_iter().flatten() {
                let named = PLACES.contains(&other.as_str()) || NAMES.contains(&other.as_str());
                // Further in, only what says which one it is.
                let named = named && (other != "id" || piece.get("object").is_some());
                if named && !value.is_object() && !value.is_array() {
                    made.insert(other.clone(), value.clone());
                }
            }
            let inner = piece.get(name.as_str()).unwrap_or(&Value::Null);
            made.insert(name.clone(), only(inner, rest));
            Value::Object(made)
        }
        // It stands alone: its own `index` says which one it is.
        Step::Place(place) => {
            let inner = piece.get(*place).unwrap_or(&Value::Null);
            Value::Array(vec![only(inner, rest)])
        }
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
