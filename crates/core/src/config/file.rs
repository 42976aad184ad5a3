//! The file `skep.toml`: read with the line of each value, and edited so that comments stay.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use toml_edit::{Array, Document, DocumentMut, Item, Table, TableLike, TomlError, Value};

use super::{ConfigError, Key, Kind, Layers, Origin, Raw, unknown};

/// A value as it stands in the file.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(at)
        .filter(|&&byte| byte == b'\n')
        .count()
        + 1
}

fn origin(path: &Path, text: &str, at: Option<usize>) -> Origin {
    Origin::File {
        path: path.to_owned(),
        line: at.map(|at| line_of(text, at)),
    }
}

/// The file as a whole.
fn whole(path: &Path) -> Origin {
    Origin::File {
        path: path.to_owned(),
        line: None,
    }
}

fn syntax(path: &Path, text: &str, error: &TomlError) -> ConfigError {
    ConfigError::Syntax {
        origin: origin(path, text, error.span().map(|span| span.start)),
        message: error.message().to_owned(),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.value().clone(),
        other => other.clone().decorated("", "").to_string(),
    }
}

/// The file's values, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Line>, ConfigError> {
    let document = Document::parse(text).map_err(|error| syntax(path, text, &error))?;
    let mut lines = Vec::new();
    flatten("", document.as_table(), &mut lines, &|at| {
        origin(path, text, at)
    });
    Ok(lines)
}

fn flatten(
    prefix: &str,
    table: &dyn TableLike,
    lines: &mut Vec<Line>,
    origin: &dyn Fn(Option<usize>) -> Origin,
) {
    for (key, item) in table.iter() {
        if prefix.is_empty() && key == super::LOCK_SECTION {
            continue;
        }
        let name = match prefix {
            "" => key.to_owned(),
            _ => format!("{prefix}.{key}"),
        };
        let raw = match item {
            Item::Value(Value::Array(array)) => Raw::List(array.iter().map(scalar).collect()),
            Item::Value(value) if !value.is_inline_table() => Raw::Text(scalar(value)),
            _ => match item.as_table_like() {
                Some(inner) if !inner.is_empty() => {
                    flatten(&name, inner, lines, origin);
                    continue;
                }
                // The start of a section that holds nothing is no mistake.
                Some(_)
                    if super::KEYS
                        .iter()
                        .any(|key| key.name.starts_with(&format!("{name}."))) =>
                {
                    continue;
                }
                _ => Raw::Text(String::new()),
            },
        };
        let origin = origin(item.span().map(|span| span.start));
        lines.push(Line { name, raw, origin });
    }
}

fn known(key: &str, origin: Origin) -> Result<&'static Key, ConfigError> {
    Key::find(key).ok_or_else(|| unknown(key, origin))
}

fn open(path: &Path) -> Result<DocumentMut, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    text.parse::<DocumentMut>()
        .map_err(|error| syntax(path, &text, &error))
}

fn toml_value(key: &Key, normal: &str) -> Value {
    match key.kind {
        Kind::Bool => Value::from(normal == "true"),
        Kind::Count | Kind::Port => normal
            .parse::<i64>()
            .map_or_else(|_| Value::from(normal), Value::from),
        Kind::List => Value::Array(
            normal
                .split(',')
                .filter(|part| !part.is_empty())
                .collect::<Array>(),
        ),
        _ => Value::from(normal),
    }
}

/// Sets a key in the file, which is made when it is not there. Comments stay; the file is replaced
/// as a whole, and only by one that can be read.
///
/// # Errors
/// [`ConfigError`] when there is no such key, the value is none of its kind, or the file cannot be
/// read or written.
pub fn set_in_file(path: &Path, key: &str, value: &str) -> Result<(), ConfigError> {
    let origin = whole(path);
    let key = known(key, origin.clone())?;
    let normal = super::normal(key, &Raw::Text(value.to_owned()), &origin)?;
    let mut document = open(path)?;
    let (section, leaf) = key.name.split_once('.').unwrap_or(("", key.name));
    let table: &mut dyn TableLike = if section.is_empty() {
        document.as_table_mut()
    } else {
        let item = document
            .entry(section)
            .or_insert_with(|| Item::Table(Table::new()));
        item.as_table_like_mut()
            .ok_or_else(|| unknown(section, origin))?
    };
    let mut new = toml_value(key, &normal);
    match table.get_mut(leaf) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *new.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(new);
        }
        None => {
            table.insert(leaf, Item::Value(new));
        }
    }
    write(path, &document)
}

/// Takes a key out of the file, so that its default holds again. Says whether it was there.
///
/// # Errors
/// As [`set_in_file`].
pub fn reset_in_file(path: &Path, key: &str) -> Result<bool, ConfigError> {
    let key = known(key, whole(path))?;
    let mut document = open(path)?;
    let (section, leaf) = key.name.split_once('.').unwrap_or(("", key.name));
    let table: Option<&mut dyn TableLike> = match section {
        "" => Some(document.as_table_mut()),
        _ => document.get_mut(section).and_then(Item::as_table_like_mut),
    };
    if table.and_then(|table| table.remove(leaf)).is_none() {
        return Ok(false);
    }
    write(path, &document)?;
    Ok(true)
}

fn write(path: &Path, document: &DocumentMut) -> Result<(), ConfigError> {
    let text = document.to_string();
    let mut layers = Layers::default();
    layers.file(parse(path, &text)?)?;
    let failed = |source| ConfigError::Write {
        path: path.to_owned(),
        source,
    };
    let new = path.with_extension("toml.new");
    let replace = || -> std::io::Result<()> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&new)?;
        if let Ok(old) = std::fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    replace().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_survive_an_edit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skep.toml");
        let before = "# mine\nlisten = \"127.0.0.1:1\" # why\n\n[limits]\n# big\nbody = \"1GiB\"\n";
        std::fs::write(&path, before).unwrap();
        set_in_file(&path, "listen", "127.0.0.1:2").unwrap();
        set_in_file(&path, "limits.connections", "7").unwrap();
        set_in_file(&path, "metrics.public", "true").unwrap();
        set_in_file(&path, "cors.origins", "https://a.example,https://b.example").unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            after,
            "# mine\nlisten = \"127.0.0.1:2\" # why\n\n[limits]\n# big\nbody = \"1GiB\"\n\
             connections = 7\n\n[metrics]\npublic = true\n\n[cors]\n\
             origins = [\"https://a.example\", \"https://b.example\"]\n"
        );
        assert!(reset_in_file(&path, "limits.connections").unwrap());
        assert!(reset_in_file(&path, "metrics.public").unwrap());
        assert!(!reset_in_file(&path, "metrics.public").unwrap());
        let after = std::fs::read_to_string(&path).unwrap();
        assert!(
            after.contains("# big\nbody = \"1GiB\"\n\n[metrics]\n"),
            "{after}"
        );
    }

    #[test]
    fn a_wrong_edit_leaves_the_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skep.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\n").unwrap();
        for (key, value) in [
            ("listen", "nowhere"),
            ("limits.boddy", "1"),
            ("log.files", "0"),
        ] {
            assert!(set_in_file(&path, key, value).is_err(), "{key}");
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "listen = \"127.0.0.1:1\"\n"
        );
    }

    #[test]
    fn a_new_file_is_made_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/skep.toml");
        set_in_file(&path, "shutdown.drain", "60s").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "[shutdown]\ndrain = \"1m\"\n"
        );
    }
}
