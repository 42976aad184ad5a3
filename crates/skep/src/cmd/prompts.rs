//! Prompts: versions that never change, and labels that lead to them.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use skep_api::{
    ListedPrompt, NewPromptLabel, NewPromptVersion, PromptLabel, PromptMessage, PromptShare,
    PromptUsage, PromptVersion, RenderPrompt,
};
use skep_core::Timestamp;

use crate::failure::{Failure, Result};
use crate::output::{Format, Row, age};
use crate::session::Session;

/// Bytes of a file of a prompt.
const MOST_FILE: u64 = 256 << 10;

/// What to do with prompts.
#[derive(Debug, Subcommand)]
pub(crate) enum PromptsVerb {
    /// List the prompts of the workspace, and where their labels lead
    #[command(visible_alias = "ls")]
    List,
    /// Add a version; the first one makes the prompt
    Add(AddArgs),
    /// Show a version, or all of them and where labels were
    Show(ShowArgs),
    /// Show what differs between two versions
    Diff(DiffArgs),
    /// Show what a prompt says with variables; no model is asked
    Render(RenderArgs),
    /// Move a label to a version, or to several by weight
    Label(LabelArgs),
    /// Move a label back to where it was before; again, one further
    Rollback(WhichArgs),
    /// Take a label away
    Unlabel(WhichArgs),
    /// What was used by way of each version, and how it was found to be
    Usage(UsageArgs),
    /// Remove a prompt, with all versions and labels
    #[command(visible_alias = "rm")]
    Remove(NameArgs),
}

/// Flags of `prompts add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Agents ask for a prompt as for a model: `prompt:NAME@LABEL`, with the variables in
the field `prompt_variables`. Templates are Jinja's: {{ name }}, {% if %}, {% for %}.
A file is YAML or JSON: `model`, `messages` (each with `role` and `content`), `note`.

Examples:
  skep prompts add greet --system 'You greet {{ name }} in {{ language }}.'
  skep prompts add greet --file greet.yaml
  skep prompts label greet production 1")]
pub(crate) struct AddArgs {
    /// What it is called: a-z, 0-9 and `-`
    name: String,
    /// A file with all of it, or `-`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["system", "user", "model", "note"])]
    file: Option<PathBuf>,
    /// What sets the model up
    #[arg(long, value_name = "TEMPLATE", required_unless_present_any = ["user", "file"])]
    system: Option<String>,
    /// What is asked first
    #[arg(long, value_name = "TEMPLATE")]
    user: Option<String>,
    /// The model, or the route, that is asked [default: the one that is set for `default`]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Why it is as it is
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Flags of `prompts show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its name, with `@` and a number or a label behind it for one version
    name: String,
}

/// Flags of `prompts diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Its name
    name: String,
    /// A number or a label
    #[arg(default_value = "production")]
    from: String,
    /// A number or a label
    #[arg(default_value = "latest")]
    to: String,
}

/// Flags of `prompts render`.
#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// Its name, with `@` and a number or a label behind it [default: production]
    name: String,
    /// A variable, a text
    #[arg(long = "var", value_name = "NAME=TEXT")]
    variables: Vec<String>,
    /// All variables, as a JSON object
    #[arg(long, value_name = "JSON")]
    json_variables: Option<String>,
    /// The same thread gets the same version of a label that leads to several
    #[arg(long, value_name = "THREAD")]
    thread: Option<String>,
}

/// Flags of `prompts label`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep prompts label greet production 4
  skep prompts label greet production 4=9 5=1")]
pub(crate) struct LabelArgs {
    /// Its name
    name: String,
    /// The label, such as `production`
    label: String,
    /// A version, with `=WEIGHT` behind it when there are several
    #[arg(required = true, value_name = "VERSION")]
    versions: Vec<String>,
}

/// Which label.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// Its name
    name: String,
    /// The label
    label: String,
}

/// Flags of `prompts usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Its name
    name: String,
    /// Over so many days until now
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
}

/// A name.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name
    name: String,
}

fn leads(versions: &[PromptShare]) -> String {
    let one = |it: &PromptShare| match (versions.len(), it.weight) {
        (2.., Some(weight)) => format!("{}={weight}", it.version),
        _ => it.version.to_string(),
    };
    let all: Vec<String> = versions.iter().map(one).collect();
    match all.is_empty() {
        true => "-".to_owned(),
        false => all.join(" "),
    }
}

impl Row for ListedPrompt {
    const HEADERS: &'static [&'static str] = &["NAME", "LATEST", "AGE", "LABELS"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let labels = self
            .labels
            .iter()
            .map(|it| format!("{} {}", it.label, leads(&it.versions)));
        vec![
            self.name.clone(),
            self.latest.to_string(),
            age(&self.at, now),
            labels.collect::<Vec<_>>().join(", "),
        ]
    }
}

impl Row for PromptVersion {
    const HEADERS: &'static [&'static str] = &["VERSION", "AGE", "MODEL", "VARIABLES", "NOTE"];

    fn name(&self) -> String {
        self.version.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.version.to_string(),
            age(&self.at, now),
            self.model.clone().unwrap_or_else(|| "-".to_owned()),
            self.variables.join(","),
            self.note.clone(),
        ]
    }
}

impl Row for PromptLabel {
    const HEADERS: &'static [&'static str] = &["LABEL", "MOVE", "AGE", "LEADS TO", "BACK TO MOVE"];

    fn name(&self) -> String {
        self.label.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let back = self.back_to.map(|it| it.to_string());
        vec![
            self.label.clone(),
            self.number.to_string(),
            age(&self.at, now),
            leads(&self.versions),
            back.unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

impl Row for PromptUsage {
    const HEADERS: &'static [&'static str] = &[
        "VERSION", "REQUESTS", "FAILED", "IN", "OUT", "USD", "SCORES", "SCORE",
    ];

    fn name(&self) -> String {
        self.version.to_string()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let score = self.score.map(|it| format!("{it:.3}"));
        vec![
            self.version.to_string(),
            self.requests.to_string(),
            self.failed.to_string(),
            self.input.to_string(),
            self.output.to_string(),
            self.cost.clone(),
            self.scores.to_string(),
            score.unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

/// A prompt from a file, or from standard input.
fn read(path: &Path) -> Result<NewPromptVersion> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(MOST_FILE)
            .read_to_string(&mut text)?;
    } else {
        let file = std::fs::File::open(path);
        let unreadable =
            |error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
        file.map_err(unreadable)?
            .take(MOST_FILE)
            .read_to_string(&mut text)?;
    }
    serde_saphyr::from_str(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

impl AddArgs {
    fn wanted(self) -> Result<(String, NewPromptVersion)> {
        if let Some(file) = &self.file {
            return Ok((self.name, read(file)?));
        }
        let message = |role: &str, content: Option<String>| {
            content.map(|content| PromptMessage {
                role: role.to_owned(),
                content,
            })
        };
        let messages = [message("system", self.system), message("user", self.user)];
        let new = NewPromptVersion {
            model: self.model,
            messages: messages.into_iter().flatten().collect(),
            note: self.note.unwrap_or_default(),
        };
        Ok((self.name, new))
    }
}

impl RenderArgs {
    fn wanted(self) -> Result<(String, RenderPrompt)> {
        let mut variables: Map<String, Value> = match &self.json_variables {
            None => Map::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| Failure::usage(format!("--json-variables: {error}")))?,
        };
        for pair in self.variables {
            let (name, text) = pair
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("`{pair}`: NAME=TEXT belongs there")))?;
            variables.insert(name.to_owned(), text.into());
        }
        let (name, version) = apart(&self.name);
        let with = RenderPrompt {
            version: version.map(str::to_owned),
            variables,
            thread: self.thread,
        };
        Ok((name.to_owned(), with))
    }
}

impl LabelArgs {
    fn versions(&self) -> Result<NewPromptLabel> {
        let share = |text: &String| {
            let wrong = || Failure::usage(format!("`{text}`: a version, or VERSION=WEIGHT"));
            let (version, weight) = match text.split_once('=') {
                None => (text.as_str(), None),
                Some((version, weight)) => (version, Some(weight.parse().map_err(|_| wrong())?)),
            };
            Ok(PromptShare {
                version: version.parse().map_err(|_| wrong())?,
                weight,
            })
        };
        let versions: Result<Vec<PromptShare>> = self.versions.iter().map(share).collect();
        Ok(NewPromptLabel {
            versions: versions?,
        })
    }
}

/// A name, and what stands behind its `@`.
fn apart(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

fn said(session: &Session, messages: &[PromptMessage]) -> Result {
    for message in messages {
        let text = format!("[{}]\n{}\n", message.role, message.content);
        session.output.say(&text)?;
    }
    Ok(())
}

pub(crate) async fn run(session: &Session, verb: PromptsVerb) -> Result {
    let (client, output) = (session.client()?, &session.output);
    match verb {
        PromptsVerb::List => output.list(&client.prompts().await?.items),
        PromptsVerb::Add(args) => {
            let (name, new) = args.wanted()?;
            let made = client.add_prompt_version(&name, &new).await?;
            let told = format!(
                "Version {} of {name}. No label moved: `skep prompts label {name} production {}`.",
                made.version, made.version
            );
            output.done(&made, &made.version.to_string(), &told)
        }
        PromptsVerb::Show(args) => show(session, &args.name).await,
        PromptsVerb::Diff(args) => {
            let between = (args.from.as_str(), args.to.as_str());
            let told = client.prompt_diff(&args.name, between).await?;
            match output.format {
                Format::Json | Format::Yaml => output.document(&told),
                _ if told.diff.is_empty() => output.say("They say the same."),
                _ => output.say(told.diff.trim_end()),
            }
        }
        PromptsVerb::Render(args) => {
            let (name, with) = args.wanted()?;
            let made = client.render_prompt(&name, &with).await?;
            match output.format {
                Format::Json | Format::Yaml => output.document(&made),
                _ => said(session, &made.messages),
            }
        }
        PromptsVerb::Label(args) => {
            let to = args.versions()?;
            let label = (args.name.as_str(), args.label.as_str());
            let made = client.put_prompt_label(label, &to).await?;
            moved(session, label, &made)
        }
        PromptsVerb::Rollback(args) => {
            let label = (args.name.as_str(), args.label.as_str());
            let made = client.roll_prompt_label_back(label).await?;
            moved(session, label, &made)
        }
        PromptsVerb::Unlabel(args) => {
            let label = (args.name.as_str(), args.label.as_str());
            client.remove_prompt_label(label).await?;
            let told = format!("{}@{} leads nowhere any more.", label.0, label.1);
            output.done(&serde_json::json!({ "removed": label.1 }), label.1, &told)
        }
        PromptsVerb::Usage(args) => {
            output.list(&client.prompt_usage(&args.name, args.days).await?.items)
        }
        PromptsVerb::Remove(NameArgs { name }) => {
            session.confirm(&format!(
                "Remove the prompt {name}, with all its versions? Who asks for it is refused."
            ))?;
            client.remove_prompt(&name).await?;
            let told = format!("{name} is removed.");
            output.done(&serde_json::json!({ "removed": name }), &name, &told)
        }
    }
}

fn moved(session: &Session, (name, label): (&str, &str), to: &PromptLabel) -> Result {
    let told = format!("{name}@{label} leads to {}.", leads(&to.versions));
    session.output.done(to, label, &told)
}

async fn show(session: &Session, name: &str) -> Result {
    let (client, output) = (session.client()?, &session.output);
    let documents = matches!(output.format, Format::Json | Format::Yaml);
    let (name, Some(version)) = apart(name) else {
        let all = client.prompt(name).await?;
        if documents {
            return output.document(&all);
        }
        output.list(&all.versions)?;
        return match all.labels.is_empty() {
            true => Ok(()),
            false => output.list(&all.labels),
        };
    };
    let one = client.prompt_version(name, version).await?;
    if documents {
        return output.document(&one);
    }
    let model = one.model.as_deref().unwrap_or("default");
    output.say(&format!(
        "{name}@{} of {}, to {model}\n",
        one.version, one.at
    ))?;
    said(session, &one.messages)
}
