//! What somebody wrote: read, checked against the schema, and told what is wrong and where.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use cedar_policy::{ParseErrors, Policy, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;

use super::actions::{CATALOG, DEFAULT};

/// Bytes that the policies of a workspace may have.
pub const MOST_TEXT: usize = 256 * 1024;
/// Policies that a workspace may have.
pub const MOST_POLICIES: usize = 500;
/// Faults that are told of one text.
const MOST_WRONG: usize = 20;
/// Characters of an id.
const MOST_ID: usize = 64;
/// How the ids of Skep's own policies begin.
const OWN: &str = "default.";

/// Something wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The line, from 1; `None` when it is about the whole.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to write instead, when that is known.
    pub instead: Option<String>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.what)?;
        match &self.instead {
            Some(instead) => write!(f, " ({instead})"),
            None => Ok(()),
        }
    }
}

impl Wrong {
    fn whole(what: impl Into<String>) -> Self {
        Self {
            line: None,
            column: None,
            what: what.into(),
            instead: None,
        }
    }

    /// What Cedar says, as a place in the text.
    fn of(error: &dyn Diagnostic, text: &str) -> Self {
        let first = error.labels().and_then(|mut labels| labels.next());
        let place = first.map(|label| place(text, label.offset()));
        let of_label = first_label(error);
        let mut what = error.to_string();
        if let Some(more) = of_label.filter(|more| !what.contains(more.as_str())) {
            what = format!("{what}: {more}");
        }
        // Cedar's own name of the policy says less than its place.
        if let Some(("", rest)) = what.split_once("for policy `policy")
            && let Some((_, rest)) = rest.split_once("`, ")
        {
            what = rest.to_owned();
        }
        Self {
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            instead: action_like(&what).or_else(|| error.help().map(|help| help.to_string())),
            what,
        }
    }
}

/// An action whose name is close to one that there is not.
fn action_like(what: &str) -> Option<String> {
    let (_, rest) = what.split_once("unrecognized action `Skep::Action::\"")?;
    let (wrong, _) = rest.split_once('"')?;
    let names: BTreeSet<&str> = CATALOG
        .actions
        .values()
        .flat_map(|action| action.names.iter().map(String::as_str))
        .collect();
    let closest = skep_core::similar(wrong, names)?;
    Some(format!("did you mean `Skep::Action::\"{closest}\"`?"))
}

fn first_label(error: &dyn Diagnostic) -> Option<String> {
    let first = error.labels()?.next()?;
    first.label().map(str::to_owned)
}

/// Line and column of a byte.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (line, before[start..].chars().count() + 1)
}

/// Policies that were read and checked.
#[derive(Debug, Clone)]
pub struct PolicyText {
    pub(super) policies: Arc<[Named]>,
}

/// A policy with the name that decisions tell.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) policy: Policy,
}

impl PolicyText {
    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
}

/// Policies as written, in their order.
fn read(text: &str) -> Result<(PolicySet, Vec<Named>), Vec<Wrong>> {
    let parsed: Result<PolicySet, ParseErrors> = text.parse();
    let set = parsed.map_err(|errors| {
        let all = errors.iter().take(MOST_WRONG);
        all.map(|error| Wrong::of(error, text)).collect::<Vec<_>>()
    })?;
    if set.templates().next().is_some() {
        let mut wrong = Wrong::whole("templates (?principal, ?resource) are not taken");
        wrong.instead = Some("name the principal or the resource".to_owned());
        return Err(vec![wrong]);
    }
    // Cedar names them by their place.
    let at = |policy: &Policy| -> usize {
        let id: &str = policy.id().as_ref();
        id.trim_start_matches("policy").parse().unwrap_or(0)
    };
    let mut policies: Vec<&Policy> = set.policies().collect();
    policies.sort_by_key(|policy| at(policy));
    let name = |policy: &&Policy| {
        let given = policy.annotation("id").filter(|it| !it.is_empty());
        let name = given.map_or_else(|| format!("policy-{}", at(policy) + 1), str::to_owned);
        let policy = (*policy).clone();
        Named { name, policy }
    };
    let named = policies.iter().map(name).collect();
    Ok((set, named))
}

/// What is wrong with the names: they stand in the audit log, and say which policy it was.
fn names(policies: &[Named], text: &str) -> Vec<Wrong> {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for Named { name, .. } in policies {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fault = if name.len() > MOST_ID || !name.chars().all(allowed) {
            format!("the id `{name:.80}` is not 1 to {MOST_ID} letters, digits, `-`, `_` or `.`")
        } else if name.starts_with(OWN) {
            format!("the id `{name}` begins as those of Skep's own policies do")
        } else if !seen.insert(name) {
            format!("two policies have the id `{name}`")
        } else {
            continue;
        };
        let offset = text.rfind(&format!("\"{name}\""));
        let place = offset.map(|offset| place(text, offset));
        wrong.push(Wrong {
            line: place.map(|it| it.0),
            column: place.map(|it| it.1),
            what: fault,
            instead: Some("write another one: @id(\"nobody-at-night\")".to_owned()),
        });
    }
    wrong
}

/// Reads the policies of a workspace and checks them strictly against the schema.
///
/// # Errors
/// All that is wrong, with its place.
pub fn validate(text: &str) -> Result<PolicyText, Vec<Wrong>> {
    if text.len() > MOST_TEXT {
        let what = format!("the policies are over {} KiB", MOST_TEXT / 1024);
        return Err(vec![Wrong::whole(what)]);
    }
    let (set, policies) = read(text)?;
    if policies.len() > MOST_POLICIES {
        let count = policies.len();
        let what = format!("there are {count} policies, over {MOST_POLICIES}");
        return Err(vec![Wrong::whole(what)]);
    }
    let validator = Validator::new(CATALOG.schema.clone());
    let result = validator.validate(&set, ValidationMode::Strict);
    let mut wrong: Vec<Wrong> = result
        .validation_errors()
        .map(|error| Wrong::of(error, text))
        .collect();
    wrong.sort_by_key(|it| (it.line, it.column));
    wrong.extend(names(&policies, text));
    wrong.truncate(MOST_WRONG);
    match wrong.is_empty() {
        true => Ok(PolicyText {
            policies: policies.into(),
        }),
        false => Err(wrong),
    }
}

/// Reads policies that were valid once, though the schema may have changed since.
pub(super) fn once_valid(text: &str) -> Result<PolicyText, Vec<Wrong>> {
    let (_, policies) = read(text)?;
    let wrong = names(&policies, text);
    match wrong.is_empty() {
        true => Ok(PolicyText {
            policies: policies.into(),
        }),
        false => Err(wrong),
    }
}

/// The policies that Skep ships.
#[expect(
    clippy::expect_used,
    reason = "they are a part of the program; every test of this crate reads them"
)]
pub(super) fn shipped() -> Vec<Named> {
    read(DEFAULT).expect("Skep's policies are valid").1
}
