//! What clients of 0.3 write otherwise. Over HTTP they write what the protocol's buffers of that time said, which lies between
//! the two versions; both are understood.

use serde_json::Value;

use super::fields::{Fields, Read, Wrong};
use super::model::{Content, Part, raw};

/// A part as 0.3 has it; none, when it looks as one of 1.0.
pub(super) fn part(fields: &Fields<'_>) -> Read<Option<Part>> {
    let kind = fields.text("kind")?;
    let kind = kind.as_deref().or_else(|| match fields.get("file") {
        Some(_) => Some("file"),
        None => fields.get("data")?.get("data").map(|_| "data"),
    });
    let mut part = match kind {
        None => return Ok(None),
        Some("text") => {
            let text = fields.get("text").and_then(Value::as_str);
            let missing = || Wrong::new("it is missing; it must be a text").within("text");
            Part::text(text.ok_or_else(missing)?)
        }
        Some("file") => fields.needs("file", file)?,
        Some("data") => {
            let data = fields.needs("data", |it| Ok(it.clone()))?;
            let inner = match &data {
                Value::Object(all) if all.len() == 1 && fields.get("kind").is_none() => {
                    all.get("data").cloned()
                }
                _ => None,
            };
            Part::data(inner.unwrap_or(data))
        }
        Some(_) => {
            let why = "it must be one of: text, file, data";
            return Err(Wrong::new(why).within("kind"));
        }
    };
    part.metadata = fields.object("metadata")?;
    Ok(Some(part))
}

fn file(value: &Value) -> Read<Part> {
    let fields = Fields::of(value)?;
    let bytes = match fields.text("bytes")? {
        None => fields.text("fileWithBytes")?,
        bytes => bytes,
    };
    let uri = match fields.text("uri")? {
        None => fields.text("fileWithUri")?,
        uri => uri,
    };
    let content = match (bytes, uri) {
        (Some(bytes), None) => Content::Raw(raw(&bytes).map_err(|wrong| wrong.within("bytes"))?),
        (None, Some(uri)) => Content::Url(uri),
        _ => return Err(Wrong::new("it must have exactly one of: bytes, uri")),
    };
    let mut part = Part::from(content);
    part.filename = fields.text("name")?;
    part.media_type = fields.text("mimeType")?;
    Ok(part)
}
