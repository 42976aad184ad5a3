//! The two eras of the protocol: with a handshake and a session (up to 2025-11-25), and without (from 2026-07-28 on),
//! where headers say again what the body says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::raw::Object;

/// Revisions with a handshake that pass here, newest first.
pub const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// Revisions without one.
pub const MODERN: [&str; 1] = ["2026-07-28"];
/// The header of the revision.
pub const HEADER_VERSION: &str = "mcp-protocol-version";
/// The header of a session.
pub const HEADER_SESSION: &str = "mcp-session-id";
/// The header that says again which method it is.
pub const HEADER_METHOD: &str = "mcp-method";
/// The header that says again which tool, prompt or resource.
pub const HEADER_NAME: &str = "mcp-name";
/// What headers begin with that say an argument again.
pub const HEADER_PARAM: &str = "mcp-param-";
/// Where a request says its revision.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Where a request says who the client is.
pub const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// Where a request says what the client can.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// Codes of errors.
pub mod code {
    /// It is no JSON.
    pub const PARSE: i64 = -32700;
    /// It is no request.
    pub const REQUEST: i64 = -32600;
    /// There is no such method.
    pub const METHOD: i64 = -32601;
    /// There is no such thing, or it may not be used.
    pub const PARAMS: i64 = -32602;
    /// It failed on the way.
    pub const INTERNAL: i64 = -32603;
    /// Headers say something else than the body.
    pub const MISMATCH: i64 = -32020;
    /// The revision is not spoken here.
    pub const VERSION: i64 = -32022;
}

/// An era.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// With a handshake.
    Legacy,
    /// Each request says all.
    Modern,
}

impl Era {
    /// That of a request, by what its parameters say; what the header says counts where they say nothing.
    #[must_use]
    pub fn of(params: Option<&Object<'_>>, header: Option<&str>) -> Self {
        let said = params
            .and_then(|it| it.object("_meta"))
            .and_then(|it| it.text(META_VERSION));
        match said.as_deref().or(header) {
            // Dates: what is newer than the last with a handshake has none.
            Some(version) if version > LEGACY[0] => Self::Modern,
            _ => Self::Legacy,
        }
    }

    /// How it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// A value as a header has it: as it is, where that is safe.
#[must_use]
pub fn encoded(value: &str) -> String {
    let plain = value
        .bytes()
        .all(|byte| matches!(byte, 0x20..=0x7e | b'\t'));
    let bare = value.trim_matches([' ', '\t']) == value && !value.is_empty();
    let is_marked = value.starts_with("=?base64?") && value.ends_with("?=");
    match plain && bare && !is_marked {
        true => value.to_owned(),
        false => format!("=?base64?{}?=", STANDARD.encode(value)),
    }
}

/// What a header means; nothing, when it cannot be read.
#[must_use]
pub fn decoded(header: &str) -> Option<String> {
    let inside = header
        .strip_prefix("=?base64?")
        .and_then(|it| it.strip_suffix("?="));
    match inside {
        None => Some(header.to_owned()),
        Some(text) => String::from_utf8(STANDARD.decode(text).ok()?).ok(),
    }
}

/// The arguments of a call that headers say again, as the tool's definition asks for: the headers, with their values.
#[must_use]
pub fn mirrored(definition: &str, arguments: Option<&Object<'_>>) -> Vec<(String, String)> {
    let all = repeated(definition, arguments).into_iter();
    all.filter_map(|(name, value)| Some((name, encoded(&value?))))
        .collect()
}

/// The headers that say arguments again, with what each argument is, when it is given.
fn repeated(definition: &str, arguments: Option<&Object<'_>>) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let schema = Object::parse(definition).and_then(|it| it.object("inputSchema"));
    if let Some(schema) = schema {
        collect(&schema, arguments, MOST_DEPTH, &mut found);
    }
    found
}

/// Whether the headers that say arguments of a call again say what the body says, for each header that is there. Gives
/// the names, in small letters, of those that the tool's definition asks for: others mean nothing.
///
/// # Errors
/// [`Mismatch`].
pub fn repeats<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    definition: &str,
    arguments: Option<&Object<'_>>,
) -> Result<Vec<String>, Mismatch> {
    let all = repeated(definition, arguments);
    let mut seen: Vec<String> = Vec::new();
    for (name, said) in headers {
        let mut asked = all.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        let Some((_, given)) = asked.next() else {
            continue;
        };
        let text = std::str::from_utf8(said).ok().and_then(decoded);
        // Two parameters of one header, or one header twice: two readers may take another one each.
        let is_one = asked.next().is_none() && !seen.iter().any(|it| it == name);
        if !is_one || !is_same(text.as_deref(), given.as_deref()) {
            return Err(Mismatch("mcp-param-*"));
        }
        seen.push(name.to_owned());
    }
    Ok(seen)
}

/// Whether two texts are the same, or the same number.
fn is_same(said: Option<&str>, given: Option<&str>) -> bool {
    let (Some(said), Some(given)) = (said, given) else {
        return false;
    };
    let number = |text: &str| {
        serde_json::from_str::<serde_json::Number>(text)
            .ok()?
            .as_f64()
    };
    said == given || number(said).is_some_and(|it| number(given) == Some(it))
}

/// Whether headers can say again what a tool's definition wants said again: each header has a name of its own, and is of a
/// text, a whole number or a yes or no. Who speaks HTTP leaves other tools out.
#[must_use]
pub fn can_repeat(definition: &Object<'_>) -> bool {
    let mut seen = Vec::new();
    let schema = definition.object("inputSchema");
    schema.is_none_or(|it| well_named(&it, MOST_DEPTH, &mut seen))
}

/// Whether a text can be the name of a header, or the end of one.
fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

fn well_named(schema: &Object<'_>, depth: usize, seen: &mut Vec<String>) -> bool {
    let Some(properties) = schema.object("properties").filter(|_| depth > 0) else {
        return true;
    };
    for (_, about) in properties.fields() {
        let Some(about) = Object::parse(about) else {
            continue;
        };
        if about.get("x-mcp-header").is_some() {
            let name = about.text("x-mcp-header").filter(|it| is_token(it));
            let kind = about.text("type");
            let is_plain = matches!(kind.as_deref(), Some("string" | "integer" | "boolean"));
            match name.map(|it| it.to_ascii_lowercase()) {
                Some(name) if is_plain && !seen.contains(&name) => seen.push(name),
                _ => return false,
            }
        }
        if !well_named(&about, depth - 1, seen) {
            return false;
        }
    }
    true
}

/// How deep arguments are looked at.
const MOST_DEPTH: usize = 16;

fn collect(
    schema: &Object<'_>,
    given: Option<&Object<'_>>,
    depth: usize,
    found: &mut Vec<(String, Option<String>)>,
) {
    let Some(properties) = schema.object("properties").filter(|_| depth > 0) else {
        return;
    };
    for (name, about) in properties.fields() {
        let Some(about) = Object::parse(about) else {
            continue;
        };
        let value = given.and_then(|it| it.get(name));
        let header = about.text("x-mcp-header");
        if let Some(header) = header.filter(|it| is_token(it)) {
            let text = match value.map(|it| serde_json::from_str(it.get())) {
                Some(Ok(serde_json::Value::String(text))) => Some(text),
                Some(Ok(plain @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)))) => {
                    Some(plain.to_string())
                }
                _ => None,
            };
            found.push((format!("{HEADER_PARAM}{header}"), text));
        }
        let inner = value.and_then(|it| Object::parse(it.get()));
        collect(&about, inner.as_ref(), depth - 1, found);
    }
}

/// A header that says something else than the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header `{0}` says something else than the body")]
pub struct Mismatch(pub &'static str);

/// The parameter that [`HEADER_NAME`] says again.
fn named(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    }
}

/// Whether the headers that are there say what the body says. One of them may be missing: whether it must be there is
/// for the server to say.
///
/// # Errors
/// [`Mismatch`].
pub fn agrees<'a>(
    header: impl Fn(&str) -> Vec<&'a [u8]>,
    method: &str,
    params: Option<&Object<'_>>,
) -> Result<(), Mismatch> {
    let one = |name: &'static str| match header(name).as_slice() {
        [] => Ok(None),
        [one] => {
            let text = std::str::from_utf8(one).ok();
            text.map(Some).ok_or(Mismatch(name))
        }
        _ => Err(Mismatch(name)),
    };
    if one(HEADER_METHOD)?.is_some_and(|it| it != method) {
        return Err(Mismatch(HEADER_METHOD));
    }
    if let Some(name) = one(HEADER_NAME)? {
        let field = named(method);
        let own = field.and_then(|field| params?.text(field));
        let said = decoded(name).ok_or(Mismatch(HEADER_NAME))?;
        if field.is_some() && own.as_deref() != Some(&said) {
            return Err(Mismatch(HEADER_NAME));
        }
    }
    let meta = params.and_then(|it| it.object("_meta"));
    let body = meta.and_then(|it| it.text(META_VERSION));
    match (one(HEADER_VERSION)?, body) {
        (Some(header), Some(body)) if header != body => Err(Mismatch(HEADER_VERSION)),
        _ => Ok(()),
    }
}
