//! Prompts as the store has them. A version is never changed; a label's row is never changed either: where it is, its newest
//! row says.

use std::collections::{BTreeMap, BTreeSet};

use skep_core::Timestamp;
use skep_store::{Row, Scope, StoreError};

use super::{
    Listed, MOST_LABELS, MOST_MOVES, MOST_NAMES, MOST_PROMPTS, MOST_VERSIONS, Move, Prompt,
    PromptLeg, Version,
};
use crate::EgressError;
use crate::rows::{int, number};

/// In the place of what a version says: it was removed.
const GONE: &str = "";

fn odd(name: &str) -> StoreError {
    StoreError::Statement(format!("a row of prompts is not readable: `{name}`"))
}

pub(super) fn missing(name: &str) -> EgressError {
    EgressError::NoPrompt(format!("there is no prompt `{name}`"))
}

fn read(row: &Row, name: &str) -> Result<Version, StoreError> {
    let prompt: Prompt = serde_json::from_str(row.text(2)?).map_err(|_| odd(name))?;
    Ok(Version {
        number: number(row.int(0)?),
        at: Timestamp::from_micros(row.int(1)?),
        prompt,
    })
}

/// The versions of a prompt, the newest first.
pub(super) fn versions(scope: &mut Scope<'_>, name: &str) -> Result<Vec<Version>, StoreError> {
    let rows = scope.query(
        "SELECT version, at, spec FROM llm_prompts WHERE workspace = ?1 AND name = ?2 AND spec <> '' \
         ORDER BY version DESC",
        &[name.into()],
    )?;
    rows.iter().map(|row| read(row, name)).collect()
}

pub(super) fn version(
    scope: &mut Scope<'_>,
    name: &str,
    wanted: u64,
) -> Result<Option<Version>, StoreError> {
    let row = scope.query_opt(
        "SELECT version, at, spec FROM llm_prompts WHERE workspace = ?1 AND name = ?2 AND version = ?3 AND spec <> ''",
        &[name.into(), int(wanted).into()],
    )?;
    row.map(|row| read(&row, name)).transpose()
}

/// The number of the newest version.
pub(super) fn latest(scope: &mut Scope<'_>, name: &str) -> Result<Option<u64>, StoreError> {
    let row = scope.query_opt(
        "SELECT version FROM llm_prompts WHERE workspace = ?1 AND name = ?2 AND spec <> '' ORDER BY version DESC LIMIT 1",
        &[name.into()],
    )?;
    row.map(|row| row.int(0).map(number)).transpose()
}

fn count(row: Option<Row>) -> Result<u64, StoreError> {
    row.map_or(Ok(0), |row| row.int(0).map(number))
}

/// Adds a version.
pub(super) fn add(
    scope: &mut Scope<'_>,
    (name, prompt): (&str, &Prompt),
    now: Timestamp,
) -> Result<(), EgressError> {
    let row = scope.query_opt(
        "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM llm_prompts WHERE workspace = ?1 AND name = ?2",
        &[name.into()],
    )?;
    let last = count(row)?;
    if last == 0 {
        let row = scope.query_opt(
            "SELECT COUNT(DISTINCT name) FROM llm_prompts WHERE workspace = ?1",
            &[],
        )?;
        if count(row)? >= MOST_PROMPTS {
            let why =
                format!("there were {MOST_PROMPTS} prompts already: take the name of one of them");
            return Err(EgressError::Invalid(why));
        }
    }
    let row = scope.query_opt(
        "SELECT COUNT(*) FROM llm_prompts WHERE workspace = ?1 AND name = ?2",
        &[name.into()],
    )?;
    if count(row)? >= MOST_VERSIONS {
        let why = format!("`{name}` has {MOST_VERSIONS} versions already: take another name");
        return Err(EgressError::Invalid(why));
    }
    // Texts alone: it cannot fail.
    let spec = serde_json::to_string(prompt).unwrap_or_default();
    scope.execute(
        "INSERT INTO llm_prompts (workspace, name, version, at, spec) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[
            name.into(),
            int(last + 1).into(),
            now.into(),
            (&spec).into(),
        ],
    )?;
    Ok(())
}

/// Removes a prompt; the number of its newest version stays, so that no other one gets it.
pub(super) fn drop(scope: &mut Scope<'_>, name: &str) -> Result<(), EgressError> {
    let last = latest(scope, name)?.ok_or_else(|| missing(name))?;
    scope.execute(
        "DELETE FROM llm_prompts WHERE workspace = ?1 AND name = ?2 AND version < ?3",
        &[name.into(), int(last).into()],
    )?;
    scope.execute(
        "UPDATE llm_prompts SET spec = ?3 WHERE workspace = ?1 AND name = ?2",
        &[name.into(), GONE.into()],
    )?;
    scope.execute(
        "DELETE FROM llm_prompt_labels WHERE workspace = ?1 AND name = ?2",
        &[name.into()],
    )?;
    Ok(())
}

fn read_move(row: &Row, name: &str) -> Result<Move, StoreError> {
    let legs: Vec<PromptLeg> = serde_json::from_str(row.text(4)?).map_err(|_| odd(name))?;
    let back = number(row.int(3)?);
    Ok(Move {
        label: row.text(0)?.to_owned(),
        nth: number(row.int(1)?),
        at: Timestamp::from_micros(row.int(2)?),
        back: (back > 0).then_some(back),
        legs,
    })
}

/// Where the labels of a prompt are and were, the newest first.
pub(super) fn moves(scope: &mut Scope<'_>, name: &str) -> Result<Vec<Move>, StoreError> {
    let rows = scope.query(
        "SELECT label, nth, at, back, legs FROM llm_prompt_labels WHERE workspace = ?1 AND name = ?2 \
         ORDER BY at DESC, nth DESC",
        &[name.into()],
    )?;
    rows.iter().map(|row| read_move(row, name)).collect()
}

/// Where a label leads.
pub(super) fn legs(
    scope: &mut Scope<'_>,
    name: &str,
    label: &str,
) -> Result<Vec<PromptLeg>, StoreError> {
    let row = scope.query_opt(
        "SELECT label, nth, at, back, legs FROM llm_prompt_labels \
         WHERE workspace = ?1 AND name = ?2 AND label = ?3 ORDER BY nth DESC LIMIT 1",
        &[name.into(), label.into()],
    )?;
    row.map_or(Ok(Vec::new()), |row| {
        read_move(&row, name).map(|it| it.legs)
    })
}

/// Moves a label. To nowhere takes it away.
pub(super) fn put_label(
    scope: &mut Scope<'_>,
    (name, label): (&str, &str),
    (legs, back): (Vec<PromptLeg>, Option<u64>),
    now: Timestamp,
) -> Result<(), EgressError> {
    if latest(scope, name)?.is_none() {
        return Err(missing(name));
    }
    for leg in &legs {
        if version(scope, name, leg.version)?.is_none() {
            let why = format!(
                "`versions`: there is no version {} of `{name}`",
                leg.version
            );
            return Err(EgressError::Invalid(why));
        }
    }
    let all = moves(scope, name)?;
    let here: Vec<&Move> = all.iter().filter(|it| it.label == label).collect();
    let newest = here.iter().max_by_key(|it| it.nth);
    let is_there = newest.is_some_and(|it| !it.legs.is_empty());
    if legs.is_empty() && !is_there {
        let why = format!("the prompt `{name}` has no label `{label}`");
        return Err(EgressError::NoPrompt(why));
    }
    if !legs.is_empty() && !is_there && current(&all).len() >= MOST_LABELS {
        let why = format!("`{name}` has {MOST_LABELS} labels already: remove one first");
        return Err(EgressError::Invalid(why));
    }
    let known: BTreeSet<&str> = all.iter().map(|it| it.label.as_str()).collect();
    if newest.is_none() && known.len() >= MOST_NAMES {
        let why =
            format!("{MOST_NAMES} names of labels were used for `{name}`: take one of those again");
        return Err(EgressError::Invalid(why));
    }
    let nth = newest.map_or(1, |it| it.nth + 1);
    // Numbers alone: it cannot fail.
    let text = serde_json::to_string(&legs).unwrap_or_default();
    scope.execute(
        "INSERT INTO llm_prompt_labels (workspace, name, label, nth, at, back, legs) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[
            name.into(),
            label.into(),
            int(nth).into(),
            now.into(),
            int(back.unwrap_or(0)).into(),
            (&text).into(),
        ],
    )?;
    scope.execute(
        "DELETE FROM llm_prompt_labels WHERE workspace = ?1 AND name = ?2 AND label = ?3 AND nth <= ?4",
        &[
            name.into(),
            label.into(),
            int(nth.saturating_sub(MOST_MOVES)).into(),
        ],
    )?;
    Ok(())
}

/// Where labels are now, of all their moves, by name.
fn current(all: &[Move]) -> Vec<Move> {
    let mut newest: BTreeMap<&str, &Move> = BTreeMap::new();
    for one in all {
        let entry = newest.entry(&one.label).or_insert(one);
        if entry.nth < one.nth {
            *entry = one;
        }
    }
    let there = newest.into_values().filter(|it| !it.legs.is_empty());
    there.cloned().collect()
}

/// All prompts of a workspace.
pub(super) fn all(scope: &mut Scope<'_>) -> Result<Vec<Listed>, StoreError> {
    let rows = scope.query(
        "SELECT name, CAST(MAX(version) AS BIGINT), CAST(MAX(at) AS BIGINT) FROM llm_prompts \
         WHERE workspace = ?1 AND spec <> '' GROUP BY name ORDER BY name",
        &[],
    )?;
    let mut listed = Vec::with_capacity(rows.len());
    for row in &rows {
        let name = row.text(0)?.to_owned();
        let labels = current(&moves(scope, &name)?);
        listed.push(Listed {
            latest: number(row.int(1)?),
            at: Timestamp::from_micros(row.int(2)?),
            name,
            labels,
        });
    }
    Ok(listed)
}
