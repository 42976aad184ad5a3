//! Answers and errors as providers give them, in another dialect.

use serde_json::{Value, json};

use crate::*;

fn becomes(from: Dialect, to: Dialect, body: &Value, expected: &Value) {
    let memory = Memory {
        now: 7,
        ..Memory::default()
    };
    let made = translate_answer(from, to, body.to_string().as_bytes(), &memory).unwrap();
    let made: Value = serde_json::from_slice(&made).unwrap();
    assert_eq!(&made, expected, "{made:#}");
}

fn chat() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "gpt-5", "service_tier": "default",
        "system_fingerprint": "fp", "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": "I look.", "refusal": null, "annotations": [],
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look",
                    "arguments": "{\"z\":1}"}}]}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 4}}
    })
}

fn messages() -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "container": null,
        "content": [{"type": "thinking", "thinking": "Hm.", "signature": "EqQ="},
            {"type": "text", "text": "I look.", "citations": null},
            {"type": "tool_use", "id": "c1", "name": "look", "input": {"z": 1}, "caller": {"type": "direct"}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 15, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0,
            "output_tokens": 9, "service_tier": "standard"}
    })
}

#[test]
fn chat_becomes_messages() {
    let expected = json!({
        "id": "chatcmpl-1", "type": "message", "role": "assistant", "model": "gpt-5",
        "content": [{"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "c1", "name": "look", "input": {"z": 1}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 15, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0,
            "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}
    });
    becomes(Dialect::Chat, Dialect::Messages, &chat(), &expected);
}

#[test]
fn messages_become_chat() {
    let expected = json!({
        "id": "msg_1", "object": "chat.completion", "created": 7, "model": "claude",
        "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "I look.", "refusal": null, "reasoning_content": "Hm.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look",
                "arguments": "{\"z\":1}"}}]}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 0}}
    });
    becomes(Dialect::Messages, Dialect::Chat, &messages(), &expected);
}

#[test]
fn messages_become_gemini() {
    let expected = json!({
        "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"text": "Hm.", "thought": true, "thoughtSignature": "skep.messages.EqQ="},
            {"text": "I look."},
            {"functionCall": {"id": "c1", "name": "look", "args": {"z": 1}}}]}}],
        "usageMetadata": {"promptTokenCount": 20, "cachedContentTokenCount": 5, "candidatesTokenCount": 9,
            "totalTokenCount": 29},
        "modelVersion": "claude", "responseId": "msg_1"
    });
    becomes(Dialect::Messages, Dialect::Gemini, &messages(), &expected);
}

#[test]
fn messages_become_responses() {
    let body = messages();
    let memory = translate_request(
        Dialect::Responses,
        Dialect::Messages,
        br#"{"model":"m","input":"x","temperature":0.5}"#,
        "claude",
        false,
    );
    let (_, memory) = memory.unwrap();
    let made = translate_answer(
        Dialect::Messages,
        Dialect::Responses,
        body.to_string().as_bytes(),
        &memory,
    );
    let made: Value = serde_json::from_slice(&made.unwrap()).unwrap();
    let output = json!([
        {"type": "reasoning", "id": "rs_msg_1_0", "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "skep.messages.EqQ="},
        {"type": "message", "id": "msg_msg_1_1", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
        {"type": "function_call", "id": "fc_msg_1_2", "status": "completed", "call_id": "c1", "name": "look",
            "arguments": "{\"z\":1}"}]);
    assert_eq!(made["output"], output);
    assert_eq!(made["status"], "completed");
    assert_eq!(made["temperature"], 0.5);
    assert_eq!(made["tools"], json!([]));
    assert_eq!(made["usage"]["input_tokens"], 20);
}

#[test]
fn a_gemini_call_without_an_id_gets_one() {
    let body = json!({
        "candidates": [{"content": {"role": "model", "parts": [
            {"functionCall": {"name": "look", "args": {}}, "thoughtSignature": "Sig="},
            {"functionCall": {"name": "look"}}]}, "finishReason": "STOP", "index": 0, "avgLogprobs": -0.1}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        "modelVersion": "gemini", "responseId": "r1"
    });
    let expected = json!({
        "id": "r1", "type": "message", "role": "assistant", "model": "gemini",
        "content": [{"type": "thinking", "thinking": "", "signature": "skep.gemini.Sig="},
            {"type": "tool_use", "id": "call_r1_0", "name": "look", "input": {}},
            {"type": "tool_use", "id": "call_r1_1", "name": "look", "input": {}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
            "output_tokens": 2}
    });
    becomes(Dialect::Gemini, Dialect::Messages, &body, &expected);
    // And the provider gets its signature again, with the call.
    let next = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "assistant", "content": expected["content"]}]});
    let made = translate_request(
        Dialect::Messages,
        Dialect::Gemini,
        next.to_string().as_bytes(),
        "m",
        false,
    );
    let made: Value = serde_json::from_slice(&made.unwrap().0).unwrap();
    let parts = &made["contents"][0]["parts"];
    assert_eq!(parts[0]["thoughtSignature"], "Sig=");
    assert_eq!(parts[1].get("thoughtSignature"), None);
}

#[test]
fn a_prompt_that_is_blocked_is_a_refusal() {
    let body = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}});
    let made = translate_answer(
        Dialect::Gemini,
        Dialect::Messages,
        body.to_string().as_bytes(),
        &Memory::default(),
    );
    let made: Value = serde_json::from_slice(&made.unwrap()).unwrap();
    assert_eq!(
        (&made["stop_reason"], &made["content"]),
        (&json!("refusal"), &json!([]))
    );
}

#[test]
fn answers_that_say_what_cannot_be_said_are_refused() {
    let mut odd = messages();
    odd["content"][0] =
        json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}});
    let mut broken = chat();
    broken["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = json!("{not json");
    let failed = json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]});
    let cases = [
        (
            Dialect::Messages,
            Dialect::Chat,
            odd,
            "`content[0]`: this block cannot be translated",
        ),
        (
            Dialect::Chat,
            Dialect::Messages,
            broken,
            "`choices[0].message.tool_calls[0]`: the arguments must be a JSON object",
        ),
        (
            Dialect::Gemini,
            Dialect::Chat,
            failed,
            "`finishReason`: the model stopped with MALFORMED_FUNCTION_CALL",
        ),
    ];
    for (from, to, body, expected) in cases {
        let body = body.to_string();
        let refused = translate_answer(from, to, body.as_bytes(), &Memory::default());
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
}

#[test]
fn errors_are_understood_by_the_other_sdk() {
    let errors = [
        (
            Dialect::Chat,
            json!({"error": {"message": "no", "type": "x", "param": null, "code": "slow"}}),
        ),
        (
            Dialect::Messages,
            json!({"type": "error", "error": {"type": "slow", "message": "no"}}),
        ),
        (
            Dialect::Gemini,
            json!({"error": {"code": 429, "message": "no", "status": "slow"}}),
        ),
        (
            Dialect::Gemini,
            json!([{"error": {"code": 429, "message": "no", "status": "slow"}}]),
        ),
        (
            Dialect::Responses,
            json!({"error": {"message": "no", "type": "x", "code": "slow"}}),
        ),
    ];
    for (from, body) in errors {
        let body = body.to_string();
        let (status, made) = translate_error(from, Dialect::Messages, 429, body.as_bytes());
        let expected =
            json!({"type": "error", "error": {"type": "rate_limit_error", "message": "no"}});
        assert_eq!(
            (status, serde_json::from_slice::<Value>(&made).unwrap()),
            (429, expected)
        );
        let (_, made) = translate_error(from, Dialect::Gemini, 429, body.as_bytes());
        let expected =
            json!({"error": {"code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED"}});
        assert_eq!(serde_json::from_slice::<Value>(&made).unwrap(), expected);
        let (_, made) = translate_error(from, Dialect::Chat, 429, body.as_bytes());
        let made: Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(made["error"]["message"], "no");
    }
    let busy = translate_error(Dialect::Messages, Dialect::Chat, 529, b"<html>busy");
    assert_eq!(busy.0, 503);
    assert!(String::from_utf8(busy.1).unwrap().contains("<html>busy"));
    let own = error_body(Dialect::Gemini, 403, "model_denied", "You may not.");
    let own: Value = serde_json::from_slice(&own).unwrap();
    assert_eq!(own["error"]["details"][0]["reason"], "model_denied");
    assert_eq!(own["error"]["status"], "PERMISSION_DENIED");
    let own = error_body(Dialect::Responses, 403, "model_denied", "You may not.");
    let own: Value = serde_json::from_slice(&own).unwrap();
    assert_eq!(own["error"]["code"], "model_denied");
}
