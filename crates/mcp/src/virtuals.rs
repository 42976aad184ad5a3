//! Virtual servers: what they are made of. Tools of several servers under names of one's own, with arguments that are
//! fixed, and chains of a few steps that are one tool. What is declared is read here and resolved here; nothing runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::class::fits;
use crate::names::MOST_NAME;
use crate::raw::{Object, strict};
use crate::settings::WrongSetting;

/// Bytes of a declaration.
const MOST_BYTES: usize = 256 << 10;
/// The longest name of a server.
const MOST_SERVER: usize = 32;
/// Tools, or patterns of them.
const MOST_PARTS: usize = 100;
/// Tools that are made of steps.
const MOST_CHAINS: usize = 32;
/// Steps of one.
const MOST_STEPS: usize = 16;
/// Arguments of one call that are said.
const MOST_ARGUMENTS: usize = 64;
/// Bytes of a pointer, and of a text that says what something is.
const MOST_TEXT: usize = 4_096;
/// Where the first step takes its arguments from.
const INPUT: &str = "input";

/// A virtual server.
#[derive(Debug, Clone, PartialEq)]
pub struct Virtual {
    /// Its name, which no server has.
    pub name: String,
    /// What it says of itself.
    pub about: String,
    /// Tools of servers. The first one of a name counts.
    pub tools: Vec<Part>,
    /// Tools of its own.
    pub chains: Vec<Chain>,
    /// Servers whose resources are there.
    pub resources: Vec<String>,
    /// Servers whose prompts are there.
    pub prompts: Vec<String>,
    declared: String,
}

/// Tools of a server, as a virtual server has them.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The server.
    pub server: String,
    /// The tool; a pattern, where they keep their names.
    pub tool: String,
    /// What it is called here.
    pub name: Option<String>,
    /// What is said of it here.
    pub description: Option<String>,
    /// Arguments that nobody else says.
    pub fixed: BTreeMap<String, Value>,
}

/// A tool that is made of steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The schema of what it is given.
    pub input: Value,
    /// What is done, in order. What the last answers is the answer.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name among the steps.
    pub name: String,
    /// The server.
    pub server: String,
    /// Its tool.
    pub tool: String,
    /// What it is given.
    pub arguments: BTreeMap<String, Given>,
}

/// Where an argument comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// It is said.
    Value(Value),
    /// It is taken from what the chain was given (none), or from what a step answered, by a JSON pointer (RFC 6901).
    From(Option<usize>, String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    about: String,
    #[serde(default)]
    tools: Vec<SaidPart>,
    #[serde(default)]
    composed: Vec<SaidChain>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    prompts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidPart {
    tool: String,
    name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    fixed: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidChain {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    input: Map<String, Value>,
    steps: Vec<SaidStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidStep {
    name: String,
    tool: String,
    #[serde(default)]
    arguments: BTreeMap<String, SaidGiven>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidGiven {
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    from: Option<String>,
    pointer: Option<String>,
}

/// A value that is said, though it be `null`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn wrong<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, WrongSetting> {
    Err(WrongSetting {
        field: field.into(),
        why: why.into(),
    })
}

fn is_server(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= MOST_SERVER && name.chars().all(plain)
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.len() <= MOST_NAME && name.chars().all(plain)
}

/// A text such as `server/tool`.
fn target(field: &str, text: &str) -> Result<(String, String), WrongSetting> {
    match text.split_once('/') {
        Some((server, tool))
            if is_server(server)
                && !tool.is_empty()
                && tool.len() <= 128
                && tool.bytes().all(|it| it.is_ascii_graphic())
                && !tool.starts_with(':') =>
        {
            Ok((server.to_owned(), tool.to_owned()))
        }
        _ => wrong(field, "write it as `server/tool`"),
    }
}

impl SaidPart {
    fn read(self, field: &str) -> Result<Part, WrongSetting> {
        let (server, tool) = target(field, &self.tool)?;
        let is_own = self.name.is_some() || self.description.is_some() || !self.fixed.is_empty();
        if tool.contains('*') && is_own {
            let why =
                "a pattern stands for several tools: `name`, `description` and `fixed` are of one";
            return wrong(field, why);
        }
        if self.name.as_deref().is_some_and(|it| !is_name(it)) {
            return wrong(
                field,
                "`name` has 1 to 64 of letters, digits, `_`, `-` and `.`",
            );
        }
        if self.fixed.len() > MOST_ARGUMENTS {
            return wrong(field, "`fixed` has 64 arguments at most");
        }
        if self
            .description
            .as_ref()
            .is_some_and(|it| it.len() > MOST_TEXT)
        {
            return wrong(field, "`description` has 4,096 bytes at most");
        }
        Ok(Part {
            server,
            tool,
            name: self.name,
            description: self.description,
            fixed: self.fixed,
        })
    }
}

impl SaidGiven {
    fn read(self, field: &str, before: &[Step]) -> Result<Given, WrongSetting> {
        let (from, pointer) = match (self.value, self.from, self.pointer) {
            (Some(value), None, None) => return Ok(Given::Value(value)),
            (None, Some(from), pointer) => (from, pointer.unwrap_or_default()),
            _ => return wrong(field, "either `value`, or `from` with a `pointer`"),
        };
        if pointer.len() > MOST_TEXT || !(pointer.is_empty() || pointer.starts_with('/')) {
            return wrong(field, "`pointer` is empty or begins with `/` (RFC 6901)");
        }
        if from == INPUT {
            return Ok(Given::From(None, pointer));
        }
        match before.iter().position(|it| it.name == from) {
            Some(step) => Ok(Given::From(Some(step), pointer)),
            None => wrong(
                field,
                "`from` is `input` or the name of a step before this one",
            ),
        }
    }
}

impl SaidChain {
    fn read(self, field: &str) -> Result<Chain, WrongSetting> {
        if !is_name(&self.name) {
            return wrong(
                field,
                "`name` has 1 to 64 of letters, digits, `_`, `-` and `.`",
            );
        }
        if self.description.len() > MOST_TEXT {
            return wrong(field, "`description` has 4,096 bytes at most");
        }
        if self.steps.is_empty() || self.steps.len() > MOST_STEPS {
            return wrong(field, "1 to 16 `steps`");
        }
        let mut input = self.input;
        let kind = input.entry("type").or_insert_with(|| "object".into());
        if kind != "object" {
            return wrong(field, "`input` is the schema of an object");
        }
        let mut steps: Vec<Step> = Vec::new();
        for (at, step) in self.steps.into_iter().enumerate() {
            let field = format!("{field}.steps[{at}]");
            let (server, tool) = target(&field, &step.tool)?;
            if tool.contains('*') {
                return wrong(field, "a step is one tool");
            }
            let is_twice = steps.iter().any(|it| it.name == step.name);
            if !is_name(&step.name) || step.name == INPUT || is_twice {
                return wrong(field, "`name` is a name of its own, and not `input`");
            }
            if step.arguments.len() > MOST_ARGUMENTS {
                return wrong(field, "64 `arguments` at most");
            }
            let mut arguments = BTreeMap::new();
            for (name, given) in step.arguments {
                let given = given.read(&format!("{field}.arguments.{name}"), &steps)?;
                arguments.insert(name, given);
            }
            steps.push(Step {
                name: step.name,
                server,
                tool,
                arguments,
            });
        }
        Ok(Chain {
            name: self.name,
            description: self.description,
            input: Value::Object(input),
            steps,
        })
    }
}

impl Virtual {
    /// Reads a declaration: JSON.
    ///
    /// # Errors
    /// [`WrongSetting`], with the field.
    pub fn read(name: &str, text: &str) -> Result<Self, WrongSetting> {
        if !is_server(name) {
            return wrong("name", "1 to 32 of a-z, 0-9 and `-`");
        }
        if text.len() > MOST_BYTES {
            return wrong("body", "it has 256 KiB at most");
        }
        let said = strict(text).and_then(|value| {
            serde_json::from_value::<Said>(value).map_err(|error| error.to_string())
        });
        let said = match said {
            Ok(said) => said,
            Err(why) => return wrong("body", why),
        };
        if said.about.len() > MOST_TEXT {
            return wrong("about", "4,096 bytes at most");
        }
        if said.tools.len() > MOST_PARTS || said.composed.len() > MOST_CHAINS {
            return wrong("tools", "100 at most, and 32 that are composed");
        }
        for (field, servers) in [("resources", &said.resources), ("prompts", &said.prompts)] {
            if servers.len() > MOST_PARTS || !servers.iter().all(|it| is_server(it)) {
                return wrong(field, "names of servers");
            }
        }
        let parts = said.tools.into_iter().enumerate();
        let tools = parts.map(|(at, part)| part.read(&format!("tools[{at}]")));
        let tools: Vec<Part> = tools.collect::<Result<_, _>>()?;
        let chains = said.composed.into_iter().enumerate();
        let chains = chains.map(|(at, chain)| chain.read(&format!("composed[{at}]")));
        let chains: Vec<Chain> = chains.collect::<Result<_, _>>()?;
        let own = tools.iter().filter(|it| !it.tool.contains('*'));
        let own = own.map(|it| it.name.as_deref().unwrap_or(&it.tool));
        let mut seen = BTreeSet::new();
        for name in own.chain(chains.iter().map(|it| it.name.as_str())) {
            if !seen.insert(name) {
                return wrong(
                    "tools",
                    format!("two are called `{name}`: give one a `name`"),
                );
            }
        }
        Ok(Self {
            name: name.to_owned(),
            about: said.about,
            tools,
            chains,
            resources: said.resources,
            prompts: said.prompts,
            declared: text.to_owned(),
        })
    }

    /// As it was declared.
    #[must_use]
    pub fn declared(&self) -> &str {
        &self.declared
    }

    /// The servers that it names.
    #[must_use]
    pub fn servers(&self) -> BTreeSet<&str> {
        let parts = self.tools.iter().map(|it| &it.server);
        let steps = self.chains.iter().flat_map(|it| &it.steps);
        let more = self.resources.iter().chain(&self.prompts);
        let all = parts.chain(steps.map(|it| &it.server)).chain(more);
        all.map(String::as_str).collect()
    }

    /// The chain of a name.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|it| it.name == name)
    }

    /// The part that a name means, and its tool: `has` says whether a server has a tool. What is named comes before
    /// what is meant by a pattern, and chains before all.
    #[must_use]
    pub fn part(&self, name: &str, has: impl Fn(&str, &str) -> bool) -> Option<(&Part, String)> {
        if self.chain(name).is_some() {
            return None;
        }
        let named = |it: &&Part| match &it.name {
            Some(own) => own == name,
            None => it.tool == name,
        };
        let mut parts = self.tools.iter().filter(|it| !it.tool.contains('*'));
        if let Some(part) = parts.find(named) {
            return Some((part, part.tool.clone()));
        }
        let mut patterns = self.tools.iter().filter(|it| it.tool.contains('*'));
        let part = patterns.find(|it| fits(&it.tool, name) && has(&it.server, name))?;
        Some((part, name.to_owned()))
    }
}

impl Part {
    /// The definition of a tool as it is shown: under its name here, without what nobody else says.
    #[must_use]
    pub fn shown(&self, definition: &str) -> Option<String> {
        let fields = Object::parse(definition)?;
        let name = self
            .name
            .as_ref()
            .map(|it| Value::from(it.as_str()).to_string());
        let about = self.description.as_ref();
        let about = about.map(|it| Value::from(it.as_str()).to_string());
        let schema = match self.fixed.is_empty() {
            true => None,
            false => Some(self.narrowed(&fields.object("inputSchema")?)),
        };
        let all = [
            ("name", name),
            ("description", about),
            ("inputSchema", schema),
        ];
        let changes: Vec<(&str, Option<&str>)> = all
            .iter()
            .filter_map(|(field, value)| Some((*field, Some(value.as_deref()?))))
            .collect();
        Some(fields.with(&changes))
    }

    fn narrowed(&self, schema: &Object<'_>) -> String {
        let gone: Vec<(&str, Option<&str>)> =
            self.fixed.keys().map(|it| (it.as_str(), None)).collect();
        let properties = schema.object("properties").map(|it| it.with(&gone));
        let required = schema.get("required");
        let required: Option<Vec<String>> =
            required.and_then(|it| serde_json::from_str(it.get()).ok());
        let required = required.map(|all| {
            let left = all.into_iter().filter(|it| !self.fixed.contains_key(it));
            Value::from(left.collect::<Vec<_>>()).to_string()
        });
        let all = [("properties", properties), ("required", required)];
        let changes: Vec<(&str, Option<&str>)> = all
            .iter()
            .filter_map(|(field, value)| Some((*field, Some(value.as_deref()?))))
            .collect();
        schema.with(&changes)
    }

    /// The arguments of a call with those that nobody else says; none, when somebody says one of them.
    #[must_use]
    pub fn arguments(&self, given: Option<&Object<'_>>) -> Option<String> {
        let is_said = |it: &Object<'_>| self.fixed.keys().any(|name| it.get(name).is_some());
        if given.is_some_and(|it| is_said(it) || it.disguised(&self.names()).is_some()) {
            return None;
        }
        let texts: Vec<(&str, String)> = self
            .fixed
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_string()))
            .collect();
        let more: Vec<(&str, Option<&str>)> = texts
            .iter()
            .map(|(name, text)| (*name, Some(text.as_str())))
            .collect();
        match given {
            Some(given) => Some(given.with(&more)),
            None => Object::parse("{}").map(|it| it.with(&more)),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.fixed.keys().map(String::as_str).collect()
    }
}

/// Bytes of the arguments of a step, about.
const MOST_GIVEN: usize = 8 << 20;

/// How large a value is, about.
fn size(value: &Value) -> usize {
    const ONE: usize = 8;
    ONE + match value {
        Value::String(text) => text.len(),
        Value::Array(all) => all.iter().map(size).sum(),
        Value::Object(all) => all.iter().map(|(name, it)| name.len() + size(it)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

impl Step {
    /// What it is given, by what the chain was given and what the steps before it answered.
    ///
    /// # Errors
    /// The argument that is not there, or that they are too large together, in words.
    pub fn given(&self, input: &Value, answers: &[Value]) -> Result<Map<String, Value>, String> {
        let mut all = Map::new();
        let mut left = MOST_GIVEN;
        for (name, given) in &self.arguments {
            let value = match given {
                Given::Value(value) => Some(value),
                Given::From(None, pointer) => input.pointer(pointer),
                Given::From(Some(step), pointer) => {
                    answers.get(*step).and_then(|it| it.pointer(pointer))
                }
            };
            match value {
                Some(value) => {
                    let large = || format!("its arguments are larger than {MOST_GIVEN} bytes");
                    left = left.checked_sub(size(value)).ok_or_else(large)?;
                    all.insert(name.clone(), value.clone())
                }
                // What a chain is not given a step is not given either: whether it must be is for the tool to say.
                None if matches!(given, Given::From(None, _)) => continue,
                None => {
                    let why = "is not in what the step before answered";
                    return Err(format!("its argument `{name}` {why}"));
                }
            };
        }
        Ok(all)
    }
}
