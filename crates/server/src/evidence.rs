//! Gathers what a compliance report rests on: from the log, the policies, keys, people, detections,
//! backups and the configuration, as they are at one moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use skep_audit::{AuditError, Decision, Entry, Found, Head, Window, proof_text};
use skep_backup::BackupError;
use skep_compliance::{
    Answer, Backup, Checkpoint, Detections, Evidence, Key, LogState, MOST_SHOWN, Person, Policy,
    Proven, Question, Seen, Server,
};
use skep_core::{Timestamp, Workspace};
use skep_guard::threats::Severity;
use skep_guard::threats::rows::{self, Filter};
use skep_guard::{Role, Scopes, policy};
use skep_store::StoreError;

use crate::state::State;

/// Entries that one report looks at, of all workspaces.
const MOST_ENTRIES: u64 = 100_000;
/// Versions of the policies that one report looks at.
const MOST_VERSIONS: usize = 1_000;
/// As many as a workspace keeps.
const MOST_DETECTIONS: usize = 10_000;
/// Backups that a report names.
const MOST_BACKUPS: usize = 100;

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    /// The log could not be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of backups could not be read.
    #[error("the folder of backups")]
    Backup(#[source] BackupError),
}

/// What the questions found, while the log is looked at.
struct Answers {
    workspace: Workspace,
    /// How many entries of each, and the numbers of the newest.
    of: BTreeMap<Question, (u64, VecDeque<u64>)>,
    /// The hashes of policies that were written.
    policies: BTreeSet<String>,
}

impl Answers {
    fn see(&mut self, found: &Found) {
        let Some(entry) = Entry::parse(&found.bytes) else {
            return;
        };
        if entry.workspace.as_deref() != Some(self.workspace.as_str()) {
            return;
        }
        let seen = Seen {
            action: &entry.action,
            principal: &entry.principal.id,
            allowed: entry.decision == Decision::Allow,
            changed: entry.change.is_some(),
        };
        for question in Question::ALL.into_iter().filter(|it| it.takes(seen)) {
            let (count, newest) = self.of.entry(question).or_default();
            *count += 1;
            newest.push_front(found.number);
            newest.truncate(MOST_SHOWN);
        }
        if Question::Policies.takes(seen) {
            let hash = entry.change.as_ref().and_then(|it| it.hash.as_deref());
            self.policies.extend(hash.map(str::to_owned));
        }
    }

    async fn proven(
        &self,
        state: &State,
        head: &Head,
    ) -> Result<BTreeMap<Question, Answer>, AuditError> {
        let mut answers = BTreeMap::new();
        for (question, (count, numbers)) in &self.of {
            let numbers: Vec<u64> = numbers.iter().copied().collect();
            let proofs = state.audit.log.prove_at(numbers.clone(), head).await?;
            let shown = numbers.iter().zip(&proofs).map(|(number, proof)| Proven {
                number: *number,
                proof: proof_text(*number, proof, head),
            });
            let shown = shown.collect();
            answers.insert(
                *question,
                Answer {
                    count: *count,
                    shown,
                },
            );
        }
        Ok(answers)
    }
}

/// All that is known of a workspace since a moment.
///
/// # Errors
/// [`EvidenceError`].
pub(crate) async fn gather(
    state: &Arc<State>,
    workspace: &Workspace,
    since: Timestamp,
) -> Result<Evidence, EvidenceError> {
    // What was noted just now counts too.
    state.audit.flush().await;
    let until = state.db.clock().now();
    let mut answers = Answers {
        workspace: workspace.clone(),
        of: BTreeMap::new(),
        policies: BTreeSet::new(),
    };
    let log = &state.audit.log;
    let window = log.window(since, MOST_ENTRIES, |found| answers.see(found));
    let window = window.await?;
    // Of a log that is not as it was nothing is proven.
    let proven = match &window.damage {
        None => answers.proven(state, &window.head).await?,
        Some(_) => BTreeMap::new(),
    };
    let server = match workspace == &Workspace::default() {
        true => Some(server(state, since).await?),
        false => None,
    };
    Ok(Evidence {
        workspace: workspace.to_string(),
        since,
        until,
        checkpoint: Checkpoint {
            size: window.head.size,
            note: String::from_utf8_lossy(&window.head.note).into_owned(),
            key: log.public_key().to_string(),
        },
        log: log_state(window),
        answers: proven,
        policy: policies(state, workspace, since, &answers.policies).await?,
        keys: keys(state, workspace, until),
        people: people(state, workspace).await?,
        detections: detections(state, workspace, since).await?,
        retention: state.audit.retention(),
        server,
    })
}

fn log_state(window: Window) -> LogState {
    LogState {
        verified: window.verified,
        earlier: window.earlier,
        damage: window.damage,
        pruned: window.pruned,
        cut: window.cut,
    }
}

async fn policies(
    state: &State,
    workspace: &Workspace,
    since: Timestamp,
    told: &BTreeSet<String>,
) -> Result<Policy, EvidenceError> {
    let versions = state
        .policies
        .versions(workspace, None, MOST_VERSIONS)
        .await?;
    let made = versions.iter().filter(|it| it.created_at >= since);
    let made: Vec<_> = made.collect();
    let untold = made
        .iter()
        .filter(|it| !told.contains(&it.hash.to_string()));
    let untold = untold.map(|it| it.number).collect();
    let mut found = Policy {
        made: made.len() as u64,
        untold,
        ..Policy::default()
    };
    if let Some(stored) = state.policies.current(workspace).await? {
        found.version = stored.version.number;
        let checked = tokio::task::spawn_blocking(move || policy::validate(&stored.text)).await;
        found.wrong = match checked {
            Ok(Ok(_)) => None,
            Ok(Err(all)) => all.first().map(ToString::to_string),
            Err(_) => Some("they could not be checked".to_owned()),
        };
    }
    Ok(found)
}

fn keys(state: &State, workspace: &Workspace, now: Timestamp) -> Vec<Key> {
    let all = state.keys.list(workspace);
    let counting = all
        .iter()
        // A canary opens nothing.
        .filter(|key| key.expires_at.is_none_or(|at| at > now) && !key.scopes.is_canary());
    let key = |key: &skep_guard::keys::Key| Key {
        id: key.id.to_string(),
        ends: key.expires_at.is_some(),
        lasting: key.role == Role::Owner && key.expires_at.is_none() && key.scopes == Scopes::all(),
        idle: now.since(
            key.used_at
                .map_or(key.created_at, |at| at.max(key.created_at)),
        ),
    };
    counting.map(key).collect()
}

async fn people(state: &State, workspace: &Workspace) -> Result<Vec<Person>, EvidenceError> {
    let members = state.users.members(workspace).await?;
    let person = |member: &skep_guard::identity::Member| Person {
        id: member.user.id.to_string(),
        owner: member.role == Role::Owner,
        second_factor: member.user.second_factor,
    };
    Ok(members.iter().map(person).collect())
}

async fn detections(
    state: &State,
    workspace: &Workspace,
    since: Timestamp,
) -> Result<Detections, EvidenceError> {
    let open = Filter {
        severity: Some(Severity::Medium),
        acknowledged: Some(false),
        ..Filter::default()
    };
    let seen = Filter {
        acknowledged: Some(true),
        since: Some(since),
        ..open.clone()
    };
    let open = rows::list(&state.db, workspace, open, None, MOST_DETECTIONS).await?;
    let seen = rows::list(&state.db, workspace, seen, None, MOST_DETECTIONS).await?;
    Ok(Detections {
        open: open.len() as u64,
        acknowledged: seen.len() as u64,
    })
}

async fn server(state: &Arc<State>, since: Timestamp) -> Result<Server, EvidenceError> {
    let backups = state.backups.clone();
    let look = move || {
        let mut all = backups.since(since)?;
        let verified = all.first().map(|newest| backups.read_through(newest));
        all.truncate(MOST_BACKUPS);
        Ok((all, verified))
    };
    let looked = tokio::task::spawn_blocking(look).await;
    let (all, verified) = looked
        .unwrap_or(Err(BackupError::Stopped))
        .map_err(EvidenceError::Backup)?;
    let backups = all.into_iter().map(|it| Backup {
        name: it.name,
        encrypted: it.encrypted,
    });
    Ok(Server {
        tls: state.tls.is_some(),
        backups: backups.collect(),
        verified,
    })
}
