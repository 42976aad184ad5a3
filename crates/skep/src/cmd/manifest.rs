//! Manifests: deploy what a file says, look at what that would change, check it, write one.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use skep_api::AgentSpec;
use skep_client::{Client, ClientError};

use crate::failure::{Exit, Failure, Result};
use crate::manifest::{self, Manifest, Source};
use crate::session::Session;

/// The largest manifest.
const MOST_BYTES: u64 = 4 << 20;

/// Flags of `validate` and `diff`.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The manifest; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Flags of `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --with-data, one agent is written to an archive with its home and its
named volumes (a tar file), which `skep import` makes an agent of elsewhere. It must
be stopped, so that its files do not change meanwhile; --live takes them as
they are.

Examples:
  skep export > agents.yaml
  skep stop hello && skep export hello --with-data --file hello.agent.tar")]
pub(crate) struct ExportArgs {
    /// The agents [default: all]
    agents: Vec<String>,
    /// One agent with its data, in an archive
    #[arg(long)]
    with_data: bool,
    /// The archive [default: AGENT.agent.tar]
    #[arg(short, long, value_name = "FILE", requires = "with_data")]
    file: Option<PathBuf>,
    /// Also while it runs
    #[arg(long, requires = "with_data")]
    live: bool,
}

/// What a deployment does to one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// The agent.
    pub(crate) agent: String,
    /// `create`, `update` or `none`.
    pub(crate) action: &'static str,
    /// The fields that differ, with what was and what will be.
    pub(crate) fields: Vec<Field>,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Field {
    /// Its path, such as `calls.attempts`.
    pub(crate) path: String,
    /// What it was; absent when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Value>,
    /// What it will be; absent when it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Value>,
}

/// Reads the manifest of a file, or of standard input.
pub(crate) fn read(path: &Path) -> Result<Manifest> {
    let shown = path.display().to_string();
    let failed = |error: std::io::Error| Failure::usage(format!("{shown} cannot be read: {error}"));
    let mut bytes = Vec::new();
    let here = std::env::current_dir()?;
    let (name, folder) = match path == Path::new("-") {
        true => {
            let mut input = std::io::stdin().take(MOST_BYTES + 1);
            input.read_to_end(&mut bytes).map_err(failed)?;
            ("standard input".to_owned(), here)
        }
        false => {
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(MOST_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
            let folder = parent.map_or_else(|| here.clone(), |it| here.join(it));
            (shown.clone(), folder)
        }
    };
    if bytes.len() as u64 > MOST_BYTES {
        let most = skep_core::units::format_bytes(MOST_BYTES);
        return Err(Failure::usage(format!("{name} is over {most}")));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| Failure::usage(format!("{name} is no UTF-8 text: {error}")))?;
    let variables: HashMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let source = Source {
        name: &name,
        folder: &folder,
        variables: &variables,
    };
    manifest::read(&text, source)
}

/// Tells what was read and has no meaning.
pub(crate) fn tell_notes(session: &Session, manifest: &Manifest) {
    for note in &manifest.notes {
        session.output.note(&format!("note: {note}"));
    }
}

pub(crate) fn validate(session: &Session, args: &FileArgs) -> Result {
    let manifest = read(&args.file)?;
    tell_notes(session, &manifest);
    let names: Vec<_> = manifest.agents.iter().map(|a| a.name.as_str()).collect();
    let said = format!("{} is valid: {}.", args.file.display(), names.join(", "));
    session.output.done(&names, &names.join("\n"), &said)
}

pub(crate) async fn diff(session: &Session, args: FileArgs) -> Result {
    let manifest = read(&args.file)?;
    tell_notes(session, &manifest);
    let client = session.client()?;
    let changes = changes(&client, &manifest.agents).await?;
    show(session, &changes)?;
    match changes.iter().all(|change| change.action == "none") {
        true => Ok(()),
        false => Err(Failure::quiet(Exit::Failure)),
    }
}

/// What deploying these would change.
pub(crate) async fn changes(client: &Client, agents: &[AgentSpec]) -> Result<Vec<Change>> {
    let mut changes = Vec::with_capacity(agents.len());
    for spec in agents {
        let before = match client.agent(&spec.name).await {
            Ok(agent) => Some(agent.spec),
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(error.into()),
        };
        changes.push(compare(before.as_ref(), spec));
    }
    Ok(changes)
}

/// Whether there is no such agent.
pub(crate) fn is_missing(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem { problem, .. } if problem.code == "agent-not-found")
}

fn compare(before: Option<&AgentSpec>, after: &AgentSpec) -> Change {
    let old = before.map(fields).unwrap_or_default();
    let new = fields(after);
    let paths = old.keys().chain(new.keys());
    let mut paths: Vec<&String> = paths.collect();
    paths.sort_unstable();
    paths.dedup();
    let differ = paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path));
    let fields: Vec<Field> = differ
        .map(|path| Field {
            path: path.clone(),
            from: old.get(path).cloned(),
            to: new.get(path).cloned(),
        })
        .collect();
    Change {
        agent: after.name.clone(),
        action: match (before, fields.is_empty()) {
            (None, _) => "create",
            (Some(_), false) => "update",
            (Some(_), true) => "none",
        },
        fields,
    }
}

/// The fields of a specification that say something, by their path. Lists are one field.
fn fields(spec: &AgentSpec) -> BTreeMap<String, Value> {
    fn collect(path: &str, value: Value, out: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let below = match path {
                        "" => key,
                        _ => format!("{path}.{key}"),
                    };
                    collect(&below, value, out);
                }
            }
            other => {
                out.insert(path.to_owned(), other);
            }
        }
    }
    let mut out = BTreeMap::new();
    let value = serde_json::to_value(spec).unwrap_or_default();
    collect("", value, &mut out);
    out.remove("name");
    out
}

/// Prints what would change.
pub(crate) fn show(session: &Session, changes: &[Change]) -> Result {
    let mut text = String::new();
    for change in changes {
        let (sign, color, word) = match change.action {
            "create" => ("+", "32", "is new"),
            "update" => ("~", "33", "changes"),
            _ => ("=", "2", "stays as it is"),
        };
        let head = format!("{sign} {} {word}", change.agent);
        text.push_str(&session.output.paint(color, &head));
        text.push('\n');
        for field in &change.fields {
            let line = match (&field.from, &field.to) {
                (None, Some(to)) => format!("    + {}: {to}", field.path),
                (Some(from), None) => format!("    - {}: {from}", field.path),
                (Some(from), Some(to)) => format!("    ~ {}: {from} -> {to}", field.path),
                (None, None) => continue,
            };
            text.push_str(&line);
            text.push('\n');
        }
    }
    let names: Vec<_> = changes.iter().map(|change| change.agent.as_str()).collect();
    session
        .output
        .done(&changes, &names.join("\n"), text.trim_end())
}

pub(crate) async fn export(session: &Session, args: ExportArgs) -> Result {
    if args.with_data {
        let [name] = &args.agents[..] else {
            return Err(Failure::usage(
                "--with-data takes one agent: skep export AGENT --with-data",
            ));
        };
        return super::archive::export(session, name, args.file, args.live).await;
    }
    let client = session.client()?;
    let names = match args.agents.is_empty() {
        true => super::agents::names(&client).await?,
        false => args.agents,
    };
    let mut documents = Vec::with_capacity(names.len());
    for name in &names {
        documents.push(manifest::write(&client.agent(name).await?.spec)?);
    }
    session.output.raw(documents.join("---\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_told() {
        let mut before = AgentSpec::new("a", vec!["x".to_owned()]);
        before.env.insert("A".to_owned(), "1".to_owned());
        assert_eq!(compare(Some(&before), &before).action, "none");
        assert_eq!(compare(None, &before).action, "create");
        let mut after = before.clone();
        after.env = BTreeMap::from([("B".to_owned(), "2".to_owned())]);
        after.calls.attempts = Some(3);
        let change = compare(Some(&before), &after);
        let told: Vec<_> = change
            .fields
            .iter()
            .map(|f| (f.path.as_str(), f.from.clone(), f.to.clone()))
            .collect();
        let expected = [
            ("calls.attempts", None, Some(json!(3))),
            ("env.A", Some(json!("1")), None),
            ("env.B", None, Some(json!("2"))),
        ];
        assert_eq!((change.action, &told[..]), ("update", &expected[..]));
    }
}
