//! How a value is written in a query or in the body of a form: the styles of OpenAPI (3.1.1, section 4.12.2 and appendix C). What the
//! description's rules leave open, lists and objects within objects, is written with brackets, as most servers read it.

use serde_json::{Map, Value};

use super::short;

/// How deep a value in brackets may be.
const MOST_DEPTH: usize = 8;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The items of a list follow each other, with commas: `a=1,2`.
    Commas,
    /// With spaces between: `a=1%202`.
    Spaces,
    /// With a bar between: `a=1|2`.
    Bars,
    /// Each item of a list by itself, under the same name, and each field of an object under its own: `a=1&a=2`.
    Each,
    /// What is within in brackets: `a[b]=1&a[c][]=2`.
    Deep,
    /// As JSON.
    Json,
}

/// Pairs of names and values, as they are sent.
pub(super) type Pairs = Vec<(String, String)>;

/// A byte as it stands in a part of an address.
fn push(out: &mut String, byte: u8) {
    match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        true => out.push(char::from(byte)),
        false => out.push_str(&format!("%{byte:02X}")),
    }
}

/// A text as it stands in a part of an address: whatever has a meaning there is encoded.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.bytes().for_each(|it| push(&mut out, it));
    out
}

/// The text of what is no list and no object.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Form {
    /// The form of a style of what stands in a query or a form; none, when that has not such a one.
    pub(super) fn named(style: &str, explode: Option<bool>) -> Result<Self, String> {
        Ok(match (style, explode) {
            ("form", None | Some(true)) | ("spaceDelimited" | "pipeDelimited", Some(true)) => {
                Self::Each
            }
            ("form", Some(false)) => Self::Commas,
            ("spaceDelimited", _) => Self::Spaces,
            ("pipeDelimited", _) => Self::Bars,
            ("deepObject", _) => Self::Deep,
            _ => {
                let style = short(style);
                return Err(format!("its style is `{style}`, which is not spoken here"));
            }
        })
    }

    /// The word for it in a definition, which is pinned: none changes.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Commas => "commas",
            Self::Spaces => "spaces",
            Self::Bars => "bars",
            Self::Each => "each",
            Self::Deep => "deep",
            Self::Json => "json",
        }
    }

    /// A value under a name; none, when it has parts that this form has no place for.
    pub(super) fn pairs(self, name: &str, value: &Value) -> Option<Pairs> {
        let mut out = Vec::new();
        match self {
            Self::Json => out.push((escaped(name), escaped(&value.to_string()))),
            Self::Deep => deep(&mut out, &escaped(name), value, 0)?,
            Self::Each => match value {
                Value::Object(fields) => {
                    for (name, value) in present(fields) {
                        out.push((escaped(name), escaped(&plain(value)?)));
                    }
                }
                value => {
                    let name = escaped(name);
                    out.extend(texts(value)?.into_iter().map(|it| (name.clone(), it)));
                }
            },
            Self::Commas => joined(&mut out, name, ",", value)?,
            Self::Spaces => joined(&mut out, name, "%20", value)?,
            Self::Bars => joined(&mut out, name, "%7C", value)?,
        }
        Some(out)
    }
}

/// The fields of an object that are something.
fn present(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().filter(|(_, value)| !value.is_null())
}

/// The texts of a value, escaped: of a list several.
fn texts(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| plain(value).map(|it| escaped(&it));
    match value {
        Value::Array(all) => all.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}

/// All of a value in one pair: of an object each field's name, and its value behind it.
fn joined(out: &mut Pairs, name: &str, between: &str, value: &Value) -> Option<()> {
    let all = match value {
        Value::Object(fields) => {
            let mut all = Vec::with_capacity(fields.len() * 2);
            for (name, value) in present(fields) {
                all.extend([escaped(name), escaped(&plain(value)?)]);
            }
            all
        }
        value => texts(value)?,
    };
    if !all.is_empty() {
        out.push((escaped(name), all.join(between)));
    }
    Some(())
}

/// A value with what is within in brackets: a field by its name, an item of a list by nothing, or by its place where it has parts
/// of its own. `name` is escaped.
fn deep(out: &mut Pairs, name: &str, value: &Value, depth: usize) -> Option<()> {
    if depth > MOST_DEPTH {
        return None;
    }
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (field, value) in present(fields) {
                let name = format!("{name}%5B{}%5D", escaped(field));
                deep(out, &name, value, depth + 1)?;
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                let name = match plain(value) {
                    Some(_) => format!("{name}%5B%5D"),
                    None => format!("{name}%5B{place}%5D"),
                };
                deep(out, &name, value, depth + 1)?;
            }
        }
        value => out.push((name.to_owned(), escaped(&plain(value)?))),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(form: Form, value: &Value) -> Option<String> {
        let all = form.pairs("a", value)?.into_iter();
        let all: Vec<String> = all.map(|(name, value)| format!("{name}={value}")).collect();
        Some(all.join("&"))
    }

    #[test]
    fn values_are_written_as_the_specification_shows_them() {
        let (one, list) = (json!("blue"), json!(["blue", "bl ack", 3]));
        let object = json!({ "R": 100, "gone": null });
        for (form, of_one, of_list, of_object) in [
            (Form::Each, "a=blue", "a=blue&a=bl%20ack&a=3", "R=100"),
            (Form::Commas, "a=blue", "a=blue,bl%20ack,3", "a=R,100"),
            (Form::Spaces, "a=blue", "a=blue%20bl%20ack%203", "a=R%20100"),
            (Form::Bars, "a=blue", "a=blue%7Cbl%20ack%7C3", "a=R%7C100"),
            (
                Form::Deep,
                "a=blue",
                "a%5B%5D=blue&a%5B%5D=bl%20ack&a%5B%5D=3",
                "a%5BR%5D=100",
            ),
        ] {
            let told = [line(form, &one), line(form, &list), line(form, &object)];
            let wanted = [of_one, of_list, of_object].map(|it| Some(it.to_owned()));
            assert_eq!(told, wanted, "{form:?}");
        }
        let told = line(Form::Json, &json!(["&"]));
        assert_eq!(told.as_deref(), Some("a=%5B%22%26%22%5D"));
    }

    #[test]
    fn what_a_form_has_no_place_for_is_not_written_at_all() {
        let nested = json!({ "b": { "c": [{ "d": 1 }, { "d": "x" }] } });
        for form in [Form::Each, Form::Commas, Form::Spaces, Form::Bars] {
            assert_eq!(line(form, &nested), None, "{form:?}");
            assert_eq!(line(form, &json!([[1]])), None, "{form:?}");
        }
        let written = "a%5Bb%5D%5Bc%5D%5B0%5D%5Bd%5D=1&a%5Bb%5D%5Bc%5D%5B1%5D%5Bd%5D=x";
        assert_eq!(line(Form::Deep, &nested).as_deref(), Some(written));
        let deep = (0..=MOST_DEPTH).fold(json!(1), |it, _| json!({ "b": it }));
        assert_eq!(line(Form::Deep, &deep), None);
        for form in [Form::Each, Form::Commas, Form::Deep] {
            assert_eq!(line(form, &json!([])).as_deref(), Some(""), "{form:?}");
        }
    }
}
