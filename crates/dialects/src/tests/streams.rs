//! Streams from each dialect to each other, cut anywhere.

use proptest::prelude::*;
use serde_json::Value;

use crate::*;

const CHAT: &str = concat!(
    "data: {\"id\":\"r1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"m\",\"choices\":[{\"index\":0,",
    "\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"Let me \"}}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"see.\"}}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello \"}}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"w\u{f6}rld\"}}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",",
    "\"type\":\"function\",\"function\":{\"name\":\"weather\",\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,",
    "\"function\":{\"arguments\":\"{\\\"city\\\":\"}}]}}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,",
    "\"function\":{\"arguments\":\"\\\"Paris\\\"}\"}}]}}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",",
    "\"type\":\"function\",\"function\":{\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Rome\\\"}\"}}]}}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    "data: {\"id\":\"r1\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":9,",
    "\"total_tokens\":29,\"prompt_tokens_details\":{\"cached_tokens\":5},\"completion_tokens_details\":",
    "{\"reasoning_tokens\":4}}}\n\ndata: [DONE]\n\n",
);
const MESSAGES: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"r1\",\"type\":\"message\",",
    "\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":",
    "{\"input_tokens\":15,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":",
    "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":",
    "{\"type\":\"thinking_delta\",\"thinking\":\"Let me see.\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":",
    "{\"type\":\"signature_delta\",\"signature\":\"EqQ=\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":",
    "{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":",
    "{\"type\":\"text_delta\",\"text\":\"Hello w\u{f6}rld\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":",
    "{\"type\":\"tool_use\",\"id\":\"c1\",\"name\":\"weather\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":",
    "{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":",
    "{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"city\\\":\\\"Paris\\\"}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":3,\"content_block\":",
    "{\"type\":\"tool_use\",\"id\":\"c2\",\"name\":\"weather\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":",
    "{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"city\\\":\\\"Rome\\\"}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":3}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",",
    "\"stop_sequence\":null},\"usage\":{\"output_tokens\":9,\"output_tokens_details\":{\"thinking_tokens\":4}}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);
const GEMINI: &str = concat!(
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Let me see.\",\"thought\":true}],\"role\":\"model\"},",
    "\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":20},\"modelVersion\":\"m\",\"responseId\":\"r1\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hello w\u{f6}rld\"}],\"role\":\"model\"},\"index\":0}],",
    "\"modelVersion\":\"m\",\"responseId\":\"r1\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"id\":\"c1\",\"name\":\"weather\",\"args\":",
    "{\"city\":\"Paris\"}},\"thoughtSignature\":\"Sig=\"},{\"functionCall\":{\"id\":\"c2\",\"name\":\"weather\",",
    "\"args\":{\"city\":\"Rome\"}}}],\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"m\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",",
    "\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":20,\"cachedContentTokenCount\":5,",
    "\"candidatesTokenCount\":5,\"thoughtsTokenCount\":4,\"totalTokenCount\":29},\"modelVersion\":\"m\"}\r\n\r\n",
);
const RESPONSES: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r1\",",
    "\"object\":\"response\",\"created_at\":5,\"status\":\"in_progress\",\"error\":null,\"model\":\"m\",\"output\":[]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":",
    "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[]}}\n\n",
    "event: response.reasoning_summary_part.added\ndata: {\"type\":\"response.reasoning_summary_part.added\",",
    "\"item_id\":\"rs_1\",\"summary_index\":0,\"part\":{\"type\":\"summary_text\",\"text\":\"\"}}\n\n",
    "event: response.reasoning_summary_text.delta\ndata: {\"type\":\"response.reasoning_summary_text.delta\",",
    "\"item_id\":\"rs_1\",\"delta\":\"Let me see.\"}\n\n",
    "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":",
    "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":\"gAA=\"}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":",
    "{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\"content\":[]}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",",
    "\"delta\":\"Hello w\u{f6}rld\",\"logprobs\":[]}\n\n",
    "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"text\":\"Hello w\u{f6}rld\"}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":2,\"item\":",
    "{\"id\":\"fc_1\",\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"weather\",\"arguments\":\"\"}}\n\n",
    "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",",
    "\"item_id\":\"fc_1\",\"delta\":\"{\\\"city\\\":\\\"Paris\\\"}\"}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":3,\"item\":",
    "{\"id\":\"fc_2\",\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":\"weather\",\"arguments\":\"\"}}\n\n",
    "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",",
    "\"item_id\":\"fc_2\",\"delta\":\"{\\\"city\\\":\\\"Rome\\\"}\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r1\",\"status\":",
    "\"completed\",\"model\":\"m\",\"error\":null,\"usage\":{\"input_tokens\":20,\"input_tokens_details\":",
    "{\"cached_tokens\":5},\"output_tokens\":9,\"output_tokens_details\":{\"reasoning_tokens\":4}}}}\n\n",
);
const STREAMS: [(Dialect, &str); 4] = [
    (Dialect::Chat, CHAT),
    (Dialect::Messages, MESSAGES),
    (Dialect::Gemini, GEMINI),
    (Dialect::Responses, RESPONSES),
];
const USAGE: Usage = Usage {
    input: 20,
    cache_read: 5,
    cache_write: 0,
    output: 9,
    reasoning: 4,
};

fn memory() -> Memory {
    Memory {
        stream: true,
        usage_asked: true,
        now: 5,
        ..Memory::default()
    }
}

fn translated(from: Dialect, to: Dialect, pieces: &[&[u8]]) -> String {
    let mut stream = StreamTranslation::new(from, to, &memory()).unwrap();
    let mut made = Vec::new();
    for piece in pieces {
        made.extend(stream.push(piece));
    }
    made.extend(stream.finish());
    String::from_utf8(made).unwrap()
}

/// What a stream of chat tells, put together as its SDK does.
#[derive(Debug, Default, PartialEq)]
struct Told {
    text: String,
    thought: String,
    calls: Vec<(String, String, String)>,
    reason: String,
}

fn told(dialect: Dialect, stream: &str) -> Told {
    let chat = translated(dialect, Dialect::Chat, &[stream.as_bytes()]);
    let mut told = Told::default();
    for line in chat.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if line == "[DONE]" {
            return told;
        }
        let chunk: Value = serde_json::from_str(line).unwrap();
        assert!(chunk.get("error").is_none(), "{chunk}");
        let Some(choice) = chunk["choices"].get(0) else {
            continue;
        };
        let delta = &choice["delta"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        told.text += &text(&delta["content"]);
        told.thought += &text(&delta["reasoning_content"]);
        told.reason += &text(&choice["finish_reason"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if index == told.calls.len() {
                let name = text(&call["function"]["name"]);
                told.calls.push((text(&call["id"]), name, String::new()));
            }
            told.calls[index].2 += &text(&call["function"]["arguments"]);
        }
    }
    panic!("it has no end: {chat}");
}

fn expected() -> Told {
    let call = |id: &str, city: &str| {
        let arguments = format!("{{\"city\":\"{city}\"}}");
        (id.to_owned(), "weather".to_owned(), arguments)
    };
    Told {
        text: "Hello wörld".to_owned(),
        thought: "Let me see.".to_owned(),
        calls: vec![call("c1", "Paris"), call("c2", "Rome")],
        reason: "tool_calls".to_owned(),
    }
}

#[test]
fn each_stream_says_the_same_in_each_dialect() {
    for (from, stream) in STREAMS {
        for (to, _) in STREAMS {
            let made = translated(from, to, &[stream.as_bytes()]);
            assert_eq!(told(to, &made), expected(), "{from:?} to {to:?}: {made}");
            let mut tap = Tap::new(to, true);
            tap.push(made.as_bytes());
            assert_eq!(tap.usage(), Some(USAGE), "{from:?} to {to:?}: {made}");
            assert!(tap.is_complete());
            assert_eq!((tap.model(), tap.error()), (Some("m"), None));
        }
    }
}

#[test]
fn signatures_come_back_to_who_wrote_them() {
    for (to, _) in STREAMS {
        // Chat has a place for those of calls alone.
        if to != Dialect::Chat {
            let there = translated(Dialect::Messages, to, &[MESSAGES.as_bytes()]);
            let back = translated(to, Dialect::Messages, &[there.as_bytes()]);
            assert!(back.contains("\"signature\":\"EqQ=\""), "{to:?}: {back}");
        }
        let there = translated(Dialect::Gemini, to, &[GEMINI.as_bytes()]);
        let back = translated(to, Dialect::Gemini, &[there.as_bytes()]);
        assert!(
            back.contains("\"thoughtSignature\":\"Sig=\""),
            "{to:?}: {there} {back}"
        );
    }
}

#[test]
fn a_stream_that_is_cut_ends_with_an_error() {
    for (from, stream) in STREAMS {
        for (to, _) in STREAMS {
            let made = translated(from, to, &[&stream.as_bytes()[..stream.len() / 2]]);
            let mut tap = Tap::new(to, true);
            tap.push(made.as_bytes());
            assert_eq!(
                tap.error(),
                Some("the provider's stream was cut off"),
                "{made}"
            );
        }
    }
}

#[test]
fn an_error_in_a_stream_is_told() {
    let errors = [
        (
            Dialect::Chat,
            "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n",
        ),
        (
            Dialect::Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}\n\n",
        ),
        (
            Dialect::Gemini,
            "[{\"error\":{\"code\":503,\"message\":\"no\",\"status\":\"UNAVAILABLE\"}}]",
        ),
        (
            Dialect::Responses,
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"no\"}}}\n\n",
        ),
        (
            Dialect::Responses,
            "data: {\"type\":\"error\",\"code\":\"x\",\"message\":\"no\",\"param\":null}\n\n",
        ),
    ];
    for (from, stream) in errors {
        for (to, _) in STREAMS {
            let made = translated(from, to, &[stream.as_bytes()]);
            let mut tap = Tap::new(to, true);
            tap.push(made.as_bytes());
            assert_eq!(tap.error(), Some("no"), "{from:?} to {to:?}: {made}");
            let last = made.matches("no\"").count();
            assert_eq!(last, 1, "it is told once: {made}");
        }
    }
}

#[test]
fn usage_that_was_not_asked_for_is_not_told() {
    let quiet = Memory {
        usage_asked: false,
        ..memory()
    };
    let mut stream = StreamTranslation::new(Dialect::Messages, Dialect::Chat, &quiet).unwrap();
    let made = String::from_utf8(stream.push(MESSAGES.as_bytes())).unwrap();
    assert!(
        !made.contains("usage") && made.ends_with("data: [DONE]\n\n"),
        "{made}"
    );
}

#[test]
fn a_sign_of_life_is_handed_on() {
    let alive = b": still there\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n";
    for (to, expected) in [(Dialect::Chat, ":\n\n:\n\n"), (Dialect::Gemini, "")] {
        let mut stream = StreamTranslation::new(Dialect::Messages, to, &memory()).unwrap();
        assert_eq!(stream.push(alive), expected.as_bytes());
    }
}

#[test]
fn what_cannot_be_translated_ends_a_stream() {
    let block = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\
        \"content_block\":{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_search\",\"input\":{}}}\n\n";
    let start = MESSAGES.find("event: content_block_start").unwrap();
    let stream = format!("{}{block}{}", &MESSAGES[..start], &MESSAGES[start..]);
    let made = translated(Dialect::Messages, Dialect::Chat, &[stream.as_bytes()]);
    assert!(
        made.contains("`content_block`: this block cannot be translated"),
        "{made}"
    );
    assert!(
        !made.contains("Hello") && !made.contains("[DONE]"),
        "{made}"
    );
}

proptest! {
    #[test]
    fn a_stream_with_any_damage_is_survived(
        from in 0..STREAMS.len(), to in 0..STREAMS.len(), at in any::<usize>(),
        with in prop_oneof![Just(""), Just("\""), Just("{"), Just("]"), Just("\n\n"), Just("null"), Just("\\")],
        length in 0..40_usize,
    ) {
        let ((from, stream), (to, _)) = (STREAMS[from], STREAMS[to]);
        let mut bytes = stream.as_bytes().to_vec();
        let at = at % bytes.len();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        let made = translated(from, to, &[&bytes]);
        // It came to its end, or says why not.
        let mut tap = Tap::new(to, true);
        tap.push(made.as_bytes());
        prop_assert!(tap.is_complete() || tap.error().is_some(), "{}", made);
    }

    #[test]
    fn any_cut_gives_the_same(
        from in 0..STREAMS.len(), to in 0..STREAMS.len(),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let ((from, stream), (to, _)) = (STREAMS[from], STREAMS[to]);
        let bytes = stream.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[start..cut]);
            start = cut;
        }
        prop_assert_eq!(translated(from, to, &pieces), translated(from, to, &[bytes]));
    }
}
