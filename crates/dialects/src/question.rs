//! The last word of who asks a model, apart from all that stands around it: what is asked in other words means the same
//! only where the rest is the same.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;

use crate::Dialect;
use crate::lazy::Lazy;

/// What a request asks last, where that is one text of whom the model serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question<'a> {
    /// The text.
    pub text: Cow<'a, str>,
    /// Where it stands in the body, as JSON.
    pub at: Range<usize>,
}

/// The last value of a list.
fn last(list: Lazy<'_>) -> Option<Lazy<'_>> {
    let mut last = None;
    list.each(|it| last = Some(it));
    last
}

/// What is said, if it is one text: itself, or the only part of a list.
fn only_text<'a>(said: Lazy<'a>, kind: Option<&str>) -> Option<Lazy<'a>> {
    if said.text().is_some() {
        return Some(said);
    }
    if said.count()? != 1 {
        return None;
    }
    let [text, own] = last(said)?.fields(["text", "type"]);
    let own = own.and_then(Lazy::text);
    (own.as_deref() == kind).then_some(text?)
}

impl<'a> Question<'a> {
    /// What a body asks last; nothing, where that is no single text, or another's word.
    #[must_use]
    pub fn of(dialect: Dialect, body: &'a [u8]) -> Option<Self> {
        let whole = Lazy::of(body)?;
        let (list, said, kind) = match dialect {
            Dialect::Chat | Dialect::Messages => ("messages", "content", Some("text")),
            Dialect::Responses => ("input", "content", Some("input_text")),
            Dialect::Gemini => ("contents", "parts", None),
            Dialect::Embeddings => return None,
        };
        let list = whole.field(list)?;
        let said = match dialect {
            Dialect::Responses if list.text().is_some() => list,
            _ => {
                let [role, said] = last(list)?.fields(["role", said]);
                match role.map(Lazy::text) {
                    Some(Some(role)) if role == "user" => {}
                    // Gemini takes it for that.
                    None if dialect == Dialect::Gemini => {}
                    _ => return None,
                }
                said?
            }
        };
        let said = only_text(said, kind)?;
        let text = said.text()?;
        let start = said.raw().as_ptr().addr() - body.as_ptr().addr();
        Some(Self {
            text,
            at: start..start + said.raw().len(),
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    data: [Vector; 1],
}

#[derive(Deserialize)]
struct Vector {
    embedding: Vec<f32>,
}

/// The numbers of an answer with one embedding; none, when it is no such answer, or all of them are nothing.
#[must_use]
pub fn embedding(answer: &[u8]) -> Option<Vec<f32>> {
    let Answer {
        data: [Vector { embedding }],
    } = serde_json::from_slice(answer).ok()?;
    let is_one = embedding.iter().all(|it| it.is_finite()) && embedding.iter().any(|it| *it != 0.0);
    is_one.then_some(embedding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(dialect: Dialect, body: &str) -> Option<(String, String)> {
        let found = Question::of(dialect, body.as_bytes())?;
        let rest = format!("{}~{}", &body[..found.at.start], &body[found.at.end..]);
        Some((found.text.into_owned(), rest))
    }

    #[test]
    fn what_is_asked_last_stands_apart() {
        for (dialect, body, rest) in [
            (
                Dialect::Chat,
                r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a\n"}],"n":1}"#,
                r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":~}],"n":1}"#,
            ),
            (
                Dialect::Messages,
                r#"{"messages":[{"content":[{"type":"text","text":"a\n"}],"role":"user"}]}"#,
                r#"{"messages":[{"content":[{"type":"text","text":~}],"role":"user"}]}"#,
            ),
            (Dialect::Responses, r#"{"input":"a\n"}"#, r#"{"input":~}"#),
            (
                Dialect::Responses,
                r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"a\n"}]}]}"#,
                r#"{"input":[{"role":"user","content":[{"type":"input_text","text":~}]}]}"#,
            ),
            (
                Dialect::Gemini,
                r#"{"contents":[{"parts":[{"text":"a\n"}]}]}"#,
                r#"{"contents":[{"parts":[{"text":~}]}]}"#,
            ),
        ] {
            let expected = Some(("a\n".to_owned(), rest.to_owned()));
            assert_eq!(asked(dialect, body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_more_than_a_text_or_anothers_word_is_none() {
        for (dialect, body) in [
            (Dialect::Chat, r#"{"messages":[]}"#),
            (
                Dialect::Chat,
                r#"{"messages":[{"role":"tool","content":"a"}]}"#,
            ),
            (Dialect::Chat, r#"{"messages":[{"content":"a"}]}"#),
            (
                Dialect::Chat,
                r#"{"messages":[{"role":"user","content":null}]}"#,
            ),
            (
                Dialect::Chat,
                r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
            ),
            (
                Dialect::Chat,
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}]}"#,
            ),
            (
                Dialect::Messages,
                r#"{"messages":[{"role":"user","content":[{"type":"tool_result","text":"a"}]}]}"#,
            ),
            (
                Dialect::Gemini,
                r#"{"contents":[{"role":"model","parts":[{"text":"a"}]}]}"#,
            ),
            (
                Dialect::Gemini,
                r#"{"contents":[{"parts":[{"inlineData":{}}]}]}"#,
            ),
            (Dialect::Embeddings, r#"{"input":"a"}"#),
            (Dialect::Chat, "no JSON"),
        ] {
            assert_eq!(asked(dialect, body), None, "{body}");
        }
    }

    #[test]
    fn one_embedding_is_read_and_nothing_else() {
        let good = br#"{"object":"list","data":[{"index":0,"embedding":[0.5,-1]}],"usage":{}}"#;
        assert_eq!(embedding(good), Some(vec![0.5, -1.0]));
        for wrong in [
            r#"{"data":[]}"#,
            r#"{"data":[{"embedding":[]}]}"#,
            r#"{"data":[{"embedding":[0,0]}]}"#,
            r#"{"data":[{"embedding":[1e39]}]}"#,
            r#"{"data":[{"embedding":"AAAA"}]}"#,
            r#"{"data":[{"embedding":[1]},{"embedding":[1]}]}"#,
        ] {
            assert_eq!(embedding(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
