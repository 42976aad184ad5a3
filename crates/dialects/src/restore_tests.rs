//! Values come back however their placeholders are cut, and nothing else changes.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pairs() -> Vec<Pair> {
    [
        ("[EMAIL_1]", "ada@example.org"),
        ("[EMAIL_10]", "é@example.org"),
        ("[CARD_1]", "4111 1111 1111 1111"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, value) in pairs() {
        text = text.replace(&name, &value);
    }
    text
}

/// How each dialect says a piece of a text, and where its end is.
#[derive(Debug, Clone, Copy)]
enum How {
    Chat,
    Tool,
    Messages,
    Json,
    Responses,
    Gemini,
}

const ALL: [How; 6] = [
    How::Chat,
    How::Tool,
    How::Messages,
    How::Json,
    How::Responses,
    How::Gemini,
];

impl How {
    fn say(self, text: &str, first: bool) -> Value {
        match self {
            Self::Chat => {
                json!({ "id": "c", "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] })
            }
            Self::Tool if first => json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [
                { "index": 1, "id": "call_1", "type": "function", "function": { "name": "f", "arguments": text } }] } }] }),
            Self::Tool => json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [
                { "index": 1, "function": { "arguments": text } }] } }] }),
            Self::Messages => {
                json!({ "type": "content_block_delta", "index": 2, "delta": { "type": "text_delta", "text": text } })
            }
            Self::Json => {
                json!({ "type": "content_block_delta", "index": 2, "delta": { "type": "input_json_delta", "partial_json": text } })
            }
            Self::Responses => {
                json!({ "type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": text })
            }
            Self::Gemini => {
                json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "text": text }] } }] })
            }
        }
    }

    fn end(self) -> Value {
        match self {
            Self::Chat | Self::Tool => {
                json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })
            }
            Self::Messages | Self::Json => json!({ "type": "content_block_stop", "index": 2 }),
            Self::Responses => json!({ "type": "response.output_text.done", "item_id": "i" }),
            Self::Gemini => json!({ "candidates": [{ "finishReason": "STOP" }] }),
        }
    }

    fn heard(self, piece: &Value) -> &str {
        let choice = &piece["choices"][0]["delta"];
        let text = match self {
            Self::Chat => &choice["content"],
            Self::Tool => &choice["tool_calls"][0]["function"]["arguments"],
            Self::Messages => &piece["delta"]["text"],
            Self::Json => &piece["delta"]["partial_json"],
            Self::Responses => &piece["delta"],
            Self::Gemini => &piece["candidates"][0]["content"]["parts"][0]["text"],
        };
        text.as_str().unwrap_or_default()
    }
}

fn pieces(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let events = text.split("\n\n").filter_map(|it| it.split_once("data: "));
    events
        .filter_map(|(_, data)| serde_json::from_str(data).ok())
        .collect()
}

fn text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "[EMAIL_1]",
        "[EMAIL_10]",
        "[CARD_1]",
        "[EMAIL_2]",
        "[",
        "]",
        "[EMAIL",
        "_1",
        "x",
        " ",
        "é",
        "\n",
        "\"",
        "\\",
        "[[",
    ]);
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_placeholder_comes_back_however_it_is_cut(
        text in text(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        bytes in 1_usize..40,
    ) {
        let chars: Vec<char> = text.chars().collect();
        let mut at: Vec<usize> = cuts.iter().map(|it| it.index(chars.len() + 1)).collect();
        at.extend([0, chars.len()]);
        at.sort_unstable();
        for how in ALL {
            let mut stream = String::new();
            for (place, pair) in at.windows(2).enumerate() {
                let piece: String = chars[pair[0]..pair[1]].iter().collect();
                stream.push_str(&format!("event: e\ndata: {}\n\n", how.say(&piece, place == 0)));
            }
            stream.push_str(&format!("event: e\ndata: {}\n\ndata: [DONE]\n\n", how.end()));
            let mut restore = Restore::new(pairs(), true);
            let mut out = Vec::new();
            for piece in stream.as_bytes().chunks(bytes) {
                out.extend(restore.push(piece));
            }
            out.extend(restore.finish());
            let heard: String = pieces(&out).iter().map(|it| how.heard(it).to_owned()).collect();
            prop_assert_eq!(&heard, &plain(&text), "{:?}", how);
            // Its end, and what follows, come last.
            let end = format!("data: {}\n\ndata: [DONE]\n\n", how.end());
            prop_assert!(out.ends_with(end.as_bytes()));
            // A tool is named once.
            let names = pieces(&out).iter().filter(|it| it.to_string().contains("call_1")).count();
            prop_assert!(names <= 1);
        }
    }

    #[test]
    fn what_has_none_passes_byte_for_byte(text in "[a-z \\\\\"é]{0,40}", cuts in 1_usize..9) {
        for how in ALL {
            let stream = format!("event: e\r\ndata:  {}\r\n\r\n: ping\n\ndata: {}\n\n", how.say(&text, true), how.end());
            let mut restore = Restore::new(pairs(), true);
            let mut out = Vec::new();
            for piece in stream.as_bytes().chunks(cuts) {
                out.extend(restore.push(piece));
            }
            out.extend(restore.finish());
            prop_assert_eq!(String::from_utf8(out).unwrap(), stream);
        }
    }

    #[test]
    fn an_answer_that_comes_at_once_has_its_values(text in text(), bytes in 1_usize..40) {
        let answer = json!({ "choices": [{ "message": { "content": text, "tool_calls": [{ "function": {
            "arguments": json!({ "a": text }).to_string() } }] } }] });
        let mut restore = Restore::new(pairs(), false);
        let mut out = Vec::new();
        for piece in answer.to_string().as_bytes().chunks(bytes) {
            out.extend(restore.push(piece));
        }
        out.extend(restore.finish());
        let made: Value = serde_json::from_slice(&out).unwrap();
        let message = &made["choices"][0]["message"];
        let given = plain(&text);
        prop_assert_eq!(message["content"].as_str(), Some(&*given));
        let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        prop_assert_eq!(arguments["a"].as_str(), Some(&*given));
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), streams: bool) {
        let mut restore = Restore::new(pairs(), streams);
        let mut out = restore.push(&bytes);
        out.extend(restore.finish());
        if !bytes.contains(&b'[') && !streams {
            prop_assert_eq!(out, bytes);
        }
    }
}

#[test]
fn two_answers_of_one_stream_are_told_apart() {
    let say = |index: u32, text: &str| json!({ "choices": [{ "index": index, "delta": { "content": text } }] });
    let mut restore = Restore::new(pairs(), true);
    let mut out = Vec::new();
    for (index, text) in [(0, "a [EMA"), (1, "b [CARD"), (0, "IL_1] c"), (1, "_1] d")] {
        out.extend(restore.push(format!("data: {}\n\n", say(index, text)).as_bytes()));
    }
    out.extend(restore.finish());
    let mut heard = [String::new(), String::new()];
    for piece in pieces(&out) {
        let choice = &piece["choices"][0];
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        heard[index].push_str(choice["delta"]["content"].as_str().unwrap());
    }
    assert_eq!(
        heard,
        ["a ada@example.org c", "b 4111 1111 1111 1111 d"].map(str::to_owned)
    );
}
