//! Answers of agents, as they come over the wire, become runs.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::checker::Checker;
use crate::adapt::{Adapter, FAILED, Protocol, ask};
use crate::agui::{Body, End, Event, Fold, INCOMPLETE, MALFORMED, Order, RunAgentInput, TOO_MUCH};
use crate::stream::{MOST_FRAME, frame};

const SSE: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";

const CHAT_STREAM: &str = concat!(
    "data: {\"id\":\"r1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":",
    "{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"Let me see.\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello \"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"w\u{f6}rld\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":\"function\",",
    "\"function\":{\"name\":\"weather\",\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"city\\\":\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":\"function\",",
    "\"function\":{\"name\":\"weather\",\"arguments\":\"{}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\"Paris\\\"}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    "data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":9,\"total_tokens\":29,",
    "\"prompt_tokens_details\":{\"cached_tokens\":5}}}\n\ndata: [DONE]\n\n",
);

const RESPONSES_STREAM: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",",
    "\"object\":\"response\",\"status\":\"in_progress\",\"output\":[]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":",
    "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[]}}\n\n",
    "event: response.reasoning_summary_text.delta\ndata: {\"type\":\"response.reasoning_summary_text.delta\",",
    "\"item_id\":\"rs_1\",\"output_index\":0,\"delta\":\"Let me see.\"}\n\n",
    "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":",
    "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"Let me see.\"}]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":",
    "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",",
    "\"output_index\":1,\"content_index\":0,\"delta\":\"Hello \"}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",",
    "\"output_index\":1,\"content_index\":0,\"delta\":\"w\u{f6}rld\"}\n\n",
    "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"id\":",
    "\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hello w\u{f6}rld\"}]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":2,\"item\":{\"id\":",
    "\"fc_1\",\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"weather\",\"arguments\":\"\"}}\n\n",
    "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",",
    "\"item_id\":\"fc_1\",\"output_index\":2,\"delta\":\"{\\\"city\\\":\\\"Paris\\\"}\"}\n\n",
    "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":2,\"item\":{\"id\":\"fc_1\",",
    "\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Paris\\\"}\"}}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",",
    "\"status\":\"completed\",\"model\":\"m\",\"output\":[],\"usage\":{\"input_tokens\":20,\"output_tokens\":9,",
    "\"total_tokens\":29,\"input_tokens_details\":{\"cached_tokens\":5},\"output_tokens_details\":{\"reasoning_tokens\":4}}}}\n\n",
);

/// What Strands streams through `AgentCore`: its own events beside those of the model.
const INVOCATIONS_STREAM: &str = concat!(
    "data: \"{'init_event_loop': True, 'agent': <strands.agent.agent.Agent object at 0x7f>}\"\n\n",
    "data: {\"event\": {\"messageStart\": {\"role\": \"assistant\"}}}\n\n",
    "data: {\"event\": {\"contentBlockDelta\": {\"delta\": {\"text\": \"Hello \"}, \"contentBlockIndex\": 0}}}\n\n",
    "data: {\"data\": \"Hello \", \"delta\": {\"text\": \"Hello \"}}\n\n",
    "data: {\"event\": {\"contentBlockDelta\": {\"delta\": {\"text\": \"w\u{f6}rld\"}, \"contentBlockIndex\": 0}}}\n\n",
    "data: \"{'data': 'w\u{f6}rld', 'delta': {'text': 'w\u{f6}rld'}, 'event_loop_cycle_id': UUID('0')}\"\n\n",
    "data: {\"event\": {\"contentBlockStop\": {\"contentBlockIndex\": 0}}}\n\n",
    "data: {\"event\": {\"contentBlockStart\": {\"start\": {\"toolUse\": {\"toolUseId\": \"c1\", \"name\": \"weather\"}}, ",
    "\"contentBlockIndex\": 1}}}\n\n",
    "data: {\"event\": {\"contentBlockDelta\": {\"delta\": {\"toolUse\": {\"input\": \"{\\\"city\\\":\\\"Paris\\\"}\"}}, ",
    "\"contentBlockIndex\": 1}}}\n\n",
    "data: {\"event\": {\"contentBlockStop\": {\"contentBlockIndex\": 1}}}\n\n",
    "data: {\"event\": {\"messageStop\": {\"stopReason\": \"tool_use\"}}}\n\n",
    "data: {\"message\": {\"role\": \"assistant\", \"content\": [{\"text\": \"Hello w\u{f6}rld\"}]}}\n\n",
);

const AGUI_STREAM: &str = concat!(
    ": hello\r\n\r\nevent: message\r\nid: 1\r\ndata: {\"type\":\"RUN_STARTED\",\"threadId\":\"x\",\r\ndata: \"runId\":\"y\"}\r\n\r\n",
    "data: {\"type\":\"TEXT_MESSAGE_START\",\"messageId\":\"m\",\"role\":\"assistant\"}\n\n",
    "data:{\"type\":\"TEXT_MESSAGE_CONTENT\",\"messageId\":\"m\",\"delta\":\"Hello \"}\r\r",
    "data: {\"type\":\"TEXT_MESSAGE_CONTENT\",\"message_id\":\"m\",\"delta\":\"w\u{f6}rld\"}\n\n",
    "data: {\"type\":\"TEXT_MESSAGE_END\",\"messageId\":\"m\"}\n\n",
    "data: {\"type\":\"RUN_FINISHED\",\"threadId\":\"x\",\"runId\":\"y\"}",
);

/// What an answer becomes, cut in pieces of a length, as events in order.
fn events(protocol: Protocol, status: u16, kind: &str, body: &[u8], length: usize) -> Vec<Event> {
    let input = RunAgentInput::new("thread", "run");
    let mut adapter = Adapter::new(protocol, status, kind, "run");
    let mut order = Order::new(&input);
    let mut told = order.start();
    for piece in body.chunks(length) {
        told.extend(
            adapter
                .push(piece)
                .into_iter()
                .flat_map(|it| order.push(it)),
        );
    }
    told.extend(adapter.finish().into_iter().flat_map(|it| order.push(it)));
    assert!(order.is_over(), "an adapter says how it ends");
    assert_eq!(adapter.push(b"late"), []);
    assert_eq!(order.end(End::Finished), []);
    assert_eq!(Checker::all(&input, &told), Ok(()));
    told
}

fn fold(events: &[Event]) -> Fold {
    let mut fold = Fold::default();
    for event in events {
        fold.apply(event).unwrap();
    }
    fold
}

/// The conversation in short: roles, texts, and calls; and how the run ends.
fn short(protocol: Protocol, status: u16, kind: &str, body: &str) -> (Vec<String>, Value) {
    let told = events(protocol, status, kind, body.as_bytes(), usize::MAX);
    let fold = fold(&told);
    let messages = fold.messages().iter().map(|message| {
        let calls = message.tool_calls().iter().map(|it| {
            let function = &it.function;
            format!(" {}={}({})", it.id, function.name, function.arguments)
        });
        let role = serde_json::to_value(message).unwrap()["role"].clone();
        format!(
            "{}: {}{}",
            role.as_str().unwrap(),
            message.text(),
            calls.collect::<String>()
        )
    });
    let mut end = serde_json::to_value(fold.end().unwrap()).unwrap();
    let end = end.as_object_mut().unwrap();
    for name in ["threadId", "runId", "type", "outcome"] {
        end.remove(name);
    }
    (messages.collect(), end.clone().into())
}

fn usage() -> Value {
    json!({"usage": [{"model": "m", "inputTokens": 20, "outputTokens": 9, "totalTokens": 29, "cachedInputTokens": 5}]})
}

#[test]
fn streams_become_messages() {
    let call = " c1=weather({\"city\":\"Paris\"})";
    let thought = "reasoning: Let me see.".to_owned();
    let hello = |more: &str| format!("assistant: Hello w\u{f6}rld{more}");
    let (messages, end) = short(Protocol::Http, 200, SSE, CHAT_STREAM);
    let calls = format!("{call} c2=weather({{}})");
    assert_eq!(messages, [thought.clone(), hello(&calls)]);
    assert_eq!(end, usage());
    let mut with_reasoning = usage();
    with_reasoning["usage"][0]["reasoningTokens"] = 4.into();
    for protocol in [Protocol::Responses, Protocol::Http] {
        let (messages, end) = short(protocol, 200, SSE, RESPONSES_STREAM);
        assert_eq!(messages, [thought.clone(), hello(call)]);
        assert_eq!(end, with_reasoning);
    }
    let (messages, end) = short(Protocol::Invocations, 200, SSE, INVOCATIONS_STREAM);
    assert_eq!((messages, end), (vec![hello(call)], json!({})));
    for protocol in [Protocol::Agui, Protocol::Http, Protocol::Invocations] {
        let told = short(protocol, 200, SSE, AGUI_STREAM);
        assert_eq!(told, (vec![hello("")], json!({})));
    }
}

/// Content types and answers, the text that they are, and how the run ends.
const ANSWERS: &[[&str; 4]] = &[
    ["text/plain", "Hi there", "Hi there", "{}"],
    ["", "Hi there", "Hi there", "{}"],
    ["", " {\"output\": \"Hi\"}", "Hi", "{}"],
    [JSON, "\"Hi\"", "Hi", "{}"],
    [
        JSON,
        "{\"answer\": \"Hi\", \"score\": 1}",
        "Hi",
        "{\"result\": {\"answer\": \"Hi\", \"score\": 1}}",
    ],
    [
        JSON,
        "{\"result\": {\"role\": \"assistant\", \"content\": [{\"text\": \"Hi\"}]}}",
        "Hi",
        "{}",
    ],
    [
        JSON,
        "{\"rows\": [1, 2]}",
        "",
        "{\"result\": {\"rows\": [1, 2]}}",
    ],
    [JSON, "[1, 2]", "", "{\"result\": [1, 2]}"],
    [
        JSON,
        "",
        "",
        "{\"code\": \"agent_malformed\", \"message\": \"the agent's answer should be JSON, and is none\"}",
    ],
    [
        JSON,
        "{\"error\": \"no\\u001b money\"}",
        "",
        "{\"code\": \"agent_failed\", \"message\": \"no  money\"}",
    ],
    [
        "application/problem+json",
        "[{\"type\":\"TEXT_MESSAGE_CHUNK\",\"messageId\":\"m\",\"delta\":\"Hi\"},{\"type\":\"RUN_FINISHED\"}]",
        "Hi",
        "{}",
    ],
    [
        SSE,
        "data: Hi\n\ndata:  there\n\ndata: 5\n\n",
        "Hi there5",
        "{}",
    ],
    [
        SSE,
        "data: \"Hi\"\n\ndata: {\"text\": \" you\"}\n\ndata: [DONE]\n\n",
        "Hi you",
        "{}",
    ],
    [
        SSE,
        "data: {\"error\": {\"message\": \"it broke\"}}\n\ndata: more\n\n",
        "",
        "{\"code\": \"agent_failed\", \"message\": \"it broke\"}",
    ],
    [
        "application/x-ndjson",
        "{\"delta\": \"Hi\"}\n\n{\"delta\": \" you\"}",
        "Hi you",
        "{}",
    ],
];

#[test]
fn whatever_http_answers_is_understood() {
    for [kind, body, text, end] in ANSWERS {
        let told = short(Protocol::Http, 200, kind, body);
        let text = format!("assistant: {text}");
        let messages = vec![text].into_iter().filter(|it| it != "assistant: ");
        let end = serde_json::from_str(end).unwrap();
        assert_eq!(told, (messages.collect(), end), "{kind} {body}");
    }
    let nothing = (Vec::new(), json!({}));
    assert_eq!(short(Protocol::Http, 204, JSON, ""), nothing);
    let completion = json!({"object": "chat.completion", "model": "m", "choices": [{"message": {"role": "assistant",
        "content": "Hi", "reasoning_content": "hm", "tool_calls": [{"id": "c1", "type": "function",
        "function": {"name": "t", "arguments": "{}"}}]}, "finish_reason": "stop"}]});
    let (messages, _) = short(Protocol::Http, 200, JSON, &completion.to_string());
    assert_eq!(messages, ["reasoning: hm", "assistant: Hi c1=t({})"]);
    let response = json!({"object": "response", "status": "completed", "model": "m", "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "c1", "name": "t", "arguments": "{}"}]});
    let (messages, _) = short(Protocol::Responses, 200, JSON, &response.to_string());
    assert_eq!(messages, ["assistant: Hi c1=t({})"]);
}

/// Answers that fail: the protocol, the status, the content type, the answer, the code and the message.
const FAILURES: &[(Protocol, u16, [&str; 4])] = &[
    (
        Protocol::Http,
        500,
        [
            "text/plain",
            "bad \u{1b}[2J luck",
            FAILED,
            "the agent answered with status 500: bad  [2J luck",
        ],
    ),
    (
        Protocol::Agui,
        422,
        [
            JSON,
            "{\"detail\": [{\"msg\": \"x\"}]}",
            FAILED,
            "the agent answered with status 422: [{\"msg\":\"x\"}]",
        ],
    ),
    (
        Protocol::Http,
        302,
        ["", "", FAILED, "the agent answered with status 302"],
    ),
    (
        Protocol::Http,
        503,
        [
            "text/html",
            "<html>sorry</html>",
            FAILED,
            "the agent answered with status 503",
        ],
    ),
    (
        Protocol::Http,
        400,
        [
            JSON,
            "{\"error\": {\"message\": \"no key\"}}",
            FAILED,
            "the agent answered with status 400: no key",
        ],
    ),
    (
        Protocol::Agui,
        200,
        [
            SSE,
            "data: nonsense\n\n",
            MALFORMED,
            "the agent should answer with a stream of events",
        ],
    ),
    (
        Protocol::Agui,
        200,
        [
            SSE,
            "data: {\"type\":\"TEXT_MESSAGE_CONTENT\",\"messageId\":\"m\"}\n\n",
            MALFORMED,
            "an event of the agent: delta: it is missing; it must be a text",
        ],
    ),
    (
        Protocol::Responses,
        200,
        [
            SSE,
            "data: {\"a\":1}\n\n",
            MALFORMED,
            "the agent should answer with events of a response",
        ],
    ),
    (
        Protocol::Responses,
        200,
        [
            SSE,
            "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"message\":\"oops\"}}}\n\n",
            FAILED,
            "oops",
        ],
    ),
    (
        Protocol::Responses,
        200,
        [
            SSE,
            "data: {\"type\":\"error\",\"code\":\"x\",\"message\":\"oops\",\"sequence_number\":1}\n\n",
            FAILED,
            "oops",
        ],
    ),
];

#[test]
fn what_fails_ends_as_an_error_that_harms_nobody() {
    for (protocol, status, [kind, body, code, message]) in FAILURES {
        let (_, end) = short(*protocol, *status, kind, body);
        assert_eq!(end, json!({"code": code, "message": message}), "{body}");
    }
}

#[test]
fn what_is_cut_off_or_too_long_is_an_error() {
    let (agui, _) = AGUI_STREAM
        .split_once("data: {\"type\":\"RUN_FINISHED\"")
        .unwrap();
    let (response, _) = RESPONSES_STREAM
        .split_once("event: response.completed")
        .unwrap();
    for (protocol, body) in [
        (Protocol::Agui, agui),
        (Protocol::Http, agui),
        (Protocol::Responses, response),
        (Protocol::Http, response),
    ] {
        let (messages, end) = short(protocol, 200, SSE, body);
        assert_eq!(end["code"], INCOMPLETE);
        assert!(
            messages.iter().any(|it| it.contains("Hello w\u{f6}rld")),
            "what came is kept"
        );
    }
    let long = ["data: ", &"x".repeat(MOST_FRAME + 1), "\n\n"].concat();
    for (kind, body) in [(SSE, &long), (JSON, &"1".repeat(MOST_FRAME + 1))] {
        let told = events(Protocol::Http, 200, kind, body.as_bytes(), 1 << 20);
        let code = Some(TOO_MUCH.to_owned());
        assert!(
            matches!(&told.last().unwrap().body, Body::RunError { code: told, .. } if *told == code)
        );
    }
}

/// Fixtures, by protocol and content type.
fn fixtures() -> Vec<(Protocol, &'static str, &'static str)> {
    vec![
        (Protocol::Http, SSE, CHAT_STREAM),
        (
            Protocol::Http,
            "text/plain",
            "Gr\u{fc}\u{df}e \u{1f41d}, \u{4f60}\u{597d}",
        ),
        (
            Protocol::Http,
            "application/jsonl",
            "{\"text\":\"\u{1f41d}\"}\r\n{\"text\":\"b\"}\r",
        ),
        (Protocol::Http, "", "  {\"output\":\"b\"}"),
        (Protocol::Http, JSON, "{\"output\":\"\u{1f41d}\"}"),
        (Protocol::Responses, SSE, RESPONSES_STREAM),
        (Protocol::Invocations, SSE, INVOCATIONS_STREAM),
        (Protocol::Agui, SSE, AGUI_STREAM),
    ]
}

proptest! {
    #[test]
    fn how_bytes_are_cut_makes_no_difference(
        fixture in prop::sample::select(fixtures()),
        length in 1..40_usize,
        end in any::<prop::sample::Index>(),
        junk in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let (protocol, kind, body) = fixture;
        // Cut off anywhere, with anything behind.
        let cut = &body.as_bytes()[..end.index(body.len() + 1)];
        let body = [cut, &junk].concat();
        let whole = events(protocol, 200, kind, &body, usize::MAX);
        let pieces = events(protocol, 200, kind, &body, length);
        // A text without frames comes in other pieces, and is the same text.
        prop_assert_eq!(fold(&whole), fold(&pieces));
        if !["", "text/plain"].contains(&kind) {
            prop_assert_eq!(whole, pieces);
        }
    }
}

/// What an agent of Pydantic AI 2.68 answers, with reasoning, text, a tool and its result.
const PYDANTIC: &str = include_str!("pydantic.sse");

#[test]
fn who_speaks_the_protocol_well_is_told_as_it_speaks() {
    let told = events(Protocol::Agui, 200, SSE, PYDANTIC.as_bytes(), 100);
    let data = PYDANTIC.lines().filter_map(|it| it.strip_prefix("data: "));
    let mut wanted: Vec<Value> = data.map(|it| serde_json::from_str(it).unwrap()).collect();
    let first = wanted.first_mut().unwrap().as_object_mut().unwrap();
    first.remove("timestamp");
    for (at, event) in wanted.iter_mut().enumerate() {
        // Its run is ours.
        if event.get("runId").is_some() {
            event["threadId"] = "thread".into();
            event["runId"] = "run".into();
        }
        assert_eq!(serde_json::to_value(&told[at]).unwrap(), *event);
    }
    assert_eq!(wanted.len(), told.len());
}

#[test]
fn our_stream_is_read_as_it_was_written() {
    let told = events(Protocol::Http, 200, SSE, CHAT_STREAM.as_bytes(), 7);
    let at = |it: usize| it.to_string();
    let written = told
        .iter()
        .enumerate()
        .flat_map(|(it, event)| frame(event, Some(&at(it))));
    let written: Vec<u8> = written.collect();
    assert!(written.starts_with(b"id: 0\ndata: {\"type\":\"RUN_STARTED\","));
    assert_eq!(events(Protocol::Agui, 200, SSE, &written, usize::MAX), told);
}

#[test]
fn each_agent_is_asked_in_its_own_words() {
    let input = RunAgentInput::read(json!({
        "threadId": "t", "runId": "r",
        "messages": [
            {"id": "1", "role": "system", "content": "Be kind."},
            {"id": "2", "role": "user", "content": [{"type": "text", "text": "Look"},
                {"type": "image", "source": {"type": "data", "value": "AA==", "mimeType": "image/png"}}]},
            {"id": "3", "role": "reasoning", "content": "hm"},
            {"id": "4", "role": "assistant", "toolCalls": [{"id": "c", "type": "function",
                "function": {"name": "x", "arguments": "{}"}}]},
            {"id": "5", "role": "tool", "toolCallId": "c", "content": "4"},
        ],
        "tools": [{"name": "x", "description": "d"}],
    }))
    .unwrap();
    let asked = |protocol| {
        let ask = ask(protocol, &input);
        (
            ask.path,
            serde_json::from_slice::<Value>(&ask.body).unwrap(),
        )
    };
    let (path, body) = asked(Protocol::Agui);
    assert_eq!(
        (path, &body["state"], &body["context"]),
        ("/", &json!({}), &json!([]))
    );
    assert_eq!(RunAgentInput::read(body).unwrap().messages, input.messages);
    let call = json!({"id": "c", "type": "function", "function": {"name": "x", "arguments": "{}"}});
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    let messages = json!([
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, image]},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ]);
    let (path, body) = asked(Protocol::Http);
    assert_eq!(
        (path, &body["input"], &body["messages"]),
        ("/", &json!("Look"), &messages)
    );
    let (path, body) = asked(Protocol::Invocations);
    assert_eq!(
        (path, &body["prompt"], &body["threadId"]),
        ("/invocations", &json!("Look"), &json!("t"))
    );
    let (path, body) = asked(Protocol::Responses);
    assert_eq!(path, "/v1/responses");
    assert_eq!(
        body["input"],
        json!([
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
            {"type": "function_call", "call_id": "c", "name": "x", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
        ])
    );
    for (name, protocol) in Protocol::ALL {
        assert_eq!(Protocol::of(name), Some(protocol));
        let ask = ask(protocol, &input);
        assert!(
            ask.headers
                .iter()
                .all(|(name, _)| *name == name.to_ascii_lowercase())
        );
    }
}
