//! Providers and budgets as the store has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_core::Timestamp;
use skep_store::{Scope, StoreError};

use super::books::{Budget, Most, Subject, Window};
use super::preferences::{EVERYBODY, Preferences};
use super::provider::{Provider, check_name};
use super::route::Route;
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alerts: Vec<u8>,
}

fn odd(table: &str, name: &str) -> StoreError {
    StoreError::Statement(format!("a row of {table} is not readable: `{name}`"))
}

fn to_text(budget: &Budget) -> String {
    let (of, whose) = budget.subject.parts();
    let (mut money, mut tokens, mut calls, mut requests) = (None, None, None, None);
    match budget.most {
        Most::Money(most) => money = Some(most.nanos()),
        Most::Tokens(most) => tokens = Some(most),
        Most::Calls(most) => calls = Some(most),
        Most::Requests(most) => requests = Some(most),
    }
    let stored = Stored {
        of: of.to_owned(),
        whose: whose.to_owned(),
        window: budget.window.as_str().to_owned(),
        money,
        tokens,
        calls,
        requests,
        alerts: budget.alerts.clone(),
    };
    // Texts and numbers alone: it cannot fail.
    serde_json::to_string(&stored).unwrap_or_default()
}

fn budget(name: &str, text: &str) -> Option<Budget> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let most = match (stored.money, stored.tokens, stored.calls, stored.requests) {
        (Some(nanos), None, None, None) => Most::Money(Money::from_nanos(nanos)),
        (None, Some(tokens), None, None) => Most::Tokens(tokens),
        (None, None, Some(calls), None) => Most::Calls(calls),
        (None, None, None, Some(requests)) => Most::Requests(requests),
        _ => return None,
    };
    Some(Budget {
        name: name.to_owned(),
        subject: Subject::of(&stored.of, &stored.whose)?,
        window: Window::named(&stored.window)?,
        most,
        alerts: stored.alerts,
    })
}

pub(super) fn providers(scope: &mut Scope<'_>) -> Result<Vec<Provider>, StoreError> {
    let all = rows::PROVIDERS.all(scope)?.into_iter();
    all.map(|(name, text)| {
        Provider::from_text(&name, &text).map_err(|_| odd("llm_providers", &name))
    })
    .collect()
}

pub(super) fn budgets(scope: &mut Scope<'_>) -> Result<Vec<Budget>, StoreError> {
    let all = rows::BUDGETS.all(scope)?.into_iter();
    all.map(|(name, text)| budget(&name, &text).ok_or_else(|| odd("llm_budgets", &name)))
        .collect()
}

pub(super) fn routes(scope: &mut Scope<'_>) -> Result<Vec<Route>, StoreError> {
    let all = rows::ROUTES.all(scope)?.into_iter();
    all.map(|(name, text)| Route::from_text(&name, &text).map_err(|_| odd("llm_routes", &name)))
        .collect()
}

/// The preferences of a workspace and of its agents, by whose they are.
pub(super) fn preferences(
    scope: &mut Scope<'_>,
) -> Result<BTreeMap<String, Preferences>, StoreError> {
    let all = rows::PREFERENCES.all(scope)?.into_iter();
    all.map(|(name, text)| match Preferences::from_text(&text) {
        Ok(found) => Ok((name, found)),
        Err(_) => Err(odd("llm_preferences", &name)),
    })
    .collect()
}

/// What a workspace keeps by name: a word for it, how its kind is called in the audit log, and its table.
pub(super) struct Shelf {
    word: &'static str,
    pub(super) kind: &'static str,
    rows: rows::Kept,
}

pub(super) const PROVIDERS: Shelf = Shelf {
    word: "provider",
    kind: "Provider",
    rows: rows::PROVIDERS,
};
pub(super) const BUDGETS: Shelf = Shelf {
    word: "budget",
    kind: "Budget",
    rows: rows::BUDGETS,
};
pub(super) const ROUTES: Shelf = Shelf {
    word: "route",
    kind: "Route",
    rows: rows::ROUTES,
};
pub(super) const PREFERENCES: Shelf = Shelf {
    word: "setting of models for",
    kind: "ModelSettings",
    rows: rows::PREFERENCES,
};

/// One of them, checked, as its row will have it.
pub(super) struct Ware {
    pub(super) name: String,
    text: String,
}

impl Ware {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn provider(provider: &Provider) -> Result<Self, EgressError> {
        provider.check()?;
        Ok(Self {
            name: provider.name.clone(),
            text: provider.to_text(),
        })
    }

    pub(super) fn route(route: &Route) -> Result<Self, EgressError> {
        route.check()?;
        Ok(Self {
            name: route.name.clone(),
            text: route.to_text(),
        })
    }

    /// Of an agent, or of everybody.
    pub(super) fn preferences(whose: &str, preferences: &Preferences) -> Result<Self, EgressError> {
        if whose != EVERYBODY {
            check_name(whose)?;
        }
        preferences.check()?;
        Ok(Self {
            name: whose.to_owned(),
            text: preferences.to_text(),
        })
    }

    pub(super) fn budget(budget: &Budget) -> Result<Self, EgressError> {
        budget.check()?;
        Ok(Self {
            name: budget.name.clone(),
            text: to_text(budget),
        })
    }
}

impl Shelf {
    /// Puts one in the place of the one of its name; there are so many at most.
    pub(super) fn put(
        &self,
        scope: &mut Scope<'_>,
        ware: &Ware,
        (now, most): (Timestamp, u64),
    ) -> Result<(), EgressError> {
        self.rows.put(scope, (&ware.name, &ware.text), (now, most))
    }

    pub(super) fn drop(&self, scope: &mut Scope<'_>, name: &str) -> Result<(), EgressError> {
        match self.rows.drop(scope, name)? {
            true => Ok(()),
            false => {
                let word = self.word;
                Err(EgressError::NotFound(format!(
                    "there is no {word} `{name}`"
                )))
            }
        }
    }
}
