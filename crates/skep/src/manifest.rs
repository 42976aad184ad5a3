//! Manifests: agents as YAML (or JSON, which is YAML) in one file, read into specifications.
//!
//! A file holds one document or many, parted by `---`. A document is an agent (`kind: Agent`, or no
//! kind at all), a `Stack` of agents, or the older `AgentDeployment`. `${NAME}` is replaced by the
//! environment's value in plain scalars; `${secret:NAME}` and `${secret-file:NAME}` stay as they are. What is wrong is told
//! with its line and column.

mod older;
mod place;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::take;
use std::path::Path;

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use skep_api::AgentSpec;
use skep_core::PublicError;
use skep_runtime::Spec;

use crate::failure::{Failure, Result};
use place::Node;

/// The version of the documents that are read and written.
pub(crate) const API_VERSION: &str = "skep/v1";
/// The drivers that a manifest may name.
const DRIVERS: [&str; 2] = ["process", "docker"];
/// Keys of a document that are not the specification's.
const ENVELOPE: [&str; 2] = ["apiVersion", "kind"];

/// How references to secrets begin.
const REFERENCES: [&str; 2] = ["${secret:", "${secret-file:"];

/// Where a manifest comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Its name in messages.
    pub(crate) name: &'a str,
    /// The folder that relative paths start from.
    pub(crate) folder: &'a Path,
    /// What `${NAME}` may stand for.
    pub(crate) variables: &'a HashMap<String, String>,
}

/// What a manifest says.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    /// The agents, each after those that it depends on.
    pub(crate) agents: Vec<AgentSpec>,
    /// What was read and has no meaning here.
    pub(crate) notes: Vec<String>,
}

/// What a document is.
#[derive(Debug, Default, Deserialize)]
struct Header {
    #[serde(rename = "apiVersion")]
    version: Option<String>,
    kind: Option<String>,
}

/// A specification below `apiVersion` and `kind`.
struct Agent(AgentSpec);

/// Agents that belong together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stack {
    #[serde(rename = "apiVersion")]
    _version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Variables that every agent gets, unless it says otherwise.
    #[serde(default)]
    env: BTreeMap<String, String>,
    agents: Vec<AgentSpec>,
}

/// A document as it is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "apiVersion")]
    version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    spec: &'a AgentSpec,
}

/// Reads a manifest.
pub(crate) fn read(text: &str, source: Source<'_>) -> Result<Manifest> {
    let mut manifest = Manifest::default();
    let mut places = HashMap::new();
    for document in documents(text) {
        let read = one(&document, source, &mut manifest)?;
        for (mut spec, path) in read {
            settle_paths(&mut spec, source.folder);
            // In quotes nothing is replaced, and so the escapes stay.
            for value in spec.env.values_mut() {
                *value = REFERENCES.iter().fold(take(value), |text, open| {
                    text.replace(&format!("${open}"), open)
                });
            }
            let place = || place::Place::of(&document, &path);
            if let Err((field, why)) = check(&spec) {
                return Err(wrong(source, &document, place().find(&field), &why));
            }
            if places.insert(spec.name.clone(), ()).is_some() {
                let why = format!("a second agent is named `{}`", spec.name);
                return Err(wrong(source, &document, place().find("name"), &why));
            }
            manifest.agents.push(spec);
        }
    }
    if manifest.agents.is_empty() {
        return Err(Failure::usage(format!("{} has no agent", source.name)));
    }
    manifest.agents = in_order(manifest.agents)?;
    Ok(manifest)
}

/// An agent as a document that [`read`] takes.
pub(crate) fn write(spec: &AgentSpec) -> Result<String> {
    let written = Written {
        version: API_VERSION,
        kind: "Agent",
        spec,
    };
    serde_saphyr::to_string(&written).map_err(|error| Failure::plain(error.to_string()))
}

/// The documents of a text. Each keeps its lines: what comes before it is empty.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push("\n".repeat(number));
            let rest = line.strip_prefix("---").unwrap_or_default();
            push_line(&mut documents, &format!("   {rest}"));
        } else {
            push_line(&mut documents, line);
        }
    }
    let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    documents.retain(|document| !document.lines().all(is_empty));
    documents
}

fn push_line(documents: &mut [String], line: &str) {
    if let Some(last) = documents.last_mut() {
        last.push_str(line);
        last.push('\n');
    }
}

/// Reads a document as one type, with variables replaced.
fn parse<T: for<'a> Deserialize<'a>>(document: &str, source: Source<'_>) -> Result<T> {
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    let options = options.with_properties(source.variables.clone());
    // A secret's name is no variable: it is replaced where it is used.
    let escaped = REFERENCES.iter().fold(document.to_owned(), |text, open| {
        text.replace(open, &format!("${open}"))
    });
    serde_saphyr::from_str_with_options(&escaped, options).map_err(|error| {
        let at = error.location().and_then(|at| {
            let number = |value: u64| usize::try_from(value).ok();
            Some((number(at.line())?, number(at.column())?))
        });
        let text = error.to_string();
        let said = text
            .split_once(": ")
            .filter(|(place, _)| place.contains("column"));
        let said = said.map_or(text.as_str(), |(_, said)| said);
        let (what, known) = said.split_once(", expected one of ").unwrap_or((said, ""));
        wrong(source, document, at, what).hint(advice(what, known))
    })
}

/// The next thing to do about what the reader said.
fn advice(what: &str, known: &str) -> String {
    let field = what
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    if let Some(field) = field {
        let known: Vec<&str> = known
            .split(", ")
            .map(|name| name.trim_matches('`'))
            .collect();
        return match skep_core::similar(field, known.iter().copied()) {
            Some(similar) => format!("Did you mean `{similar}`?"),
            None => format!("There are: {}.", known.join(", ")),
        };
    }
    match what.contains("variable") || what.contains("property") {
        true => "Set the variable, or give it a default: ${NAME:-default}.".to_owned(),
        false => "The fields are described in docs/manifests.md.".to_owned(),
    }
}

/// The agents of one document, each with its path in it.
fn one(
    document: &str,
    source: Source<'_>,
    manifest: &mut Manifest,
) -> Result<Vec<(AgentSpec, String)>> {
    let header = Node::read(document).ok().map(|node| Header {
        version: node.text("apiVersion"),
        kind: node.text("kind"),
    });
    let header = header.unwrap_or_default();
    let place = place::Place::of(document, "");
    match (header.version.as_deref(), header.kind.as_deref()) {
        (_, Some("AgentDeployment")) => {
            let (agents, notes) = older::translate(parse(document, source)?);
            manifest.notes.extend(notes);
            let path = |index: usize| format!("spec.agents[{index}]");
            let agents = agents.into_iter().enumerate();
            Ok(agents.map(|(index, spec)| (spec, path(index))).collect())
        }
        (None | Some(API_VERSION), None | Some("Agent")) => {
            let Agent(spec) = parse(document, source)?;
            Ok(vec![(spec, String::new())])
        }
        (None | Some(API_VERSION), Some("Stack")) => {
            let stack: Stack = parse(document, source)?;
            let agents = stack.agents.into_iter().enumerate();
            let belong = |(index, mut spec): (usize, AgentSpec)| {
                let of_stack = stack.env.clone().into_iter();
                spec.env = of_stack.chain(spec.env).collect();
                let labels = stack.labels.clone().into_iter();
                spec.labels = labels.chain(spec.labels).collect();
                spec.labels.insert("stack".to_owned(), stack.name.clone());
                (spec, format!("agents[{index}]"))
            };
            Ok(agents.map(belong).collect())
        }
        (None | Some(API_VERSION), Some(kind)) => {
            let why = format!("unknown kind `{kind}`; use `Agent` or `Stack`");
            Err(wrong(source, document, place.find("kind"), &why))
        }
        (Some(version), _) => {
            let why = format!("unknown version `{version}`; use `{API_VERSION}`");
            Err(wrong(source, document, place.find("apiVersion"), &why))
        }
    }
}

/// The failure at a place of a document, with the line itself.
fn wrong(source: Source<'_>, document: &str, at: Option<(usize, usize)>, why: &str) -> Failure {
    let Some((line, column)) = at else {
        return Failure::usage(format!("{}: {why}", source.name));
    };
    let text = document.lines().nth(line - 1).unwrap_or_default();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let caret = " ".repeat(column.saturating_sub(1));
    Failure::usage(format!(
        "{}: line {line} column {column}: {why}\n{margin} |\n{number} | {text}\n{margin} | {caret}^",
        source.name
    ))
}

/// Makes paths absolute that start from the manifest's folder.
fn settle_paths(spec: &mut AgentSpec, folder: &Path) {
    if spec.image.is_none() {
        let given = spec.workdir.as_deref();
        let absolute = given.map_or_else(|| folder.to_owned(), |path| folder.join(path));
        spec.workdir = Some(absolute.to_string_lossy().into_owned());
    }
    for volume in &mut spec.volumes {
        if volume.source.starts_with("./") || volume.source.starts_with("../") {
            let joined = folder.join(&volume.source);
            // A folder that is there has one name without `..`.
            let real = joined.canonicalize().unwrap_or(joined);
            volume.source = real.to_string_lossy().into_owned();
        }
    }
}

/// Whether a specification could be run by some server: the field and what is wrong with it.
pub(crate) fn check(spec: &AgentSpec) -> Result<(), (String, String)> {
    if let Err(error) = Spec::parse(spec, &DRIVERS) {
        return Err(match error {
            skep_runtime::RuntimeError::InvalidSpec { field, reason } => {
                let why = format!("`{field}` {reason}");
                (field, why)
            }
            other => (String::new(), other.detail()),
        });
    }
    match skep_ingress::CallPolicy::from_spec(&spec.calls) {
        Ok(_) => Ok(()),
        Err(skep_ingress::IngressError::InvalidPolicy { field, reason }) => Err((
            format!("calls.{field}"),
            format!("`calls.{field}` {reason}"),
        )),
        Err(other) => Err((String::new(), other.detail())),
    }
}

/// Puts each agent behind those that it depends on.
fn in_order(agents: Vec<AgentSpec>) -> Result<Vec<AgentSpec>> {
    let names: HashSet<String> = agents.iter().map(|agent| agent.name.clone()).collect();
    let mut waiting = agents;
    let mut ordered: Vec<AgentSpec> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let is_free = |agent: &AgentSpec| {
            agent.depends_on.iter().all(|other| {
                // One that the file does not hold must be there already.
                !names.contains(other) || ordered.iter().any(|done| done.name == *other)
            })
        };
        let (free, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_free);
        if free.is_empty() {
            let names: Vec<_> = rest.iter().map(|agent| agent.name.as_str()).collect();
            let circle = names.join("`, `");
            return Err(Failure::usage(format!(
                "these agents depend on each other in a circle: `{circle}`"
            ))
            .hint("Take one of their `depends_on` away."));
        }
        ordered.extend(free);
        waiting = rest;
    }
    Ok(ordered)
}

impl<'de> Deserialize<'de> for Agent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Document;
        impl<'de> Visitor<'de> for Document {
            type Value = Agent;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an agent's specification")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let inside = MapAccessDeserializer::new(Inside(map));
                AgentSpec::deserialize(inside).map(Agent)
            }
        }
        deserializer.deserialize_map(Document)
    }
}

/// A document without its envelope.
struct Inside<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Inside<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> std::result::Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.0.next_key::<String>()? {
            if ENVELOPE.contains(&key.as_str()) {
                self.0.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            let key: StringDeserializer<A::Error> = key.into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> std::result::Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests;
