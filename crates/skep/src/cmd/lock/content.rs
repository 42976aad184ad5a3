//! Layers in the open, as they are edited, exported and imported: JSON, YAML, or `.env` for credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use clap::ValueEnum;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use skep_lock::{CREDENTIALS, Entries, Value};
use zeroize::Zeroizing;

use super::dotenv;
use crate::yaml;

/// How layers are written in the open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// JSON: an object of layers, each an object of entries
    Json,
    /// YAML, likewise
    Yaml,
    /// NAME=VALUE lines, of credentials only
    Env,
}

impl Form {
    /// The form that a file's name tells.
    pub(super) fn of(path: Option<&Path>) -> Self {
        let name = path.and_then(Path::file_name);
        let name = name.unwrap_or_default().to_string_lossy();
        let ending = name.rsplit('.').next().unwrap_or_default();
        match ending {
            "yaml" | "yml" => Self::Yaml,
            "env" => Self::Env,
            _ if name.starts_with(".env.") => Self::Env,
            _ => Self::Json,
        }
    }
}

/// Entries of layers.
pub(super) type Content = BTreeMap<String, Entries>;

/// An object whose names stand once each.
struct Once<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Once<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Names<V> {
            type Value = Once<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once<V>, A::Error> {
                let mut all = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if all.contains_key(&name) {
                        return Err(A::Error::custom(format!("`{name}` stands twice")));
                    }
                    let value = map.next_value()?;
                    all.insert(name, value);
                }
                Ok(Once(all))
            }
        }
        deserializer.deserialize_map(Names(PhantomData))
    }
}

/// What is wrong with a text of JSON, without what stands in it.
fn of_json(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let told = error.to_string();
    let why = match error.classify() {
        serde_json::error::Category::Data if !told.contains("stands twice") => {
            "an object of entries belongs here"
        }
        _ => told.split(" at line ").next().unwrap_or_default(),
    };
    format!("line {line}, column {column}: {why}")
}

/// The entries of one layer, from JSON.
pub(super) fn entries(text: &str) -> Result<Entries, String> {
    let once: Once<Value> = serde_json::from_str(text).map_err(|error| of_json(&error))?;
    Ok(once.0)
}

/// Reads layers.
pub(super) fn parse(form: Form, text: &str) -> Result<Content, String> {
    let all: Once<Once<Value>> = match form {
        Form::Json => serde_json::from_str(text).map_err(|error| of_json(&error))?,
        Form::Yaml => {
            let mut options = serde_saphyr::Options::default();
            options.with_snippet = false;
            let read = serde_saphyr::from_str_with_options(text, options);
            read.map_err(|error| match error.location() {
                Some(at) => format!(
                    "line {}, column {}: it is no YAML of layers with entries",
                    at.line(),
                    at.column()
                ),
                None => "it is no YAML of layers with entries".to_owned(),
            })?
        }
        Form::Env => {
            let pairs = dotenv::parse(text)
                .map_err(|wrong| format!("line {}: {}", wrong.line, wrong.why))?;
            let mut entries = Entries::new();
            for (name, value) in pairs {
                if entries.insert(name.clone(), Value::Text(value)).is_some() {
                    return Err(format!("`{name}` stands twice"));
                }
            }
            return Ok(Content::from([(CREDENTIALS.to_owned(), entries)]));
        }
    };
    Ok(all.0.into_iter().map(|(name, it)| (name, it.0)).collect())
}

/// Writes layers.
pub(super) fn render(form: Form, content: &Content) -> Result<Zeroizing<String>, String> {
    let failed = |error: serde_json::Error| error.to_string();
    match form {
        Form::Json => {
            let mut text = Zeroizing::new(serde_json::to_string_pretty(content).map_err(failed)?);
            text.push('\n');
            Ok(text)
        }
        Form::Yaml => {
            let value = serde_json::to_value(content).map_err(failed)?;
            Ok(Zeroizing::new(yaml::to_yaml(&value)))
        }
        Form::Env => {
            let mut text = Zeroizing::new(String::new());
            for (layer, entries) in content {
                for (name, value) in entries {
                    match value {
                        Value::Text(value) if layer == CREDENTIALS => {
                            if !dotenv::is_variable(name) || value.contains('\0') {
                                return Err(format!("{layer}/{name} cannot be a line of .env"));
                            }
                            dotenv::line(name, value, &mut text);
                        }
                        _ => return Err(format!("{layer}/{name}: .env holds credentials only")),
                    }
                }
            }
            Ok(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_exported_is_imported() {
        let text = |text: &str| Value::text(text);
        let credentials = Entries::from([
            ("A".to_owned(), text("x y\n\"$z")),
            ("B".to_owned(), text("true")),
        ]);
        let memory = Entries::from([("n".to_owned(), json!({"a": [1, 2.5, null]}).into())]);
        let mut content = Content::from([(CREDENTIALS.to_owned(), credentials)]);
        let env = render(Form::Env, &content).unwrap();
        assert!(parse(Form::Env, &env).unwrap() == content);
        content.insert("memory".to_owned(), memory);
        for form in [Form::Json, Form::Yaml] {
            let text = render(form, &content).unwrap();
            assert!(parse(form, &text).unwrap() == content, "{form:?}");
        }
        assert!(
            render(Form::Env, &content)
                .unwrap_err()
                .contains("memory/n")
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_what_stands_there() {
        for (form, text, expected) in [
            (
                Form::Json,
                "{\"a\": {\"b\": 1, \"b\": 2}}",
                "`b` stands twice",
            ),
            (
                Form::Json,
                "{\"a\": \"canary\"}",
                "line 1, column 14: an object of entries",
            ),
            (Form::Json, "{\n\"a\": {,}}", "line 2, column 7: "),
            (Form::Yaml, "a: canary\n", "line 1, column 4"),
            (Form::Yaml, "a:\n  b: 1\n  b: 2\n", "line 3"),
            (Form::Env, "A=1\ncanary", "line 2: a line is NAME=VALUE"),
            (Form::Env, "A=1\nA=2", "`A` stands twice"),
        ] {
            let told = parse(form, text).err().unwrap();
            assert!(told.contains(expected), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
        let forms = ["a.yml", ".env", "x.env", ".env.local", "a.json", "none"];
        let forms = forms.map(|name| Form::of(Some(Path::new(name))));
        use Form::{Env, Json, Yaml};
        assert_eq!(forms, [Yaml, Env, Env, Env, Json, Json]);
    }
}
