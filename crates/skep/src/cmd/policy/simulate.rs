//! `policy simulate`: past decisions, asked again of other policies.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use skep_api::AuditEntry;
use skep_client::{AuditQuery, PageQuery};
use skep_core::{Timestamp, Workspace};
use skep_guard::policy::{Past, simulate};
use skep_guard::{Principal, PrincipalKind, Role, Scopes};

use crate::cmd::logs::since;
use crate::failure::{Failure, Result};
use crate::output::{Format, Row};
use crate::session::Session;

/// Entries of one page.
const PAGE: u32 = 1_000;

/// Flags of `policy simulate`.
#[derive(Debug, Args)]
#[command(after_help = "\
The log does not say which role somebody had, from which address they came or which
labels an agent had: keys and users are taken with the role and the scopes that they
have now, and who is not there any more is not asked about, unless --role says what
all of them had. Policies that look at what the log does not keep are named, for what
they make of the past is a guess.

Example:
  skep policy simulate policies.cedar --since 7d")]
pub(crate) struct SimulateArgs {
    /// The policies to ask; without it, those of the workspace
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Decisions from this time on: `7d` back from now, or RFC 3339
    #[arg(long, default_value = "1d", value_name = "TIME", value_parser = since)]
    since: String,
    /// The role that all keys and users had [default: the one that each has now]
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// At most so many entries of the log, the newest
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    limit: usize,
}

/// A decision that would be another one.
#[derive(Debug, Serialize)]
struct Differs {
    principal: String,
    action: String,
    resource: String,
    was: &'static str,
    would_be: &'static str,
    policies: Vec<String>,
    times: u64,
    last: String,
}

impl Row for Differs {
    const HEADERS: &'static [&'static str] = &[
        "WHO", "ACTION", "WHAT", "WAS", "WOULD BE", "BY", "TIMES", "LAST",
    ];

    fn name(&self) -> String {
        format!("{} {} {}", self.principal, self.action, self.resource)
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.principal.clone(),
            self.action.clone(),
            self.resource.clone(),
            self.was.to_owned(),
            self.would_be.to_owned(),
            self.policies.join(", "),
            self.times.to_string(),
            self.last.split('.').next().unwrap_or_default().to_owned(),
        ]
    }
}

#[derive(Debug, Serialize)]
struct Told {
    asked: u64,
    skipped: u64,
    unknown: u64,
    differs: Vec<Differs>,
    more: u64,
    guessed: Vec<String>,
}

/// What keys and users are now.
struct Now {
    workspace: Workspace,
    /// What all are taken for, when that is said.
    role: Option<Role>,
    known: HashMap<String, (Role, Scopes)>,
    /// Decisions about who is not there any more.
    unknown: u64,
}

impl Now {
    async fn ask(session: &Session, role: Option<Role>) -> Result<Self> {
        let mut now = Self {
            workspace: super::own(session).await?,
            role,
            known: HashMap::new(),
            unknown: 0,
        };
        if role.is_some() {
            return Ok(now);
        }
        let client = session.client()?;
        let read = |role: &str| role.parse().map_err(|why: String| Failure::plain(why));
        for key in client.keys().await?.items {
            let is = (read(&key.role)?, Scopes::new(key.scopes));
            now.known.insert(key.id, is);
        }
        for user in client.users().await?.items {
            let is = (read(&user.role)?, Scopes::all());
            now.known.insert(user.id, is);
        }
        Ok(now)
    }

    /// Who a kind and an id are, if that is known.
    fn principal(&mut self, kind: PrincipalKind, id: String, times: u64) -> Option<Principal> {
        let is = match (kind, self.role) {
            (PrincipalKind::Agent, _) => Some((None, Scopes::all())),
            (_, Some(role)) => Some((Some(role), Scopes::all())),
            (_, None) => {
                let known = self.known.get(&id).cloned();
                known.map(|(role, scopes)| (Some(role), scopes))
            }
        };
        let Some((role, scopes)) = is else {
            self.unknown += times;
            return None;
        };
        Some(Principal {
            kind,
            id: id.into(),
            workspace: self.workspace.clone(),
            role,
            scopes,
        })
    }
}

fn past(found: &AuditEntry, now: &mut Now) -> Option<Past> {
    let entry = &found.entry;
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let kind = entry["principal"]["kind"].as_str().unwrap_or_default();
    let times = entry["times"].as_u64().unwrap_or(1);
    let principal = kind.parse().ok();
    let principal =
        principal.and_then(|kind| now.principal(kind, text(&entry["principal"]["id"]), times));
    let kind = text(&entry["resource"]["kind"]);
    // The entry of an accepted call names the agent as what was changed.
    let is_call = kind == "Call" && entry["action"] == "agent:call";
    Some(Past {
        time: entry["time"].as_str()?.parse().ok()?,
        principal,
        action: text(&entry["action"]),
        id: text(&entry["resource"]["id"]),
        agent: is_call.then(|| text(&entry["change"]["what"])),
        kind,
        allowed: entry["decision"] == "allow",
        times,
    })
}

fn told(decision: bool) -> &'static str {
    if decision { "allow" } else { "deny" }
}

pub(crate) async fn run(session: &Session, args: SimulateArgs) -> Result {
    let slice = super::slice(session, args.file.as_deref()).await?;
    let client = session.client()?;
    let mut now = Now::ask(session, args.role).await?;
    let mut query = AuditQuery {
        since: Some(args.since),
        ..AuditQuery::default()
    };
    let mut all: Vec<Past> = Vec::new();
    loop {
        let left = u32::try_from(args.limit - all.len()).unwrap_or(PAGE);
        query.page = PageQuery {
            cursor: query.page.cursor.take(),
            limit: Some(left.clamp(1, PAGE)),
        };
        let page = client.audit_entries(&query).await?;
        all.extend(page.items.iter().filter_map(|it| past(it, &mut now)));
        match page.next {
            Some(next) if all.len() < args.limit => query.page.cursor = Some(next),
            _ => break,
        }
    }
    let simulation = simulate(&slice, &all);
    let differs = simulation.differs.into_iter().map(|it| Differs {
        principal: format!("{} {}", it.principal.0, it.principal.1),
        action: it.action,
        resource: format!("{} {}", it.resource.0, it.resource.1)
            .trim_end()
            .to_owned(),
        was: told(!it.allow),
        would_be: told(it.allow),
        policies: it.policies,
        times: it.times,
        last: it.last.to_string(),
    });
    let report = Told {
        asked: simulation.asked,
        skipped: simulation.skipped - now.unknown.min(simulation.skipped),
        unknown: now.unknown,
        differs: differs.collect(),
        more: simulation.more,
        guessed: simulation.guessed.into_iter().collect(),
    };
    let output = &session.output;
    if output.format != Format::Table {
        return output.one(&report, &report.differs.len().to_string(), &[]);
    }
    if !report.differs.is_empty() {
        output.list(&report.differs)?;
    }
    let count: u64 = report.differs.iter().map(|it| it.times).sum::<u64>() + report.more;
    let (asked, skipped) = (report.asked, report.skipped);
    output.say(&format!(
        "{asked} decisions asked again, {count} would be others; {skipped} were not asked (Skep's own)."
    ))?;
    if report.unknown > 0 {
        output.say(&format!(
            "{} more were not asked: who it was is not a key or user of the workspace now. `--role` says what all had.",
            report.unknown
        ))?;
    }
    match report.guessed.as_slice() {
        [] => Ok(()),
        some => output.say(&format!(
            "A guess, for they look at what the log does not keep: {}.",
            some.join(", ")
        )),
    }
}
