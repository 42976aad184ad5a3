//! Canonical JSON (RFC 8785): one text for each value, whoever writes it.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

/// A value as canonical JSON.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&self::number(number)),
        Value::String(text) => write_text(out, text),
        Value::Array(list) => {
            out.push('[');
            for (at, one) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(out, one);
            }
            out.push(']');
        }
        Value::Object(object) => write_object(out, object),
    }
}

fn write_object(out: &mut String, object: &Map<String, Value>) {
    let mut all: Vec<(&String, &Value)> = object.iter().collect();
    // By units of UTF-16, which is another order than by characters.
    all.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    out.push('{');
    for (at, (name, value)) in all.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(out, name);
        out.push(':');
        write(out, value);
    }
    out.push('}');
}

/// A text: nothing is escaped that need not be.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}

/// A number as ECMAScript writes it: all are doubles.
fn number(number: &Number) -> String {
    let Some(value) = number.as_f64().filter(|it| *it != 0.0) else {
        // Of zero there is one.
        return "0".to_owned();
    };
    // The shortest digits that say it, and where its point stands; of as many digits those that are nearest, or even.
    let short = format!("{:e}", value.abs());
    let count = short.bytes().take_while(|it| *it != b'e').count();
    let nearest = format!("{:.*e}", count.saturating_sub(2), value.abs());
    let is_same = nearest.parse().map(f64::to_bits) == Ok(value.abs().to_bits());
    let short = if is_same { nearest } else { short };
    let (digits, power) = short.split_once('e').unwrap_or((&short, "0"));
    let digits = digits.replace('.', "");
    let power: i32 = power.parse().unwrap_or_default();
    let count = i32::try_from(digits.len()).unwrap_or_default();
    let point = power + 1;
    let zeros = |many: i32| "0".repeat(usize::try_from(many).unwrap_or_default());
    let at = usize::try_from(point).unwrap_or_default();
    let text = match point {
        _ if count <= point && point <= 21 => format!("{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, rest) = digits.split_at(at.min(digits.len()));
            format!("{whole}.{rest}")
        }
        -5..=0 => format!("0.{}{digits}", zeros(-point)),
        _ => {
            let sign = if power < 0 { "-" } else { "+" };
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{first}{dot}{rest}e{sign}{}", power.abs())
        }
    };
    match value < 0.0 {
        true => format!("-{text}"),
        false => text,
    }
}
