//! Versions of routes: each change makes one, and the one before can come back; by itself, where a route says when.

use std::time::Duration;

use skep_core::{Timestamp, Workspace};
use skep_store::{By, Row, Scope, StoreError};

use super::bound::Record;
use super::history::{Step, before};
use super::route::Route;
use super::service::Models;
use super::stored::ROUTES;
use crate::EgressError;
use crate::ledger::Way;
use crate::rows::{self, KEPT, int, number};

/// Versions of one route that are kept.
const MOST: u64 = 100;
/// Exchanges of a version that are looked at, the newest.
const MOST_EXCHANGES: i64 = 5_000;
/// How far back they are looked at.
const JUDGED: Duration = Duration::from_secs(24 * 3600);
/// How exchanges end that say that a model does badly, besides statuses of 500 and more.
const FAILURES: [&str; 5] = ["408", "429", "unreachable", "cut", "silent"];

/// A version of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteVersion {
    /// Its number, from 1 on.
    pub number: u64,
    /// When it came.
    pub at: Timestamp,
    /// The version that it went back to.
    pub back: Option<u64>,
    /// How it is.
    pub route: Route,
}

/// The newest version of a route does too badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Which route.
    pub route: String,
    /// Its version.
    pub version: u64,
    /// Why, in words.
    pub why: String,
}

fn read(row: &Row, name: &str) -> Result<RouteVersion, StoreError> {
    let odd = |_| StoreError::Statement(format!("a version of the route `{name}` is not readable"));
    let back = number(row.int(2)?);
    Ok(RouteVersion {
        number: number(row.int(0)?),
        at: Timestamp::from_micros(row.int(1)?),
        back: (back > 0).then_some(back),
        route: Route::from_text(name, row.text(3)?).map_err(odd)?,
    })
}

/// The versions of a route, the newest first.
fn all(scope: &mut Scope<'_>, name: &str) -> Result<Vec<RouteVersion>, StoreError> {
    let rows = scope.query(
        "SELECT version, at, back, spec FROM llm_route_versions WHERE workspace = ?1 AND name = ?2 \
         ORDER BY version DESC",
        &[name.into()],
    )?;
    rows.iter().map(|row| read(row, name)).collect()
}

/// Adds a version, when a route has come to be so.
pub(super) fn add(
    scope: &mut Scope<'_>,
    (name, spec): (&str, &str),
    (back, now): (Option<u64>, Timestamp),
) -> Result<(), StoreError> {
    let row = scope.query_opt(
        "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM llm_route_versions WHERE workspace = ?1 AND name = ?2",
        &[name.into()],
    )?;
    let last = row.map_or(Ok(0), |row| row.int(0))?;
    scope.execute(
        "INSERT INTO llm_route_versions (workspace, name, version, at, back, spec) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[
            name.into(),
            (last + 1).into(),
            now.into(),
            int(back.unwrap_or(0)).into(),
            spec.into(),
        ],
    )?;
    scope.execute(
        "DELETE FROM llm_route_versions WHERE workspace = ?1 AND name = ?2 AND version <= ?3",
        &[name.into(), (last + 1 - int(MOST)).into()],
    )?;
    Ok(())
}

/// A route is gone: so are its versions.
pub(super) fn drop(scope: &mut Scope<'_>, name: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM llm_route_versions WHERE workspace = ?1 AND name = ?2";
    scope.execute(sql, &[name.into()]).map(std::mem::drop)
}

/// How the newest version did. What agents say of their own exchanges does not bring a route back: they do not decide on it.
fn record(scope: &mut Scope<'_>, name: &str, from: Timestamp) -> Result<Record, StoreError> {
    let rows = scope.query(
        "SELECT outcome, whole_us FROM exchanges WHERE workspace = ?1 AND at >= ?2 AND asked = ?3 AND way = ?4 \
         AND prices <> ?5 AND outcome <> 'left' ORDER BY at DESC LIMIT ?6",
        &[
            from.into(),
            name.into(),
            Way::Model.as_str().into(),
            KEPT.into(),
            MOST_EXCHANGES.into(),
        ],
    )?;
    let mut record = Record::default();
    let mut took = Vec::new();
    for row in &rows {
        let outcome = row.text(0)?;
        match outcome {
            _ if outcome.starts_with('2') => took.push(number(row.int(1)?)),
            // What a client asked wrongly says nothing of who answers; nor does the end of a server of Skep.
            _ if outcome.starts_with('5') || FAILURES.contains(&outcome) => record.failed += 1,
            _ => continue,
        }
        record.exchanges += 1;
    }
    took.sort_unstable();
    let place = (took.len() * 95).div_ceil(100).saturating_sub(1);
    record.p95_us = took.get(place).copied().unwrap_or_default();
    let row = scope.query_opt(
        "SELECT COUNT(*), CAST(COALESCE(SUM(score), 0) AS BIGINT) FROM llm_scores \
         WHERE workspace = ?1 AND asked = ?2 AND exchanged_at >= ?3 AND kind <> 'agent'",
        &[name.into(), from.into()],
    )?;
    if let Some(row) = row {
        (record.scores, record.score) = (number(row.int(0)?), number(row.int(1)?));
    }
    Ok(record)
}

/// Goes back. `newest`: only as long as that is the newest version.
fn go_back(
    scope: &mut Scope<'_>,
    (name, newest): (&str, Option<u64>),
    now: Timestamp,
) -> Result<(), EgressError> {
    let versions = all(scope, name)?;
    let Some(last) = versions.first() else {
        return Err(EgressError::NotFound(format!("there is no route `{name}`")));
    };
    if newest.is_some_and(|it| it != last.number) {
        return Err(EgressError::NotFound("it has changed meanwhile".to_owned()));
    }
    let step = |it: &RouteVersion| Step {
        nth: it.number,
        back: it.back,
        what: Some(it.route.to_text()),
    };
    let steps: Vec<Step<String>> = versions.iter().map(step).collect();
    let nowhere = || EgressError::NotFound(format!("the route `{name}` has no version before"));
    let found = before(&steps).ok_or_else(nowhere)?;
    let text = found.what.as_deref().unwrap_or_default();
    rows::ROUTES.put(scope, (name, text), (now, u64::MAX))?;
    add(scope, (name, text), (Some(found.nth), now))?;
    Ok(())
}

impl Models {
    /// The versions of a route, the newest first.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn route_versions(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Vec<RouteVersion>, EgressError> {
        let (of, wanted) = (workspace.clone(), name.to_owned());
        let read = self
            .0
            .db
            .read(move |reader| all(&mut reader.scope(&of), &wanted));
        let found = read.await?;
        match found.is_empty() {
            true => Err(EgressError::NotFound(format!("there is no route `{name}`"))),
            false => Ok(found),
        }
    }

    /// Goes back to the version of a route before the newest one; done again, one further. What is to be written in the
    /// same unit comes along.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn roll_route_back(
        &self,
        by: &By,
        workspace: &Workspace,
        (name, newest): (&str, Option<u64>),
        along: impl FnOnce(&mut Scope<'_>, Timestamp) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), EgressError> {
        let of = name.to_owned();
        let work = move |scope: &mut Scope<'_>, now: Timestamp| {
            go_back(scope, (&of, newest), now)?;
            along(scope, now)?;
            Ok(())
        };
        self.changing(by, workspace, (ROUTES.kind, name, "rolled-back"), work)
            .await
    }

    /// Routes whose newest version does worse than they say it may. One that was gone back to stays.
    ///
    /// # Errors
    /// The store's own.
    pub async fn bad_routes(&self, workspace: &Workspace) -> Result<Vec<Bad>, EgressError> {
        let routes = self.routes(workspace).await?;
        let bound: Vec<_> = routes
            .iter()
            .filter_map(|it| Some((it.name.clone(), it.bound?)))
            .collect();
        if bound.is_empty() {
            return Ok(Vec::new());
        }
        let (of, now) = (workspace.clone(), self.0.db.clock().now());
        let look = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let mut bad = Vec::new();
            for (route, bound) in bound {
                let versions = all(&mut scope, &route)?;
                let Some(newest) = versions.first().filter(|it| it.back.is_none()) else {
                    continue;
                };
                if versions.len() < 2 {
                    continue;
                }
                let from = newest.at.max(now.minus(JUDGED));
                let found = record(&mut scope, &route, from)?;
                if let Some(why) = bound.broken(&found) {
                    let version = newest.number;
                    bad.push(Bad {
                        route,
                        version,
                        why,
                    });
                }
            }
            Ok::<_, EgressError>(bad)
        });
        look.await
    }
}
