//! Prompts of a workspace: versions that never change, labels that lead to one of them, or to several by weight, and what is
//! made of one for a request. How they are stored: `rows`; put into requests of each dialect: `apply`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_core::{Timestamp, Workspace};
use skep_store::{By, Scope};

use super::history::{self, Step};
use super::provider::check_name;
use super::route::chance_of;
use super::service::Models;
use crate::EgressError;
use crate::ledger::Way;
use crate::rows as ledger_rows;

mod apply;
mod door;
mod rows;
mod template;
mod usage;

pub use usage::VersionUsage;

/// What a model's name begins with that means a prompt.
pub(super) const ALIAS: &str = "prompt:";
/// The field of a request that has the variables.
pub(super) const VARIABLES: &str = "prompt_variables";
/// The label that counts when none is named, and the one that is always the newest version.
const USUAL: &str = "production";
const LATEST: &str = "latest";
/// Names that a workspace has used.
const MOST_PROMPTS: u64 = 500;
/// Versions of one prompt.
const MOST_VERSIONS: u64 = 1_000;
/// Labels of one prompt.
const MOST_LABELS: usize = 20;
/// Names that labels of a prompt ever had.
const MOST_NAMES: usize = 100;
/// Places that a label has been at which are kept.
const MOST_MOVES: u64 = 1_000;
/// Versions that one label leads to.
const MOST_LEGS: usize = 8;
const MOST_WEIGHT: u32 = 10_000;
/// Messages of one prompt, and bytes of their templates together.
const MOST_MESSAGES: usize = 64;
const MOST_BYTES: usize = 32 << 10;
/// Bytes of a model's name, and of a note.
const MOST_MODEL: usize = 300;
const MOST_NOTE: usize = 500;
/// Bytes of all variables of a request, as JSON.
const MOST_VARIABLES: usize = 64 << 10;
/// How the audit log calls it.
const KIND: &str = "Prompt";

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who set the model up.
    System,
    /// Who asks it.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::System, Self::User, Self::Assistant];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    /// The one of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// A message: a template, or what was made of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What.
    pub content: String,
}

/// What one version says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The model, or the route, that is asked by way of it; without it, what is asked for as `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What is said before what a request says.
    pub messages: Vec<Message>,
    /// Why it is as it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number, from 1 on.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// What it says.
    pub prompt: Prompt,
}

/// A version that a label leads to, and how often beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptLeg {
    /// The version.
    pub version: u64,
    /// Its weight.
    pub weight: u32,
}

/// Where a label is or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The label.
    pub label: String,
    /// Which of its moves it is, from 1 on.
    pub nth: u64,
    /// When.
    pub at: Timestamp,
    /// The move that this one went back to.
    pub back: Option<u64>,
    /// Where it leads; nowhere when it was taken away.
    pub legs: Vec<PromptLeg>,
}

/// A prompt as a list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its newest version.
    pub latest: u64,
    /// When that was made.
    pub at: Timestamp,
    /// Where its labels lead.
    pub labels: Vec<Move>,
}

/// Which version of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its number.
    Number(u64),
    /// Where a label leads.
    Label(String),
}

/// A prompt that was made for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The version.
    pub version: u64,
    /// The model that it names.
    pub model: Option<String>,
    /// What it says.
    pub messages: Vec<Message>,
}

fn invalid<T>(field: &str, why: impl std::fmt::Display) -> Result<T, EgressError> {
    Err(EgressError::Invalid(format!("`{field}`: {why}")))
}

fn check_label(label: &str) -> Result<(), EgressError> {
    let fits = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let begins = label
        .bytes()
        .next()
        .is_some_and(|it| it.is_ascii_lowercase());
    match label {
        LATEST => invalid(
            "label",
            "`latest` is always the newest version; take another name",
        ),
        _ if !begins || label.len() > 64 || !label.bytes().all(fits) => {
            invalid("label", "a letter, then 63 of a-z, 0-9 and `-` at most")
        }
        _ => Ok(()),
    }
}

impl Which {
    /// Of what stands behind the `@`.
    ///
    /// # Errors
    /// [`EgressError::Invalid`].
    pub fn of(text: Option<&str>) -> Result<Self, EgressError> {
        let text = text.unwrap_or(USUAL);
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        if text != LATEST {
            check_label(text)?;
        }
        Ok(Self::Label(text.to_owned()))
    }
}

/// The name and the version of `NAME@LABEL`.
fn parts(text: &str) -> Result<(String, Which), EgressError> {
    let (name, which) = match text.split_once('@') {
        Some((name, which)) => (name, Some(which)),
        None => (text, None),
    };
    check_name(name)?;
    Ok((name.to_owned(), Which::of(which)?))
}

impl Prompt {
    /// Whether all is as it may be; and the variables that it wants.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], with the field and the line.
    pub fn check(&self) -> Result<BTreeSet<String>, EgressError> {
        if self.messages.is_empty() || self.messages.len() > MOST_MESSAGES {
            return invalid("messages", format!("1 to {MOST_MESSAGES} of them"));
        }
        let bytes: usize = self.messages.iter().map(|it| it.content.len()).sum();
        if bytes > MOST_BYTES {
            return invalid(
                "messages",
                format!("{MOST_BYTES} bytes at most, all together"),
            );
        }
        if self.note.len() > MOST_NOTE {
            return invalid("note", format!("{MOST_NOTE} bytes at most"));
        }
        if let Some(model) = &self.model {
            let bad =
                model.is_empty() || model.len() > MOST_MODEL || model.chars().any(char::is_control);
            if bad || model.starts_with(ALIAS) {
                return invalid(
                    "model",
                    "the name of a model, or of a route, and of no other prompt",
                );
            }
        }
        let mut wanted = BTreeSet::new();
        for (place, message) in self.messages.iter().enumerate() {
            match template::check(&message.content) {
                Ok(more) => wanted.extend(more),
                Err(why) => return invalid(&format!("messages[{place}]"), why),
            }
        }
        Ok(wanted)
    }

    /// What it says with these variables.
    fn made(&self, variables: &Value) -> Result<Vec<Message>, EgressError> {
        if !variables.is_object() {
            return invalid(VARIABLES, "an object, each variable by its name");
        }
        if variables.to_string().len() > MOST_VARIABLES {
            return invalid(VARIABLES, format!("{MOST_VARIABLES} bytes at most"));
        }
        let mut made = Vec::with_capacity(self.messages.len());
        let mut bytes = 0;
        for (place, message) in self.messages.iter().enumerate() {
            let content = template::render(&message.content, variables, self.messages.len());
            let wrong =
                |why| EgressError::Invalid(format!("the prompt's messages[{place}]: {why}"));
            let content = content.map_err(wrong)?;
            bytes += content.len();
            if bytes > template::MOST_TEXT {
                return invalid(
                    VARIABLES,
                    format!("{} bytes of messages are made at most", template::MOST_TEXT),
                );
            }
            made.push(Message {
                role: message.role,
                content,
            });
        }
        Ok(made)
    }

    /// As lines, to be compared.
    fn lines(&self) -> String {
        let mut lines = String::new();
        if let Some(model) = &self.model {
            lines.push_str(&format!("model: {model}\n"));
        }
        for message in &self.messages {
            lines.push_str(&format!(
                "[{}]\n{}\n",
                message.role.as_str(),
                message.content
            ));
        }
        lines
    }
}

/// What differs between two versions, as a unified diff; nothing, when they say the same.
fn difference(from: &Version, to: &Version) -> String {
    let (before, after) = (from.prompt.lines(), to.prompt.lines());
    let names = (from.number.to_string(), to.number.to_string());
    let diff = similar::TextDiff::from_lines(&before, &after);
    diff.unified_diff().header(&names.0, &names.1).to_string()
}

fn check_legs(legs: &[PromptLeg]) -> Result<(), EgressError> {
    let of_range = 1..=MOST_LEGS;
    if !of_range.contains(&legs.len()) {
        return invalid("versions", format!("1 to {MOST_LEGS} of them"));
    }
    if legs.iter().any(|it| it.weight > MOST_WEIGHT) || legs.iter().all(|it| it.weight == 0) {
        return invalid(
            "versions",
            format!("weights are {MOST_WEIGHT} at most, and one is not 0"),
        );
    }
    let all: BTreeSet<u64> = legs.iter().map(|it| it.version).collect();
    match all.len() == legs.len() {
        true => Ok(()),
        false => invalid("versions", "one stands there twice"),
    }
}

/// The version of a label, by chance: the same chance gives the same one as long as the label does not move.
fn chosen(legs: &[PromptLeg], chance: u64) -> Option<u64> {
    let sum: u64 = legs.iter().map(|it| u64::from(it.weight)).sum();
    let mut left = chance.checked_rem(sum)?;
    for leg in legs {
        match left.checked_sub(u64::from(leg.weight)) {
            Some(less) => left = less,
            None => return Some(leg.version),
        }
    }
    None
}

/// Which move a label goes back to.
fn before(moves: &[Move]) -> Option<&Move> {
    let step = |it: &Move| Step {
        nth: it.nth,
        back: it.back,
        what: Some(it.legs.clone()).filter(|legs| !legs.is_empty()),
    };
    let steps: Vec<Step<Vec<PromptLeg>>> = moves.iter().map(step).collect();
    let nth = history::before(&steps)?.nth;
    moves.iter().find(|it| it.nth == nth)
}

impl Models {
    /// The prompts of a workspace, by name.
    ///
    /// # Errors
    /// The store's own.
    pub async fn prompts(&self, workspace: &Workspace) -> Result<Vec<Listed>, EgressError> {
        let of = workspace.clone();
        let read = self
            .0
            .db
            .read(move |reader| rows::all(&mut reader.scope(&of)));
        Ok(read.await?)
    }

    /// The versions of a prompt, the newest first, and where its labels are and were, the newest first.
    ///
    /// # Errors
    /// [`EgressError::NoPrompt`], and the store's own.
    pub async fn prompt(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(Vec<Version>, Vec<Move>), EgressError> {
        let (of, name) = (workspace.clone(), name.to_owned());
        let read = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let versions = rows::versions(&mut scope, &name)?;
            if versions.is_empty() {
                return Err(rows::missing(&name));
            }
            Ok((versions, rows::moves(&mut scope, &name)?))
        });
        read.await
    }

    /// Where a label of a prompt is now; nothing, when it is nowhere.
    ///
    /// # Errors
    /// The store's own.
    pub async fn prompt_label(
        &self,
        workspace: &Workspace,
        (name, label): (&str, &str),
    ) -> Result<Option<Move>, EgressError> {
        let (of, name) = (workspace.clone(), name.to_owned());
        let read = self
            .0
            .db
            .read(move |reader| rows::moves(&mut reader.scope(&of), &name));
        let all: Vec<Move> = read.await?;
        let here = all.into_iter().filter(|it| it.label == label);
        Ok(here.max_by_key(|it| it.nth))
    }

    /// One version.
    ///
    /// # Errors
    /// [`EgressError::NoPrompt`], and the store's own.
    pub async fn prompt_version(
        &self,
        workspace: &Workspace,
        (name, which): (&str, Which),
        thread: Option<&[u8]>,
    ) -> Result<Version, EgressError> {
        let (of, name) = (workspace.clone(), name.to_owned());
        let chance = match (&which, thread) {
            (Which::Label(label), Some(thread)) => chance_of(&format!("{name}@{label}"), thread),
            _ => fastrand::u64(..),
        };
        let read = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let number = match &which {
                Which::Number(number) => Some(*number),
                Which::Label(label) if label == LATEST => rows::latest(&mut scope, &name)?,
                Which::Label(label) => {
                    let legs = rows::legs(&mut scope, &name, label)?;
                    if legs.is_empty() && rows::latest(&mut scope, &name)?.is_some() {
                        let why = format!("the prompt `{name}` has no label `{label}`");
                        return Err(EgressError::NoPrompt(why));
                    }
                    chosen(&legs, chance)
                }
            };
            let Some(number) = number else {
                return Err(rows::missing(&name));
            };
            let found = rows::version(&mut scope, &name, number)?;
            let missing = || {
                EgressError::NoPrompt(format!(
                    "there is no version {number} of the prompt `{name}`"
                ))
            };
            found.ok_or_else(missing)
        });
        read.await
    }

    /// What differs between two versions.
    ///
    /// # Errors
    /// [`EgressError::NoPrompt`], and the store's own.
    pub async fn prompt_difference(
        &self,
        workspace: &Workspace,
        name: &str,
        (from, to): (Which, Which),
    ) -> Result<(Version, Version, String), EgressError> {
        let from = self.prompt_version(workspace, (name, from), None).await?;
        let to = self.prompt_version(workspace, (name, to), None).await?;
        let told = difference(&from, &to);
        Ok((from, to, told))
    }

    /// What a prompt says with these variables. Requests of one thread get the same version of a label that leads to
    /// several.
    ///
    /// # Errors
    /// [`EgressError::NoPrompt`], [`EgressError::Invalid`], and the store's own.
    pub async fn make_prompt(
        &self,
        workspace: &Workspace,
        (name, which): (&str, Which),
        (thread, variables): (Option<&[u8]>, &Value),
    ) -> Result<Made, EgressError> {
        let found = self
            .prompt_version(workspace, (name, which), thread)
            .await?;
        let variables = variables.clone();
        // It may take as long as its steps allow.
        let made = tokio::task::spawn_blocking(move || {
            Ok(Made {
                version: found.number,
                messages: found.prompt.made(&variables)?,
                model: found.prompt.model,
            })
        });
        let stopped = |_| EgressError::Invalid("it was not made: the server ends".to_owned());
        made.await.map_err(stopped)?
    }

    /// Adds a version; the first one makes the prompt.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], and the store's own.
    pub async fn add_prompt(
        &self,
        by: &By,
        workspace: &Workspace,
        (name, prompt): (&str, &Prompt),
    ) -> Result<Version, EgressError> {
        check_name(name)?;
        prompt.check()?;
        let (of, new) = (name.to_owned(), prompt.clone());
        let add = move |scope: &mut Scope<'_>, now| rows::add(scope, (&of, &new), now);
        ledger_rows::change(&self.0.db, by, workspace, (KIND, name, "set"), add).await?;
        let latest = Which::Label(LATEST.to_owned());
        self.prompt_version(workspace, (name, latest), None).await
    }

    /// Removes a prompt, with all versions and labels. Its name goes on counting where it ended.
    ///
    /// # Errors
    /// [`EgressError::NoPrompt`], and the store's own.
    pub async fn drop_prompt(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(), EgressError> {
        let of = name.to_owned();
        let drop = move |scope: &mut Scope<'_>, _| rows::drop(scope, &of);
        ledger_rows::change(&self.0.db, by, workspace, (KIND, name, "removed"), drop).await
    }

    /// Moves a label to versions; to none: takes it away.
    ///
    /// # Errors
    /// [`EgressError::NoPrompt`], [`EgressError::Invalid`], and the store's own.
    pub async fn move_label(
        &self,
        by: &By,
        workspace: &Workspace,
        (name, label): (&str, &str),
        legs: Vec<PromptLeg>,
    ) -> Result<(), EgressError> {
        check_label(label)?;
        if !legs.is_empty() {
            check_legs(&legs)?;
        }
        let what = if legs.is_empty() {
            "label-removed"
        } else {
            "label-moved"
        };
        let of = (name.to_owned(), label.to_owned());
        let put = move |scope: &mut Scope<'_>, now| {
            rows::put_label(scope, (&of.0, &of.1), (legs, None), now)
        };
        let resource = format!("{name}@{label}");
        ledger_rows::change(&self.0.db, by, workspace, (KIND, &resource, what), put).await
    }

    /// Moves a label back to where it was before.
    ///
    /// # Errors
    /// [`EgressError::NoPrompt`], and the store's own.
    pub async fn roll_label_back(
        &self,
        by: &By,
        workspace: &Workspace,
        (name, label): (&str, &str),
    ) -> Result<(), EgressError> {
        let of = (name.to_owned(), label.to_owned());
        let put = move |scope: &mut Scope<'_>, now| {
            let all = rows::moves(scope, &of.0)?.into_iter();
            let moves: Vec<Move> = all.filter(|it| it.label == of.1).collect();
            let nowhere = || {
                let why = format!(
                    "the label `{}` of `{}` was at no other place before",
                    of.1, of.0
                );
                EgressError::NoPrompt(why)
            };
            let found = before(&moves).ok_or_else(nowhere)?;
            let back = (found.legs.clone(), Some(found.nth));
            rows::put_label(scope, (&of.0, &of.1), back, now)
        };
        let resource = format!("{name}@{label}");
        let what = (KIND, resource.as_str(), "label-rolled-back");
        ledger_rows::change(&self.0.db, by, workspace, what, put).await
    }

    /// What was used by way of each version of a prompt over so many days until now.
    ///
    /// # Errors
    /// The store's own.
    pub async fn prompt_usage(
        &self,
        workspace: &Workspace,
        name: &str,
        days: u32,
    ) -> Result<Vec<VersionUsage>, EgressError> {
        self.soon().await;
        let from = self.0.db.clock().now().minus(DAY * days);
        let (of, name) = (workspace.clone(), name.to_owned());
        let read = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            if rows::latest(&mut scope, &name)?.is_none() {
                return Err(rows::missing(&name));
            }
            Ok(usage::by_version(&mut scope, &name, (from, Way::Model))?)
        });
        read.await
    }
}

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

#[cfg(test)]
#[path = "prompts_tests.rs"]
mod tests;
