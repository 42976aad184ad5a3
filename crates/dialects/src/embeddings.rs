//! Embeddings of several texts, apart and together again: a request without some of its texts, an answer with what was
//! known before. What is not about that stays byte for byte as it was.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Texts of one request that are taken apart, at most: as many as `OpenAI` takes.
const MOST: usize = 2_048;

/// A request for embeddings of several texts.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// What stands before the list of texts, and behind it.
    around: [&'a [u8]; 2],
    /// Each text, or list of tokens, as it is written.
    pub texts: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Vector<'a> {
    #[serde(borrow)]
    index: &'a RawValue,
}

/// Where a part of a text is in it.
fn place(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// The members of a list.
fn members(list: &RawValue) -> Option<Vec<&str>> {
    let all: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
    Some(all.into_iter().map(RawValue::get).collect())
}

impl<'a> Inputs<'a> {
    /// The texts of a body, if it has more than one.
    #[must_use]
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let asked: Asked<'a> = serde_json::from_str(text).ok()?;
        let texts = members(asked.input)?;
        let is_one = |it: &&str| it.starts_with(['"', '[']);
        if !(2..=MOST).contains(&texts.len()) || !texts.iter().all(is_one) {
            return None;
        }
        let at = place(text, asked.input.get());
        let around = [body.get(..at.start)?, body.get(at.end..)?];
        Some(Self { around, texts })
    }

    /// The same request for those texts whose place `wanted` names.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(usize) -> bool) -> Vec<u8> {
        let left = self.texts.iter().enumerate();
        let left = left.filter(|(nth, _)| wanted(*nth));
        let left: Vec<&str> = left.map(|(_, text)| *text).collect();
        let [before, after] = self.around;
        [before, b"[", left.join(",").as_bytes(), b"]", after].concat()
    }
}

/// The vectors of an answer, in the order of what was asked, each as an answer of its own that used nothing. None, when
/// there are not so many, or not one for each.
#[must_use]
pub fn apart(answer: &[u8], count: usize) -> Option<Vec<Vec<u8>>> {
    let whole = Answer::of(answer)?;
    let vectors = whole.in_order(count)?;
    vectors
        .iter()
        .map(|vector| whole.with(&[numbered(vector, 0)?], true))
        .collect()
}

/// One answer with a vector for each: where one was known, that (as [`apart`] gives it), and else the next of `answer`.
/// Without an answer all must be known, and it used nothing. None, when they do not fit together.
#[must_use]
pub fn together(answer: Option<&[u8]>, known: &[Option<Vec<u8>>]) -> Option<Vec<u8>> {
    let missing = known.iter().filter(|it| it.is_none()).count();
    let first = known.iter().flatten().next();
    let whole = Answer::of(answer.or(first.map(Vec::as_slice))?)?;
    let mut fresh = match answer {
        Some(_) => whole.in_order(missing)?.into_iter(),
        None => Vec::new().into_iter(),
    };
    let each = known.iter().enumerate().map(|(nth, known)| {
        let Some(known) = known else {
            return numbered(fresh.next()?, nth);
        };
        let vectors = Answer::of(known)?.in_order(1)?;
        numbered(vectors.first()?, nth)
    });
    let each: Vec<String> = each.collect::<Option<_>>()?;
    whole.with(&each, answer.is_none())
}

/// A vector with another number.
fn numbered(vector: &str, nth: usize) -> Option<String> {
    let found: Vector<'_> = serde_json::from_str(vector).ok()?;
    let at = place(vector, found.index.get());
    let (before, after) = (vector.get(..at.start)?, vector.get(at.end..)?);
    Some(format!("{before}{nth}{after}"))
}

struct Answer<'a> {
    text: &'a str,
    said: Said<'a>,
}

impl<'a> Answer<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let said = serde_json::from_str(text).ok()?;
        Some(Self { text, said })
    }

    /// Its vectors by their numbers: one for each.
    fn in_order(&self, count: usize) -> Option<Vec<&'a str>> {
        let all = members(self.said.data)?;
        let mut found: Vec<Option<&str>> = vec![None; count];
        for vector in &all {
            let number: Vector<'_> = serde_json::from_str(vector).ok()?;
            let nth: usize = serde_json::from_str(number.index.get()).ok()?;
            let empty = found.get_mut(nth).filter(|it| it.is_none())?;
            *empty = Some(vector);
        }
        found.into_iter().collect()
    }

    /// The same with these vectors, and where it is so, with nothing used.
    fn with(&self, vectors: &[String], unused: bool) -> Option<Vec<u8>> {
        let data = format!("[{}]", vectors.join(","));
        let nothing = r#"{"prompt_tokens":0,"total_tokens":0}"#;
        let mut changes = vec![(place(self.text, self.said.data.get()), data.as_str())];
        if let Some(usage) = self.said.usage.filter(|_| unused) {
            changes.push((place(self.text, usage.get()), nothing));
        }
        changes.sort_unstable_by_key(|(at, _)| at.start);
        let (mut made, mut from) = (String::new(), 0);
        for (at, new) in changes {
            made.push_str(self.text.get(from..at.start)?);
            made.push_str(new);
            from = at.end;
        }
        made.push_str(self.text.get(from..)?);
        Some(made.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &str = r#"{"model":"m", "input" : ["a", "b\"]", "ü"],"dimensions":3}"#;

    fn answer(vectors: &[(usize, &str)], tokens: u64) -> Vec<u8> {
        let each = vectors.iter().map(|(nth, vector)| {
            format!(r#"{{"object":"embedding","index":{nth},"embedding":[{vector}],"own":"x"}}"#)
        });
        let each: Vec<String> = each.collect();
        format!(
            r#"{{"object":"list","data":[{}],"model":"m-1","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}},"more":1}}"#,
            each.join(", ")
        )
        .into_bytes()
    }

    #[test]
    fn a_request_for_some_of_its_texts_is_else_as_it_was() {
        let inputs = Inputs::of(BODY.as_bytes()).unwrap();
        assert_eq!(inputs.texts, [r#""a""#, r#""b\"]""#, r#""ü""#]);
        let some = inputs.only(|nth| nth != 1);
        let expected = r#"{"model":"m", "input" : ["a","ü"],"dimensions":3}"#;
        assert_eq!(String::from_utf8(some).unwrap(), expected);
        let tokens = br#"{"input":[[1,2],[3]]}"#;
        let inputs = Inputs::of(tokens).unwrap();
        assert_eq!(inputs.texts, ["[1,2]", "[3]"]);
        assert_eq!(inputs.only(|nth| nth == 1), br#"{"input":[[3]]}"#);
    }

    #[test]
    fn what_is_one_text_or_none_is_not_taken_apart() {
        let long = format!(r#"{{"input":["a"{}]}}"#, r#","b""#.repeat(MOST));
        for body in [
            r#"{"input":"a"}"#,
            r#"{"input":["a"]}"#,
            r#"{"input":[1,2,3]}"#,
            r#"{"input":["a",1]}"#,
            r#"{"input":["a",{"text":"b"}]}"#,
            r#"{"input":["a","b"],"input":["c","d"]}"#,
            r#"{"texts":["a","b"]}"#,
            r#"["a","b"]"#,
            r#"{"input":["a","b""#,
            &long,
        ] {
            assert!(Inputs::of(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn vectors_are_in_the_order_of_what_was_asked() {
        // They came in another order.
        let each = apart(&answer(&[(1, "2"), (0, "1")], 7), 2).unwrap();
        assert_eq!(each, [answer(&[(0, "1")], 0), answer(&[(0, "2")], 0)]);
        let known = [None, Some(each[1].clone()), None];
        let whole = together(Some(&answer(&[(1, "9"), (0, "8")], 5)), &known).unwrap();
        let expected = answer(&[(0, "8"), (1, "2"), (2, "9")], 5);
        // Between vectors there is one comma.
        let expected = String::from_utf8(expected).unwrap().replace("}, {", "},{");
        assert_eq!(String::from_utf8(whole).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_not_put_together() {
        for vectors in [
            &[(0, "1")][..],
            &[(0, "1"), (0, "2")],
            &[(0, "1"), (2, "2")],
            &[(0, "1"), (1, "2"), (2, "3")],
        ] {
            assert_eq!(apart(&answer(vectors, 1), 2), None, "{vectors:?}");
            assert_eq!(together(Some(&answer(vectors, 1)), &[None, None]), None);
        }
        let one = apart(&answer(&[(0, "1")], 1), 1).unwrap();
        assert_eq!(together(None, &[None, one.first().cloned()]), None);
        assert_eq!(together(None, &[]), None);
        assert_eq!(apart(br#"{"data":[{"embedding":[1]}]}"#, 1), None);
        assert_eq!(apart(b"{}", 0), None);
    }

    proptest! {
        #[test]
        fn apart_and_together_is_the_same(count in 1_usize..20, known: u32) {
            let vectors: Vec<(usize, String)> = (0..count).map(|it| (it, it.to_string())).collect();
            let vectors: Vec<(usize, &str)> = vectors.iter().map(|(nth, it)| (*nth, it.as_str())).collect();
            let whole = String::from_utf8(answer(&vectors, 3)).unwrap().replace("}, {", "},{");
            let each = apart(whole.as_bytes(), count).unwrap();
            let is_known = |nth: usize| known & (1 << nth) > 0;
            let kept: Vec<Option<Vec<u8>>> = each
                .iter()
                .enumerate()
                .map(|(nth, it)| is_known(nth).then(|| it.clone()))
                .collect();
            let left: Vec<&str> = vectors
                .iter()
                .filter(|(nth, _)| !is_known(*nth))
                .map(|(_, it)| *it)
                .collect();
            let left: Vec<(usize, &str)> = left.into_iter().enumerate().collect();
            let made = together(Some(&answer(&left, 3)), &kept).unwrap();
            prop_assert_eq!(String::from_utf8(made).unwrap(), whole);
        }
    }
}
