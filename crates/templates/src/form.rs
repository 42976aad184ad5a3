//! `template.toml`: what a template is, what it is made of, and what it asks for.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::malformed;
use crate::{
    FORM, LONGEST_LINE, LONGEST_PATH, MANIFEST, MOST_FILES, MOST_FORM, MOST_ITEMS, README,
    TemplateError, VERSION, is_line, is_name,
};

/// The variable that every template has: what the agent is called.
pub(crate) const NAME: &str = "name";
/// Paths that are never a template's: what a program of its own keeps there, or a secret.
const TAKEN: [&str; 7] = [
    ".git",
    ".skep",
    ".env",
    "agent.lock",
    "skep.toml",
    "backpack.toml",
    FORM,
];
/// Characters that some file systems, or shells in documents, do not take as they are.
const ODD: &[u8] = b"\\:*?\"<>|";

/// What a template is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// The version of this form.
    format: u32,
    /// What it is called: a DNS label.
    pub name: String,
    /// Its own version.
    pub version: Version,
    /// What it is, in a few words.
    pub title: String,
    /// What it does, in a line.
    pub about: String,
    /// Words by which it is found.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What its agent is written with, such as `langgraph`.
    pub framework: Option<String>,
    /// Under which it may be used: an SPDX expression.
    pub licence: Option<String>,
    /// What to try first: words behind `skep call NAME`.
    pub first_call: Option<String>,
    /// What to do before the first start, a command in the project's folder.
    pub prepare: Option<String>,
    /// The files of the project, in the order in which they are told.
    pub files: Vec<String>,
    /// What can be chosen.
    #[serde(default)]
    pub variables: Vec<Variable>,
    /// What the agent asks for.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// Entries of the layer `personality`.
    #[serde(default)]
    pub(crate) personality: BTreeMap<String, toml::Value>,
    /// Entries of the layer `memory`.
    #[serde(default)]
    pub(crate) memory: BTreeMap<String, toml::Value>,
}

/// Something that can be chosen: `{{name}}` in a file stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// What it is called.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// What it is when nobody says otherwise. It must be said when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What it can be; anything, when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
}

/// A credential that the agent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The name of the entry in `credentials`, and of the variable: `OPENAI_API_KEY`.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// Whether the agent does something without it.
    #[serde(default)]
    pub optional: bool,
}

/// Where the value of an entry comes from.
pub(crate) enum Entry<'a> {
    /// A file of the template.
    File(&'a str),
    /// It stands here.
    Value(Json),
}

/// An entry's value: a table with nothing but `file` names a file, anything else is itself.
pub(crate) fn entry<'a>(place: &str, value: &'a toml::Value) -> Result<Entry<'a>, TemplateError> {
    if let toml::Value::Table(table) = value
        && let (1, Some(toml::Value::String(path))) = (table.len(), table.get("file"))
    {
        return Ok(Entry::File(path));
    }
    json(value).map(Entry::Value).ok_or_else(|| {
        malformed(
            place,
            "a time, or a number that is none, has no value in JSON",
        )
    })
}

fn json(value: &toml::Value) -> Option<Json> {
    Some(match value {
        toml::Value::String(text) => Json::from(text.as_str()),
        toml::Value::Integer(number) => Json::from(*number),
        toml::Value::Float(number) => Json::from(serde_json::Number::from_f64(*number)?),
        toml::Value::Boolean(is) => Json::from(*is),
        toml::Value::Datetime(_) => return None,
        toml::Value::Array(items) => items.iter().map(json).collect::<Option<_>>()?,
        toml::Value::Table(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| Some((name.clone(), json(value)?)));
            Json::Object(fields.collect::<Option<_>>()?)
        }
    })
}

/// The name of a variable: a letter, then letters, digits and `_`, all small.
fn is_variable(text: &str) -> bool {
    let fits = (1..=LONGEST_LINE).contains(&text.len());
    let of = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    fits && text.as_bytes()[0].is_ascii_lowercase() && text.bytes().all(of)
}

/// The name of a credential: that of a variable of the environment.
fn is_credential(text: &str) -> bool {
    let fits = (1..=LONGEST_LINE).contains(&text.len());
    let of = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    fits && !text.as_bytes()[0].is_ascii_digit() && text.bytes().all(of)
}

/// Why a variable cannot have a value, if so. What can stand between double quotes in YAML, JSON, TOML and
/// most languages is a value: it cannot end the text that it stands in.
pub(crate) fn refused(value: &str) -> Option<&'static str> {
    match value {
        _ if !is_line(value, LONGEST_LINE) => Some("it is not one line of 1 to 200 characters"),
        _ if value.contains(['"', '\\']) => Some("it has a `\"` or a `\\`"),
        _ => None,
    }
}

/// Why a path cannot be a file's, if so. It leads nowhere but into the project's folder, on any system.
pub(crate) fn path_refused(path: &str) -> Option<&'static str> {
    if !(1..=LONGEST_PATH).contains(&path.len()) {
        return Some("a path has 1 to 200 bytes");
    }
    let printable = |byte: u8| (b' '..=b'~').contains(&byte) && !ODD.contains(&byte);
    if !path.bytes().all(printable) {
        return Some("a path is of printable ASCII without \\ : * ? \" < > |");
    }
    let odd = |part: &str| part.is_empty() || part.ends_with(['.', ' ']) || part.starts_with(' ');
    if path.split('/').any(odd) {
        return Some("a path leads down, by names that do not end with a dot or a space");
    }
    let first = path.split('/').next().unwrap_or_default();
    if TAKEN.iter().any(|taken| first.eq_ignore_ascii_case(taken)) {
        return Some("it is no place for a template's file");
    }
    None
}

/// Refuses paths that are the same somewhere, or of which one is a file and another's folder.
pub(crate) fn paths_apart<'a>(
    paths: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), TemplateError> {
    let mut all = BTreeSet::new();
    for path in paths.clone() {
        if !all.insert(path.to_ascii_lowercase()) {
            return Err(malformed(path, "it is named twice, or but for its case"));
        }
    }
    for path in paths {
        let lower = path.to_ascii_lowercase();
        let mut above = lower.match_indices('/').map(|(at, _)| &lower[..at]);
        if above.any(|it| all.contains(it)) {
            return Err(malformed(path, "one of its folders is a file, too"));
        }
    }
    Ok(())
}

/// Line and column of a place in a text, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, column.chars().count() + 1)
}

impl Form {
    /// Reads a `template.toml`.
    ///
    /// # Errors
    /// [`TemplateError::Malformed`], [`TemplateError::Version`].
    pub fn parse(text: &[u8]) -> Result<Self, TemplateError> {
        if text.len() > MOST_FORM {
            return Err(malformed(FORM, "it is longer than 256 KiB"));
        }
        let text = std::str::from_utf8(text).map_err(|_| malformed(FORM, "it is no UTF-8 text"))?;
        let form: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            let at = format!("{FORM}, line {line}, column {column}");
            malformed(at, error.message())
        })?;
        form.check()?;
        Ok(form)
    }

    fn check(&self) -> Result<(), TemplateError> {
        let wrong = |field: &str, why: &str| Err(malformed(format!("{FORM}, {field}"), why));
        if self.format != VERSION {
            return Err(TemplateError::Version(self.format));
        }
        if !is_name(&self.name) {
            return wrong(
                "name",
                "a name is made of a-z, 0-9 and `-`, up to 63 of them",
            );
        }
        let lines = [
            ("title", Some(&self.title)),
            ("about", Some(&self.about)),
            ("framework", self.framework.as_ref()),
            ("licence", self.licence.as_ref()),
            ("first_call", self.first_call.as_ref()),
            ("prepare", self.prepare.as_ref()),
        ];
        for (field, line) in lines {
            if line.is_some_and(|it| !is_line(it, LONGEST_LINE)) {
                return wrong(field, "it is not one line of 1 to 200 characters");
            }
        }
        if self.version.to_string().len() > LONGEST_LINE {
            return wrong("version", "it has over 200 characters");
        }
        if self.tags.len() > MOST_ITEMS || !self.tags.iter().all(|tag| is_name(tag)) {
            return wrong(
                "tags",
                "up to 64, each of a-z, 0-9 and `-`, up to 63 of them",
            );
        }
        self.check_files()?;
        self.check_variables()?;
        self.check_lock()
    }

    fn check_files(&self) -> Result<(), TemplateError> {
        if self.files.len() > MOST_FILES {
            return Err(malformed(format!("{FORM}, files"), "there are over 1000"));
        }
        for path in &self.files {
            if let Some(why) = path_refused(path) {
                return Err(malformed(format!("{FORM}, files, {path:?}"), why));
            }
        }
        paths_apart(self.files.iter().map(String::as_str))?;
        for wanted in [MANIFEST, README] {
            if !self.files.iter().any(|path| path == wanted) {
                let why = format!("every template has `{wanted}`");
                return Err(malformed(format!("{FORM}, files"), why));
            }
        }
        Ok(())
    }

    fn check_variables(&self) -> Result<(), TemplateError> {
        let mut names = BTreeSet::from([NAME]);
        for it in &self.variables {
            let wrong = |why: &str| {
                let shown: String = it.name.escape_debug().take(LONGEST_LINE).collect();
                Err(malformed(format!("{FORM}, variables, {shown}"), why))
            };
            if !is_variable(&it.name) {
                return wrong("a name is made of a-z, 0-9 and `_`, and begins with a letter");
            }
            if !names.insert(it.name.as_str()) {
                return wrong("it is there twice; `name` is the agent's");
            }
            if !is_line(&it.about, LONGEST_LINE) {
                return wrong("`about` is not one line of 1 to 200 characters");
            }
            if it.one_of.len() > MOST_ITEMS {
                return wrong("over 64 values");
            }
            for value in it.one_of.iter().chain(&it.default) {
                if let Some(why) = refused(value) {
                    return wrong(why);
                }
            }
            if let (Some(default), false) = (&it.default, it.one_of.is_empty())
                && !it.one_of.contains(default)
            {
                return wrong("the default is none of `one_of`");
            }
        }
        match names.len() > MOST_ITEMS {
            true => Err(malformed(format!("{FORM}, variables"), "there are over 63")),
            false => Ok(()),
        }
    }

    fn check_lock(&self) -> Result<(), TemplateError> {
        let wrong = |place: String, why: &str| Err(malformed(format!("{FORM}, {place}"), why));
        let mut names = BTreeSet::new();
        for it in &self.credentials {
            let place = || format!("credentials, {}", it.name.escape_debug());
            if !is_credential(&it.name) {
                return wrong(place(), "a name is made of A-Z, a-z, 0-9 and `_`");
            }
            if !names.insert(&it.name) {
                return wrong(place(), "it is there twice");
            }
            if !is_line(&it.about, LONGEST_LINE) {
                return wrong(place(), "`about` is not one line of 1 to 200 characters");
            }
        }
        let counts = [
            ("credentials", names.len()),
            ("personality", self.personality.len()),
            ("memory", self.memory.len()),
        ];
        for (field, count) in counts {
            if count > MOST_ITEMS {
                return wrong(field.to_owned(), "there are over 64");
            }
        }
        for (layer, entries) in [("personality", &self.personality), ("memory", &self.memory)] {
            for (name, value) in entries {
                let place = format!("{layer}, {}", name.escape_debug());
                if !is_line(name, LONGEST_LINE) {
                    return wrong(place, "a name is one line of 1 to 200 characters");
                }
                if let Entry::File(path) = entry(&format!("{FORM}, {place}"), value)?
                    && !self.files.iter().any(|it| it == path)
                {
                    return wrong(place, "its file is none of `files`");
                }
            }
        }
        Ok(())
    }
}
