//! Providers and budgets as the store has them.

use serde::{Deserialize, Serialize};
use skep_core::Timestamp;
use skep_store::{Scope, StoreError};

use super::books::{Budget, Most, Subject, Window};
use super::provider::Provider;
use crate::EgressError;
use crate::money::Money;
use crate::rows;

/// A budget as its row has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    of: String,
    whose: String,
    window: String,
    /// In billionths of a dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    money: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
}

fn odd(table: &str, name: &str) -> StoreError {
    StoreError::Statement(format!("a row of {table} is not readable: `{name}`"))
}

fn to_text(budget: &Budget) -> String {
    let (of, whose) = budget.subject.parts();
    let (money, tokens) = match budget.most {
        Most::Money(money) => (Some(money.nanos()), None),
        Most::Tokens(tokens) => (None, Some(tokens)),
    };
    let stored = Stored {
        of: of.to_owned(),
        whose: whose.to_owned(),
        window: budget.window.as_str().to_owned(),
        money,
        tokens,
    };
    // Texts and numbers alone: it cannot fail.
    serde_json::to_string(&stored).unwrap_or_default()
}

fn budget(name: &str, text: &str) -> Option<Budget> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let most = match (stored.money, stored.tokens) {
        (Some(nanos), None) => Most::Money(Money::from_nanos(nanos)),
        (None, Some(tokens)) => Most::Tokens(tokens),
        _ => return None,
    };
    Some(Budget {
        name: name.to_owned(),
        subject: Subject::of(&stored.of, &stored.whose)?,
        window: Window::named(&stored.window)?,
        most,
    })
}

pub(super) fn providers(scope: &mut Scope<'_>) -> Result<Vec<Provider>, StoreError> {
    let all = rows::providers(scope)?.into_iter();
    all.map(|(name, text)| {
        Provider::from_text(&name, &text).map_err(|_| odd("llm_providers", &name))
    })
    .collect()
}

pub(super) fn budgets(scope: &mut Scope<'_>) -> Result<Vec<Budget>, StoreError> {
    let all = rows::budgets(scope)?.into_iter();
    all.map(|(name, text)| budget(&name, &text).ok_or_else(|| odd("llm_budgets", &name)))
        .collect()
}

fn has_room(others: u64, most: usize) -> Result<(), EgressError> {
    match others >= most as u64 {
        true => Err(EgressError::Invalid(format!(
            "there are {most} already: remove one first"
        ))),
        false => Ok(()),
    }
}

pub(super) fn put_provider(
    scope: &mut Scope<'_>,
    provider: &Provider,
    now: Timestamp,
    most: usize,
) -> Result<(), EgressError> {
    let sql = "SELECT COUNT(*) FROM llm_providers WHERE workspace = ?1 AND name <> ?2";
    has_room(rows::others(scope, sql, &provider.name)?, most)?;
    Ok(rows::put_provider(
        scope,
        (&provider.name, &provider.to_text()),
        now,
    )?)
}

pub(super) fn put_budget(
    scope: &mut Scope<'_>,
    budget: &Budget,
    now: Timestamp,
    most: usize,
) -> Result<(), EgressError> {
    let sql = "SELECT COUNT(*) FROM llm_budgets WHERE workspace = ?1 AND name <> ?2";
    has_room(rows::others(scope, sql, &budget.name)?, most)?;
    Ok(rows::put_budget(
        scope,
        (&budget.name, &to_text(budget)),
        now,
    )?)
}
