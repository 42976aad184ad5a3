//! Plain web APIs as tools: a description in OpenAPI 3.0 or 3.1 is read, each operation becomes the definition of a tool, and
//! a call of it a request. What is not understood is left out and said, or refused; nothing is guessed. No I/O.

mod form;
mod operation;
mod parameter;
mod schema;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::Value;

use self::operation::At;
pub use self::operation::{Asked, Operation};
use self::schema::{Root, Schemas};
use crate::class::Rules;
use crate::pin::Definition;
use crate::raw::strict;

/// Bytes of a description.
pub const MOST_DESCRIPTION: usize = 1 << 20;
/// Operations that are to become tools, and do or do not.
const MOST_OPERATIONS: usize = 500;
/// Operations of a description, with those that nobody wants.
const MOST_NAMED: usize = 5_000;
/// What is said to be left out: what is beyond is not said.
const MOST_LEFT_OUT: usize = 1_000;
/// Characters of what a description says, where something is said of it.
const MOST_SHOWN: usize = 300;
/// Bytes of all their definitions.
const MOST_DEFINITIONS: usize = 4 << 20;
/// Characters of a name that is made here: what models take.
const MOST_WORD: usize = 64;
/// Characters of a title.
const MOST_TITLE: usize = 100;
/// Methods that become tools.
const METHODS: [&str; 6] = ["get", "put", "post", "delete", "head", "patch"];
/// Others that a path may have.
const OTHERS: [&str; 3] = ["options", "trace", "query"];

/// A description of an API, as it was given.
pub struct Description {
    text: String,
    made: OnceLock<Result<Api, String>>,
}

/// What a description becomes.
#[derive(Debug, Clone)]
pub struct Api {
    /// What it is called.
    pub title: String,
    /// Its version.
    pub version: String,
    /// Its operations that are tools.
    pub operations: Vec<Operation>,
    /// What is no tool, or a tool that does without something, and why.
    pub left_out: Vec<(String, String)>,
}

impl std::fmt::Debug for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Description({} bytes)", self.text.len())
    }
}

impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Description {}

/// A name that is safe everywhere: letters, digits, `_`, `-` and `.`.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let safe = |c: char| if plain(c) { c } else { '_' };
    let safe: String = text.chars().map(safe).take(MOST_WORD).collect();
    match safe.is_empty() {
        true => "_".to_owned(),
        false => safe,
    }
}

/// What a description says, where something is said of it.
fn short(text: &str) -> String {
    text.chars().take(MOST_SHOWN).collect()
}

/// Whether a text may be the name of a header or a cookie.
fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(token)
}

/// Reads a description, and whether it is of 3.0.
fn read(text: &str) -> Result<(Value, bool), String> {
    if text.len() > MOST_DESCRIPTION {
        return Err("it has more than 1 MiB".to_owned());
    }
    let all = strict(text)?;
    let version = all.get("openapi").and_then(Value::as_str);
    let old = match version {
        Some(version) if version.starts_with("3.0.") => true,
        Some(version) if version.starts_with("3.1.") => false,
        Some(_) => return Err("it is of a version that is none of OpenAPI 3.0 and 3.1".to_owned()),
        None if all.get("swagger").is_some() => {
            return Err("it is Swagger 2.0: convert it to OpenAPI 3.0 or 3.1 first".to_owned());
        }
        None => return Err("it does not say `openapi: 3.0.x` or `3.1.x`".to_owned()),
    };
    match all.get("paths").is_some_and(Value::is_object) {
        true => Ok((all, old)),
        false => Err("it has no `paths`".to_owned()),
    }
}

impl Description {
    /// One that was looked at before.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self {
            text,
            made: OnceLock::new(),
        }
    }

    /// What Skep itself can, of which tools are made.
    #[must_use]
    pub fn own() -> Self {
        Self::new(include_str!("openapi/skep.json").to_owned())
    }

    /// As it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it says that the API is.
    ///
    /// # Errors
    /// Why it does not.
    pub fn base(&self) -> Result<String, String> {
        let (all, _) = read(&self.text)?;
        let server = all.pointer("/servers/0");
        let url = server.and_then(|it| it.get("url")).and_then(Value::as_str);
        let mut url = url.unwrap_or_default().to_owned();
        let variables = server.and_then(|it| it.get("variables")?.as_object());
        for (name, variable) in variables.into_iter().flatten() {
            let value = variable.get("default").and_then(Value::as_str);
            url = url.replace(&format!("{{{name}}}"), value.unwrap_or_default());
        }
        match url.starts_with("https://") || url.starts_with("http://") {
            true => Ok(url),
            false => Err(
                "the description does not say at which address the API is: say it in `url`"
                    .to_owned(),
            ),
        }
    }

    /// Whether what it becomes is known: to find out takes time.
    pub(crate) fn is_made(&self) -> bool {
        self.made.get().is_some()
    }

    /// What it becomes, for a server with these headers and rules: those of its settings, which do not change.
    pub(crate) fn api(&self, said: &BTreeSet<String>, rules: &Rules) -> &Result<Api, String> {
        self.made.get_or_init(|| Api::read(&self.text, said, rules))
    }
}

/// The text of a field, without what is no text.
fn title(all: &Value, pointer: &str) -> String {
    let text = all.pointer(pointer).and_then(Value::as_str);
    let plain = |c: &char| !c.is_control();
    let text = text.unwrap_or_default().chars().filter(plain);
    text.take(MOST_TITLE).collect()
}

/// A description that is being read.
struct Reading<'a> {
    schemas: Schemas<'a>,
    said: &'a BTreeSet<String>,
    rules: &'a Rules,
    api: Api,
    /// Operations that it has.
    all: usize,
    /// Those that `allow` and `deny` leave, whatever becomes of them.
    tried: usize,
    /// Bytes of their definitions.
    size: usize,
}

const TOO_MUCH: &str = "it has more than 500 operations, or they say more than 4 MiB: name those that are wanted in `allow`";

impl<'a> Reading<'a> {
    /// Notes what is left out.
    fn leave(&mut self, what: &str, why: &str) {
        if self.api.left_out.len() < MOST_LEFT_OUT {
            self.api.left_out.push((short(what), short(why)));
        }
    }

    /// All operations of a path.
    fn path(&mut self, root: Root<'a>, path: &'a str, item: &'a Value) -> Result<(), String> {
        let item = match root.resolved(item) {
            Ok(item) => item,
            Err(why) => {
                self.leave(path, &why);
                return Ok(());
            }
        };
        for method in OTHERS.iter().filter(|it| item.get(**it).is_some()) {
            let why = "its method is none that tools have";
            self.leave(&called(method, path), why);
        }
        for method in METHODS {
            if let Some(own) = item.get(method) {
                self.take(&At {
                    method,
                    path,
                    item,
                    own,
                })?;
            }
        }
        Ok(())
    }

    /// Takes an operation in, or notes why not.
    ///
    /// # Errors
    /// When there are too many, or they say too much.
    fn take(&mut self, at: &At<'a>) -> Result<(), String> {
        self.all += 1;
        if self.all > MOST_NAMED {
            return Err(format!("it has more than {MOST_NAMED} operations"));
        }
        let name = operation::name(at);
        if !self.rules.has(&name) {
            return Ok(());
        }
        self.tried += 1;
        if self.tried > MOST_OPERATIONS {
            return Err(TOO_MUCH.to_owned());
        }
        let what = called(at.method, at.path);
        if self.api.operation(&name).is_some() {
            let why = format!("another operation is called `{name}`, too");
            self.leave(&what, &why);
            return Ok(());
        }
        match Operation::read(&mut self.schemas, at, self.said) {
            Err(why) => self.leave(&what, &why),
            Ok((operation, left)) => match Definition::read(&operation.definition) {
                Err(why) => self.leave(&what, &why.to_string()),
                Ok(_) => {
                    left.iter().for_each(|why| self.leave(&what, why));
                    self.size += operation.definition.len();
                    self.api.operations.push(operation);
                }
            },
        }
        match self.size > MOST_DEFINITIONS || self.schemas.is_spent() {
            true => Err(TOO_MUCH.to_owned()),
            false => Ok(()),
        }
    }
}

/// What an operation is called where it is left out.
fn called(method: &str, path: &str) -> String {
    format!("{} {}", method.to_ascii_uppercase(), short(path))
}

impl Api {
    fn read(text: &str, said: &BTreeSet<String>, rules: &Rules) -> Result<Self, String> {
        let (all, old) = read(text)?;
        let root = Root { all: &all, old };
        let mut reading = Reading {
            schemas: Schemas::new(root),
            said,
            rules,
            api: Self {
                title: title(&all, "/info/title"),
                version: title(&all, "/info/version"),
                operations: Vec::new(),
                left_out: Vec::new(),
            },
            all: 0,
            tried: 0,
            size: 0,
        };
        let paths = all.get("paths").and_then(Value::as_object);
        for (path, item) in paths.into_iter().flatten() {
            reading.path(root, path, item)?;
        }
        let api = reading.api;
        match (api.operations.is_empty(), api.left_out.first()) {
            (false, _) => Ok(api),
            (true, None) => Err("it has no operation that `allow` and `deny` leave".to_owned()),
            (true, Some((what, why))) => Err(format!(
                "none of its operations can be a tool; {what}: {why}"
            )),
        }
    }

    /// An operation, by its name.
    #[must_use]
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.iter().find(|it| it.name == name)
    }
}
