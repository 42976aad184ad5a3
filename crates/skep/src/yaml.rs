//! A JSON value as YAML 1.2: block style, and JSON's quotes round every text that could be read as
//! anything else.

use serde_json::Value;

/// The value as a YAML document.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => array(&mut out, items, 0),
        Value::Object(map) if !map.is_empty() => object(&mut out, map, 0, true),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn object(
    out: &mut String,
    map: &serde_json::Map<String, Value>,
    depth: usize,
    indent_first: bool,
) {
    for (index, (key, value)) in map.iter().enumerate() {
        if indent_first || index > 0 {
            indent(out, depth);
        }
        out.push_str(&text(key));
        out.push(':');
        match value {
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                array(out, items, depth);
            }
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                object(out, inner, depth + 1, true);
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn array(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => object(out, map, depth + 1, false),
            // Nested lists are rare: the flow style of JSON is YAML too.
            other => {
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

fn text(string: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ');
    let plain = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !string.ends_with(' ')
        && string.chars().all(safe)
        && !matches!(
            string.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    match plain {
        true => string.to_owned(),
        false => Value::from(string).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_blocks_and_doubtful_texts_are_quoted() {
        let value = json!({
            "name": "hello", "n": 1, "none": null, "list": ["a", "b: c", ["x"]], "empty": [],
            "time": "2026-11-21T04:54:08Z", "no": "no", "rows": [{"a": 1, "b": {"c": "x\ny"}}],
        });
        assert_eq!(
            to_yaml(&value),
            "name: hello\n\"n\": 1\nnone: null\nlist:\n- a\n- \"b: c\"\n- [\"x\"]\nempty: []\n\
             time: \"2026-11-21T04:54:08Z\"\n\"no\": \"no\"\nrows:\n- a: 1\n  b:\n    c: \"x\\ny\"\n"
        );
        assert_eq!(to_yaml(&json!([])), "[]\n");
    }
}
