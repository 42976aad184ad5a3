//! A parameter of an operation: which argument it is, where it goes, and how its value is written there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::form::{Form, Pairs, escaped, plain};
use super::schema::{Schemas, types};
use super::{is_token, short, word};
use crate::settings::is_own_header;

/// Where a parameter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Path,
    Query,
    Header,
    Cookie,
}

impl Place {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }

    pub(super) fn named(word: &str) -> Option<Self> {
        let all = [Self::Path, Self::Query, Self::Header, Self::Cookie];
        all.into_iter().find(|it| it.as_str() == word)
    }
}

/// What becomes of a `/` in a part of a path: what a description says by `x-skep-slash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slash {
    Refused,
    /// It parts one piece from the next: `keep`.
    Kept,
    /// It stands there as `%2F`: `encode`.
    Encoded,
}

/// A parameter.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    /// What it is called in the request.
    pub(super) name: String,
    /// The argument that it is.
    pub(super) argument: String,
    pub(super) place: Place,
    form: Form,
    slash: Slash,
    pub(super) required: bool,
    /// The schema of the argument, until it stands in the definition.
    pub(super) schema: Value,
}

/// What becomes of a parameter.
pub(super) enum Read {
    Taken(Parameter),
    /// It is said by somebody else, or not needed: nobody gives it.
    Unsaid,
    /// It cannot be given, and is not needed; why.
    Left(String),
}

/// How a value is written, by the style that is named; or why it cannot be.
fn form(own: &Value, place: Place) -> Result<Form, String> {
    let style = own.get("style").and_then(Value::as_str);
    let explode = own.get("explode").and_then(Value::as_bool);
    match (place, style) {
        (Place::Path | Place::Header, None | Some("simple")) => Ok(Form::Commas),
        (Place::Query, style) => Form::named(style.unwrap_or("form"), explode),
        (Place::Cookie, None | Some("form")) => Form::named("form", explode),
        (_, Some(style)) => {
            let style = short(style);
            Err(format!("its style is `{style}`, which is not spoken here"))
        }
    }
}

/// Whether all that a schema takes is one of these.
fn is_of(schema: &Value, kinds: &[&str]) -> bool {
    let all = types(schema);
    let named = |it: &&str| kinds.contains(it);
    all.iter().any(named) && all.iter().all(|it| named(it) || *it == "null")
}

/// Why a value of such a schema cannot be written in a form.
fn has_no_place(schema: &Value, form: Form, place: Place) -> Option<String> {
    if matches!(form, Form::Json | Form::Deep) {
        return None;
    }
    let place_of = place.as_str();
    if place != Place::Query && is_of(schema, &["object"]) {
        return Some(format!("an object in a {place_of} is not spoken here"));
    }
    let fields = schema.get("properties").and_then(Value::as_object);
    let fields = fields.into_iter().flatten().map(|(_, schema)| schema);
    let mut within = schema.get("items").into_iter().chain(fields);
    let is_deep = within.any(|it| is_of(it, &["object", "array"]));
    is_deep.then(|| format!("its style has no place in a {place_of} for what is within"))
}

impl Parameter {
    /// Reads one. `said` are the headers that the server's settings say, in small letters.
    pub(super) fn read<'a>(
        own: &'a Value,
        schemas: &mut Schemas<'a>,
        said: &BTreeSet<String>,
    ) -> Result<Read, String> {
        let text = |field: &str| own.get(field).and_then(Value::as_str).unwrap_or_default();
        let (name, place) = (text("name"), text("in"));
        let place =
            Place::named(place).ok_or_else(|| format!("a parameter in `{}`", short(place)))?;
        let low = name.to_ascii_lowercase();
        let is_said = match place {
            // These are ignored, as the description's own rules say.
            Place::Header => {
                ["accept", "content-type", "authorization"].contains(&low.as_str())
                    || said.contains(&low)
            }
            Place::Cookie => said.contains("cookie"),
            Place::Path | Place::Query => false,
        };
        if is_said {
            return Ok(Read::Unsaid);
        }
        let required = place == Place::Path || own.get("required") == Some(&Value::Bool(true));
        let made = Self::made(own, schemas, (name, place, required));
        let name = short(name);
        match made {
            Ok(made) => Ok(Read::Taken(made)),
            Err(why) if required => Err(format!("its parameter `{name}`: {why}")),
            Err(why) => Ok(Read::Left(format!("without its parameter `{name}`: {why}"))),
        }
    }

    fn made<'a>(
        own: &'a Value,
        schemas: &mut Schemas<'a>,
        (name, place, required): (&str, Place, bool),
    ) -> Result<Self, String> {
        let is_odd = match place {
            Place::Header => !is_token(name) || is_own_header(name),
            Place::Cookie => !is_token(name),
            Place::Path | Place::Query => name.is_empty(),
        };
        if is_odd {
            return Err(format!("nobody can say it in a {}", place.as_str()));
        }
        schemas.count(name.len())?;
        let content = own.get("content").and_then(Value::as_object);
        let (form, schema) = match content {
            None => (form(own, place)?, own.get("schema")),
            Some(content) => match content.iter().next() {
                Some((kind, media)) if kind == "application/json" && place == Place::Query => {
                    (Form::Json, media.get("schema"))
                }
                _ => return Err("its `content` is not spoken here".to_owned()),
            },
        };
        let mut schema = schema.map_or_else(|| Ok(json!({})), |it| schemas.whole(it))?;
        if let Some(why) = has_no_place(&schema, form, place) {
            return Err(why);
        }
        let words = own.get("description").and_then(Value::as_str);
        if let (Some(words), Some(fields)) = (words, schema.as_object_mut()) {
            schemas.count(words.len())?;
            fields.insert("description".to_owned(), words.into());
        }
        Ok(Self {
            name: name.to_owned(),
            argument: word(name),
            place,
            form,
            slash: match own.get("x-skep-slash").and_then(Value::as_str) {
                Some("keep") => Slash::Kept,
                Some("encode") => Slash::Encoded,
                _ => Slash::Refused,
            },
            required,
            schema,
        })
    }

    /// What is said of a value that has no place where it is to go.
    fn odd(&self) -> String {
        let (argument, place) = (&self.argument, self.place.as_str());
        format!("`{argument}`: a {place} takes texts, numbers and lists of them")
    }

    /// The texts of a value: of a list several.
    fn texts(&self, value: &Value) -> Result<Vec<String>, String> {
        let text = |value: &Value| plain(value).ok_or_else(|| self.odd());
        match value {
            Value::Array(all) => all.iter().map(text).collect(),
            Value::Null if !self.required => Ok(Vec::new()),
            value => Ok(vec![text(value)?]),
        }
    }

    /// The value as a part of a path, out of which it does not lead.
    pub(super) fn in_path(&self, value: &Value) -> Result<String, String> {
        let texts = self.texts(value)?;
        let argument = &self.argument;
        let kept = self.slash == Slash::Kept;
        if texts.is_empty() || texts.iter().any(|it| it.is_empty() && !kept) {
            return Err(format!("`{argument}`: nothing cannot stand in a path"));
        }
        // A server behind may take an encoded one for what it stands for.
        let refused = self.slash == Slash::Refused;
        let leads = |it: char| (it == '/' && refused) || it == '\\' || it.is_control();
        if texts.iter().any(|it| it.contains(leads)) {
            return Err(format!(
                "`{argument}`: `/`, `\\` and control characters cannot stand in a path"
            ));
        }
        let text = texts
            .iter()
            .map(|it| self.piece(it))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(text.join(","))
    }

    fn piece(&self, text: &str) -> Result<String, String> {
        let argument = &self.argument;
        if text.contains("//") {
            return Err(format!("`{argument}`: `//` cannot stand in a path"));
        }
        let text = match self.slash {
            Slash::Kept => text.strip_prefix('/').unwrap_or(text),
            Slash::Refused | Slash::Encoded => text,
        };
        let dots = |it: &str| {
            let first = it.split(';').next().unwrap_or_default();
            matches!(first, "." | "..")
        };
        if text.split('/').any(dots) {
            return Err(format!("`{argument}`: `.` and `..` cannot stand in a path"));
        }
        let all: Vec<String> = text.split('/').map(escaped).collect();
        Ok(all.join(match self.slash {
            Slash::Encoded => "%2F",
            Slash::Kept | Slash::Refused => "/",
        }))
    }

    /// The value as pairs of a query, or of cookies.
    pub(super) fn pairs(&self, value: &Value) -> Result<Pairs, String> {
        match value {
            Value::Null if !self.required && self.form != Form::Json => Ok(Vec::new()),
            Value::Object(_) if self.place == Place::Cookie => Err(self.odd()),
            value => self.form.pairs(&self.name, value).ok_or_else(|| self.odd()),
        }
    }

    /// Whether a pair of this name, as it is sent, is one that this parameter says.
    pub(super) fn names(&self, name: &str) -> bool {
        let own = escaped(&self.name);
        let rest = name.strip_prefix(own.as_str());
        rest.is_some_and(|it| it.is_empty() || it.starts_with("%5B"))
    }

    /// Whether its value names pairs by itself, so that it could name those of others.
    pub(super) fn names_pairs(&self, value: &Value) -> bool {
        value.is_object() && matches!(self.form, Form::Each | Form::Deep)
    }

    /// The value of a header; nothing, when there is none.
    pub(super) fn in_header(&self, value: &Value) -> Result<Option<String>, String> {
        let texts = self.texts(value)?;
        let argument = &self.argument;
        let visible = |it: &String| it.bytes().all(|it| matches!(it, 0x20..=0x7e));
        if !texts.iter().all(visible) {
            return Err(format!(
                "`{argument}`: a header has visible characters of ASCII"
            ));
        }
        if value.is_array() && texts.iter().any(|it| it.contains(',')) {
            return Err(format!(
                "`{argument}`: an item of a list in a header has no `,`"
            ));
        }
        Ok((!texts.is_empty()).then(|| texts.join(",")))
    }

    /// How it is written, for the definition.
    pub(super) fn told(&self) -> Value {
        let mut told =
            json!({ "in": self.place.as_str(), "name": self.name, "form": self.form.as_str() });
        match self.slash {
            Slash::Refused => {}
            Slash::Kept => told["slash"] = "keep".into(),
            Slash::Encoded => told["slash"] = "encode".into(),
        }
        told
    }
}
