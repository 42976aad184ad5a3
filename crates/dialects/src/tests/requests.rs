//! Requests as agents send them, in another dialect.

use serde_json::{Value, json};

use crate::*;

fn translated(from: Dialect, to: Dialect, body: &Value) -> Result<Value, String> {
    let made = translate_request(from, to, body.to_string().as_bytes(), "target", false);
    let (made, _) = made.map_err(|error| error.to_string())?;
    Ok(serde_json::from_slice(&made).unwrap())
}

fn becomes(from: Dialect, to: Dialect, body: &Value, expected: &Value) {
    let made = translated(from, to, body).unwrap();
    assert_eq!(&made, expected, "{made:#}");
}

fn chat() -> Value {
    json!({
        "model": "gpt-5", "user": "u1", "stream": false, "temperature": 0.5, "max_completion_tokens": 300,
        "stop": "END", "reasoning_effort": "high", "parallel_tool_calls": false, "tool_choice": "auto",
        "tools": [{"type": "function", "function": {"name": "weather", "description": "Tells it.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            "strict": true}}],
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}},
                {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "sun"},
            {"role": "tool", "tool_call_id": "c2", "content": "snow"},
            {"role": "user", "content": "And now?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": {"type": "object"},
            "strict": true}}
    })
}

#[test]
fn chat_becomes_messages() {
    let expected = json!({
        "model": "target", "max_tokens": 300, "system": "Be kind.", "temperature": 0.5, "stop_sequences": ["END"],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "c2", "name": "weather", "input": {"city": "Oslo"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "sun"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "snow"},
                {"type": "text", "text": "And now?"}]}],
        "tools": [{"name": "weather", "description": "Tells it.", "strict": true, "input_schema":
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    });
    becomes(Dialect::Chat, Dialect::Messages, &chat(), &expected);
}

#[test]
fn chat_becomes_gemini() {
    let mut body = chat();
    let refused = translated(Dialect::Chat, Dialect::Gemini, &body).unwrap_err();
    assert_eq!(
        refused,
        "`parallel_tool_calls`: the provider's API has nothing like it"
    );
    body["parallel_tool_calls"] = json!(true);
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "What is this?"},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
            {"role": "model", "parts": [
                {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Rome"}}},
                {"functionCall": {"id": "c2", "name": "weather", "args": {"city": "Oslo"}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "sun"}}},
                {"functionResponse": {"id": "c2", "name": "weather", "response": {"output": "snow"}}},
                {"text": "And now?"}]}],
        "tools": [{"functionDeclarations": [{"name": "weather", "description": "Tells it.", "parametersJsonSchema":
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}},
        "generationConfig": {"maxOutputTokens": 300, "temperature": 0.5, "stopSequences": ["END"],
            "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
            "thinkingConfig": {"thinkingLevel": "HIGH"}}
    });
    becomes(Dialect::Chat, Dialect::Gemini, &body, &expected);
}

#[test]
fn chat_becomes_responses() {
    let mut body = chat();
    let refused = translated(Dialect::Chat, Dialect::Responses, &body).unwrap_err();
    assert_eq!(refused, "`stop`: the provider's API has nothing like it");
    body["stop"] = Value::Null;
    let expected = json!({
        "model": "target", "store": false, "temperature": 0.5, "max_output_tokens": 300,
        "parallel_tool_calls": false, "tool_choice": "auto", "reasoning": {"effort": "high"},
        "include": ["reasoning.encrypted_content"],
        "tools": [{"type": "function", "name": "weather", "description": "Tells it.", "strict": true, "parameters":
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}],
        "text": {"format": {"type": "json_schema", "name": "form", "schema": {"type": "object"}, "strict": true}},
        "input": [
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\":\"Rome\"}"},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{\"city\":\"Oslo\"}"},
            {"type": "function_call_output", "call_id": "c1", "output": "sun"},
            {"type": "function_call_output", "call_id": "c2", "output": "snow"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And now?"}]}]
    });
    becomes(Dialect::Chat, Dialect::Responses, &body, &expected);
}

fn messages() -> Value {
    json!({
        "model": "claude", "max_tokens": 9000, "stream": true, "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled", "budget_tokens": 5000},
        "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "tool", "name": "look"},
        "messages": [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "EqQ="},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"z": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "is_error": true,
                    "content": [{"type": "text", "text": "It is dark."}]},
                {"type": "text", "text": "Again."}]}]
    })
}

#[test]
fn messages_become_chat() {
    let expected = json!({
        "model": "target", "max_tokens": 9000, "stream": true, "stream_options": {"include_usage": true},
        "reasoning_effort": "medium",
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "t1", "type": "function",
                "function": {"name": "look", "arguments": "{\"z\":1}"}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "Error: It is dark."},
            {"role": "user", "content": "Again."}]
    });
    becomes(Dialect::Messages, Dialect::Chat, &messages(), &expected);
    // The order of what a model wrote is kept, by which `z` comes first.
    let newest = translate_request(
        Dialect::Messages,
        Dialect::Chat,
        br#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}],
            "tools":[{"name":"t","input_schema":{"type":"object","properties":{"z":{},"a":{}}}}]}"#,
        "gpt-5",
        false,
    );
    let newest = String::from_utf8(newest.unwrap().0).unwrap();
    assert!(
        newest.contains(r#""properties":{"z":{},"a":{}}"#),
        "{newest}"
    );
    assert!(newest.contains(r#""max_completion_tokens":5"#), "{newest}");
}

#[test]
fn messages_become_gemini() {
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Look."}]},
            {"role": "model", "parts": [{"text": "I look."},
                {"functionCall": {"id": "t1", "name": "look", "args": {"z": 1}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "t1", "name": "look", "response": {"error": "It is dark."}}},
                {"text": "Again."}]}],
        "tools": [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": {"type": "object"}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "generationConfig": {"maxOutputTokens": 9000,
            "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 5000}}
    });
    becomes(Dialect::Messages, Dialect::Gemini, &messages(), &expected);
}

#[test]
fn gemini_becomes_chat() {
    let body = json!({
        "system_instruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"parts": [{"text": "Rome and Oslo?"}]},
            {"role": "model", "parts": [
                {"functionCall": {"name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "Sig="},
                {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "weather", "response": {"sky": "blue"}}},
                {"functionResponse": {"name": "weather", "response": {"output": "snow"}}}]}],
        "tools": [{"function_declarations": [{"name": "weather", "parameters": {"type": "OBJECT", "properties":
            {"city": {"type": "STRING", "nullable": true, "enum": ["Rome"]}}, "propertyOrdering": ["city"]}}]}],
        "generationConfig": {"max_output_tokens": 10, "responseMimeType": "application/json", "responseSchema":
            {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "2"}, "thinkingConfig": {"thinkingBudget": 0}}
    });
    let expected = json!({
        "model": "target", "max_tokens": 10, "reasoning_effort": "none",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Rome and Oslo?"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather",
                    "arguments": "{\"city\":\"Rome\"}"},
                    "extra_content": {"google": {"thought_signature": "Sig="}}},
                {"id": "call_2", "type": "function", "function": {"name": "weather",
                    "arguments": "{\"city\":\"Oslo\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "{\"sky\":\"blue\"}"},
            {"role": "tool", "tool_call_id": "call_2", "content": "snow"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
            "properties": {"city": {"type": ["string", "null"], "enum": ["Rome", null]}}}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema":
            {"type": "array", "items": {"type": "integer"}, "minItems": 2}}}
    });
    becomes(Dialect::Gemini, Dialect::Chat, &body, &expected);
}

#[test]
fn responses_become_messages() {
    let body = json!({
        "model": "gpt-5", "instructions": "Be kind.", "store": false, "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 50, "reasoning": {"effort": "low", "summary": "auto"},
        "input": [
            {"role": "user", "content": "Look."},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAA="},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content":
                [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "status": "completed", "call_id": "c1", "name": "look",
                "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": [
                {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "auto"}]}],
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": false}]
    });
    let expected = json!({
        "model": "target", "max_tokens": 50, "system": "Be kind.",
        "thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"},
        "messages": [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [{"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content":
                [{"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}]}]}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}, "strict": false}]
    });
    becomes(Dialect::Responses, Dialect::Messages, &body, &expected);
}

/// A request with one field more.
fn with(dialect: Dialect, name: &str, value: Value) -> Value {
    let mut body = match dialect {
        Dialect::Chat => json!({"model": "m", "messages": []}),
        Dialect::Messages => json!({"model": "m", "max_tokens": 9, "messages": []}),
        Dialect::Responses => json!({"model": "m", "input": "x"}),
        _ => json!({"contents": []}),
    };
    body[name] = value;
    body
}

fn refuses(from: Dialect, to: Dialect, cases: &[(&str, Value, &str)]) {
    for (name, value, expected) in cases {
        let body = with(from, name, value.clone()).to_string();
        match translate_request(from, to, body.as_bytes(), "m", false) {
            Err(Untranslatable::Field { field, .. }) => assert_eq!(field, *expected, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

fn user(part: &Value) -> Value {
    json!([{"role": "user", "content": [part]}])
}

#[test]
fn what_messages_cannot_say_is_named() {
    let call = json!([{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function":
        {"name": "f", "arguments": "{not json"}}]}]);
    let late = json!([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]);
    let sound = json!({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}});
    let more = user(&json!({"type": "text", "text": "x", "y": 1}));
    let named = json!([{"role": "user", "name": "n", "content": "x"}]);
    let cases = [
        ("frequency_frobnication", json!(1), "frequency_frobnication"),
        ("n", json!(2), "n"),
        ("seed", json!(2), "seed"),
        ("logprobs", json!(true), "logprobs"),
        ("store", json!(true), "store"),
        ("temperature", json!(1.5), "temperature"),
        ("temperature", json!("hot"), "temperature"),
        (
            "response_format",
            json!({"type": "json_object"}),
            "response_format",
        ),
        ("messages", call, "messages[0].tool_calls[0]"),
        ("messages", late, "messages[1]"),
        ("messages", user(&sound), "messages[0].content[0]"),
        ("messages", more, "messages[0].content[0].y"),
        ("messages", named, "messages[0].name"),
    ];
    refuses(Dialect::Chat, Dialect::Messages, &cases);
}

#[test]
fn what_chat_cannot_say_is_named() {
    let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let cited = json!({"type": "text", "text": "x", "citations": [{"type": "page"}]});
    let cases = [
        ("top_k", json!(5), "top_k"),
        ("tools", search, "tools[0].type"),
        ("mcp_servers", json!([{}]), "mcp_servers"),
        ("messages", user(&cited), "messages[0].content[0].citations"),
    ];
    refuses(Dialect::Messages, Dialect::Chat, &cases);
    let cases = [
        ("safetySettings", json!([{}]), "safetySettings"),
        ("cachedContent", json!("c"), "cachedContent"),
        (
            "tools",
            json!([{"googleSearch": {}}]),
            "tools[0].googleSearch",
        ),
        (
            "generationConfig",
            json!({"topK": 5}),
            "generationConfig.topK",
        ),
    ];
    refuses(Dialect::Gemini, Dialect::Chat, &cases);
    let cases = [
        (
            "previous_response_id",
            json!("resp_1"),
            "previous_response_id",
        ),
        ("background", json!(true), "background"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        (
            "input",
            json!([{"type": "item_reference", "id": "x"}]),
            "input[0]",
        ),
    ];
    refuses(Dialect::Responses, Dialect::Chat, &cases);
}

#[test]
fn what_gemini_and_responses_cannot_say_is_named() {
    let lost = json!([{"role": "tool", "tool_call_id": "c9", "content": "x"}]);
    let cases = [
        ("messages", lost, "messages[0]"),
        ("verbosity", json!("low"), "verbosity"),
    ];
    refuses(Dialect::Chat, Dialect::Gemini, &cases);
    let cases = [("stop_sequences", json!(["x"]), "stop_sequences")];
    refuses(Dialect::Messages, Dialect::Responses, &cases);
}

#[test]
fn what_is_said_twice_or_endlessly_is_refused() {
    let twice = br#"{"model":"m","messages":[],"messages":[]}"#;
    let deep = format!("{{\"model\":\"m\",\"messages\":{}", "[".repeat(100_000));
    let large = br#"{"model":"m","messages":[],"metadata":{"n":123456789012345678901}}"#;
    let many = format!(
        "{{\"model\":\"m\",\"messages\":[{}1]}}",
        "1,".repeat(2 << 20)
    );
    for body in [
        &twice[..],
        &large[..],
        deep.as_bytes(),
        many.as_bytes(),
        b"",
        b"[]",
        b"{}",
    ] {
        let refused = translate_request(Dialect::Chat, Dialect::Messages, body, "m", false);
        assert!(refused.is_err());
    }
    let pair = translate_request(Dialect::Embeddings, Dialect::Messages, b"{}", "m", false);
    assert!(matches!(pair, Err(Untranslatable::Pair { .. })));
}
