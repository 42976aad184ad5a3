//! A template: its form and its files, and the project and the `agent.lock` that are made of it.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::error::malformed;
use crate::form::{Entry, NAME, entry, refused};
use crate::{FORM, Form, MOST_BYTES, TemplateError};

/// A file of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Whether it is a program.
    pub is_program: bool,
}

/// A template that was read and is well-formed.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// What it is.
    pub form: Form,
    /// `template.toml` as it was written.
    pub(crate) text: Vec<u8>,
    /// The files by path: those that the form names, and no other.
    pub(crate) files: BTreeMap<String, File>,
}

/// What is made of a template for one agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The files, in the form's order.
    pub files: Vec<(String, File)>,
    /// Entries of `personality` and `memory`, by layer and name. Texts are JSON texts.
    pub layers: BTreeMap<&'static str, BTreeMap<String, Json>>,
}

impl Template {
    /// A template of its form and files.
    ///
    /// # Errors
    /// [`TemplateError::Malformed`], [`TemplateError::Version`].
    pub fn of(text: &[u8], files: BTreeMap<String, File>) -> Result<Self, TemplateError> {
        let form = Form::parse(text)?;
        for path in &form.files {
            if !files.contains_key(path) {
                return Err(malformed(
                    path,
                    format!("{FORM} names it, and it is not there"),
                ));
            }
        }
        if let Some(path) = files.keys().find(|path| !form.files.contains(path)) {
            return Err(malformed(
                path,
                format!("{FORM} does not name it in `files`"),
            ));
        }
        let bytes: usize = files.values().map(|file| file.bytes.len()).sum();
        if bytes > MOST_BYTES {
            return Err(malformed(&form.name, "its files have over 32 MiB"));
        }
        let template = Self {
            form,
            text: text.to_vec(),
            files,
        };
        for (layer, entries) in template.entries() {
            for (name, value) in entries {
                if let Entry::File(path) = entry(name, value)?
                    && std::str::from_utf8(&template.files[path].bytes).is_err()
                {
                    let place = format!("{FORM}, {layer}, {name}");
                    return Err(malformed(place, format!("{path} is no UTF-8 text")));
                }
            }
        }
        Ok(template)
    }

    fn entries(&self) -> [(&'static str, &BTreeMap<String, toml::Value>); 2] {
        let form = &self.form;
        [("personality", &form.personality), ("memory", &form.memory)]
    }

    /// The files, by path.
    #[must_use]
    pub const fn files(&self) -> &BTreeMap<String, File> {
        &self.files
    }

    /// What the variables are: the agent's name, what is said, else the defaults.
    fn values<'a>(
        &'a self,
        name: &'a str,
        said: &'a BTreeMap<String, String>,
    ) -> Result<BTreeMap<&'a str, &'a str>, TemplateError> {
        let wrong = |name: &str, why: String| TemplateError::Variable {
            name: name.to_owned(),
            why,
        };
        let mut values = BTreeMap::from([(NAME, name)]);
        let mut missing = Vec::new();
        for variable in &self.form.variables {
            let value = said.get(&variable.name).or(variable.default.as_ref());
            let Some(value) = value else {
                missing.push(variable.name.clone());
                continue;
            };
            if !variable.one_of.is_empty() && !variable.one_of.contains(value) {
                let why = format!("it is one of: {}", variable.one_of.join(", "));
                return Err(wrong(&variable.name, why));
            }
            values.insert(&variable.name, value);
        }
        for (name, value) in said {
            if name == NAME || !values.contains_key(name.as_str()) {
                let mut names = values.keys().filter(|it| **it != NAME);
                let why = match names.next() {
                    None => "the template has no variables".to_owned(),
                    Some(first) => {
                        let rest: String = names.map(|it| format!(", {it}")).collect();
                        format!("the template has no such variable; it has: {first}{rest}")
                    }
                };
                return Err(wrong(name, why));
            }
            if let Some(why) = refused(value) {
                return Err(wrong(name, why.to_owned()));
            }
        }
        match missing.is_empty() {
            true => Ok(values),
            false => Err(TemplateError::Missing(missing)),
        }
    }

    /// Makes the project of an agent. What a variable is stands where `{{variable}}` stood, in every file that is
    /// UTF-8 text and in every text of an entry; other braces stay as they are.
    ///
    /// # Errors
    /// [`TemplateError::Missing`], [`TemplateError::Variable`].
    pub fn made(&self, name: &str, said: &BTreeMap<String, String>) -> Result<Made, TemplateError> {
        let values = self.values(name, said)?;
        let file = |path: &String| {
            let file = &self.files[path];
            let bytes = match std::str::from_utf8(&file.bytes) {
                Ok(text) => filled(text, &values).into_bytes(),
                Err(_) => file.bytes.clone(),
            };
            let is_program = file.is_program;
            (path.clone(), File { bytes, is_program })
        };
        let files: Vec<_> = self.form.files.iter().map(file).collect();
        let mut layers = BTreeMap::new();
        for (layer, entries) in self.entries() {
            let mut made = BTreeMap::new();
            for (name, value) in entries {
                let value = match entry(name, value)? {
                    Entry::Value(value) => filled_json(value, &values),
                    Entry::File(path) => {
                        let text = String::from_utf8_lossy(&self.files[path].bytes);
                        Json::from(filled(&text, &values))
                    }
                };
                made.insert(name.clone(), value);
            }
            layers.insert(layer, made);
        }
        Ok(Made { files, layers })
    }
}

/// The text with the variables' values, in one pass: what a value holds is not looked at again.
fn filled(text: &str, values: &BTreeMap<&str, &str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let (before, open) = rest.split_at(at);
        out.push_str(before);
        let inner = &open[2..];
        let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let end = inner.bytes().position(|byte| !of_name(byte));
        let value = end
            .filter(|end| inner[*end..].starts_with("}}"))
            .and_then(|end| Some((end, values.get(&inner[..end])?)));
        match value {
            Some((end, value)) => {
                out.push_str(value);
                rest = &inner[end + 2..];
            }
            // One brace further: `{{{name}}` holds a variable, too.
            None => {
                out.push('{');
                rest = &open[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn filled_json(value: Json, values: &BTreeMap<&str, &str>) -> Json {
    match value {
        Json::String(text) => Json::from(filled(&text, values)),
        Json::Array(items) => {
            let items = items.into_iter();
            items.map(|it| filled_json(it, values)).collect()
        }
        Json::Object(fields) => {
            let fields = fields.into_iter();
            let fields = fields.map(|(name, it)| (name, filled_json(it, values)));
            Json::Object(fields.collect())
        }
        plain => plain,
    }
}
