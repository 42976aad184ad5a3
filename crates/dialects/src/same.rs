//! Requests in the one way of many in which they can be written: without spaces, with no letter escaped that need not be,
//! and with the fields of the whole in the order of their names.

/// What of a request says something. Numbers stay as they are written, and the fields of what is in it in their order: to
/// a model that is a difference.
#[must_use]
pub fn same(text: &[u8]) -> Vec<u8> {
    let text = compact(text);
    let Some(mut fields) = fields(&text) else {
        return text;
    };
    // What is there twice stays in its order.
    fields.sort_by_key(|(name, _)| *name);
    let fields: Vec<&[u8]> = fields.into_iter().map(|(_, field)| field).collect();
    [b"{", fields.join(b",".as_slice()).as_slice(), b"}"].concat()
}

/// The fields of an object without spaces: their names, and all of them.
fn fields(text: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut rest = text.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut fields = Vec::new();
    while rest.first() == Some(&b'"') {
        let name = string(rest);
        let end = value(rest);
        fields.push((rest.get(..name)?, rest.get(..end)?));
        match rest.get(end..)?.split_first() {
            Some((b',', behind)) => rest = behind,
            None => return Some(fields),
            Some(_) => return None,
        }
    }
    None
}

/// How far it is to the comma behind a field.
fn value(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_u32);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += string(text.get(at..).unwrap_or_default());
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Without spaces and without escapes that it can do without.
fn compact(text: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'"' => {
                let length = string(rest);
                let (word, behind) = rest.split_at(length);
                made.extend(unescaped(word));
                rest = behind;
                continue;
            }
            other => made.push(*other),
        }
        rest = behind;
    }
    made
}

/// How long a string is that begins here, with both its marks.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

/// A string without escapes that it can do without.
fn unescaped(word: &[u8]) -> Vec<u8> {
    if !word.contains(&b'\\') {
        return word.to_vec();
    }
    let text: Result<String, _> = serde_json::from_slice(word);
    match text.map(|it| serde_json::to_vec(&it)) {
        Ok(Ok(plain)) => plain,
        // Half of a pair, or no JSON.
        _ => word.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(same(bytes)).unwrap()
    }

    #[test]
    fn spaces_and_escapes_are_no_difference_and_all_else_is() {
        let plain = r#"{"a":["ü \" b",1.0],"c":null}"#;
        for other in [
            plain,
            "{ \"a\" : [ \"ü \\\" b\" ,\n1.0 ],\t\"c\": null }\r\n",
            r#"{"\u0061":["\u00fc \u0022 b",1.0],"c":null}"#,
            r#"{"c":null, "a":["ü \" b",1.0]}"#,
        ] {
            assert_eq!(text(other.as_bytes()), plain);
        }
        for other in [
            r#"{"a":["ü  \" b",1.0],"c":null}"#,
            r#"{"a":["ü \" b",1],"c":null}"#,
            r#"{"a":["ü \" b",1.0],"c":null,"c":1}"#,
        ] {
            assert_ne!(text(other.as_bytes()), plain, "{other}");
        }
        // Within it the order stays, and of what is there twice.
        for kept in [
            r#"{"a":{"c":[{}],"b":"}"},"d":1}"#,
            r#"{"a":1,"a":0}"#,
            "{}",
            "[]",
        ] {
            assert_eq!(text(kept.as_bytes()), kept);
        }
        // Half a pair is no letter, and half a text no JSON: it stays.
        for odd in [r#"{"a":"\ud83d"}"#, r#"{"a":"b\"#, r#"{"a":"b"#] {
            assert_eq!(text(odd.as_bytes()), odd);
        }
    }

    proptest! {
        #[test]
        fn what_is_the_same_has_the_same_value(key in ".{0,8}", said in ".{0,40}", spaces in "[ \n\t]{0,3}") {
            let value = serde_json::json!({ &*key: [said, 1] });
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let made = same(format!("{spaces}{pretty}{spaces}").as_bytes());
            let plain = value.to_string();
            prop_assert_eq!(&made, plain.as_bytes());
            let again: serde_json::Value = serde_json::from_slice(&made).unwrap();
            prop_assert_eq!(again, value);
        }

        #[test]
        fn nothing_breaks_it(text: Vec<u8>) {
            let once = same(&text);
            prop_assert!(once.len() <= text.len());
        }
    }
}
