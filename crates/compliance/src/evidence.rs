//! What is known of a server and a workspace at one moment, over a window of time.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_core::Timestamp;

/// Entries that are shown for a question; the newest ones.
pub const MOST_SHOWN: usize = 5;

/// What is asked of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// What was refused.
    Denials,
    /// Changes that nobody made.
    Unattributed,
    /// Changes of the policies.
    Policies,
    /// What was done with keys.
    Keys,
    /// What was done with people.
    People,
    /// Erasures of personal data.
    Erasures,
    /// Detections that somebody has seen.
    Acknowledged,
    /// Backups that were ordered.
    Backups,
}

/// What a question looks at of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// What was done.
    pub action: &'a str,
    /// The id of who did it; empty for nobody.
    pub principal: &'a str,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Whether something was changed by it.
    pub changed: bool,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Denials,
        Self::Unattributed,
        Self::Policies,
        Self::Keys,
        Self::People,
        Self::Erasures,
        Self::Acknowledged,
        Self::Backups,
    ];

    /// The question as somebody asks it again.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Denials => "skep audit search --decision deny",
            Self::Unattributed => "skep audit search --decision allow --principal \"\"",
            Self::Policies => "skep audit search --decision allow --action policy:write",
            Self::Keys => "skep audit search --decision allow --action key",
            Self::People => "skep audit search --decision allow --action user",
            Self::Erasures => "skep audit search --decision allow --action audit:erase",
            Self::Acknowledged => {
                "skep audit search --decision allow --action security:acknowledge"
            }
            Self::Backups => "skep audit search --decision allow --action backup:create",
        }
    }

    /// Whether an entry belongs to the answer.
    #[must_use]
    pub fn takes(self, entry: Seen<'_>) -> bool {
        let changed = |action: &str| entry.allowed && entry.changed && entry.action == action;
        let of = |kind: &str| {
            let rest = entry.action.strip_prefix(kind);
            entry.allowed && entry.changed && rest.is_some_and(|rest| rest.starts_with(':'))
        };
        match self {
            Self::Denials => !entry.allowed,
            Self::Unattributed => entry.allowed && entry.changed && entry.principal.is_empty(),
            Self::Policies => changed("policy:write"),
            Self::Keys => of("key"),
            Self::People => of("user"),
            Self::Erasures => changed("audit:erase"),
            Self::Acknowledged => changed("security:acknowledge"),
            Self::Backups => entry.allowed && entry.action == "backup:create",
        }
    }
}

/// An entry that shows something, with the proof that it is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Its number.
    pub number: u64,
    /// The proof as text (c2sp.org/tlog-proof).
    pub proof: String,
}

/// What a question found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// How many entries.
    pub count: u64,
    /// The newest of them.
    pub shown: Vec<Proven>,
}

/// The head of the log by which all is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Entries below it.
    pub size: u64,
    /// The signed note.
    pub note: String,
    /// The log's public key.
    pub key: String,
}

/// What verifying the log over the window said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    /// Entries of the window that were hashed and proven, of all workspaces.
    pub verified: u64,
    /// The size of the earlier signed head that the log was proven to begin with.
    pub earlier: Option<u64>,
    /// What is not as it was.
    pub damage: Option<String>,
    /// Whether entries of the window were pruned.
    pub pruned: bool,
    /// Whether the window has more entries than are looked at.
    pub cut: bool,
}

/// The policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The version that holds; 0 for the defaults alone.
    pub version: u64,
    /// Why they are not valid.
    pub wrong: Option<String>,
    /// Versions that were made in the window.
    pub made: u64,
    /// Those of them without an entry that has the hash of their text.
    pub untold: Vec<u64>,
}

/// A key that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Whether it has an end.
    pub ends: bool,
    /// Whether it lets an owner in for ever: of those the server keeps the last.
    pub lasting: bool,
    /// For how long nobody used it; since it was made, when nobody ever did.
    pub idle: Duration,
}

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their id.
    pub id: String,
    /// Whether they may do everything.
    pub owner: bool,
    /// Whether they have a second factor.
    pub second_factor: bool,
}

/// What looked like an attack, of severity medium and higher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Detections {
    /// Nobody has seen these, whenever they were found.
    pub open: u64,
    /// Somebody has seen these of the window.
    pub acknowledged: u64,
}

/// A backup of the window that is whole as far as its making says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name.
    pub name: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// What is so of the server, and told to the workspace `default` alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The backups of the window, newest first.
    pub backups: Vec<Backup>,
    /// Whether the newest was read from end to end: why not, when it was not, with whether that says
    /// that it is broken.
    pub verified: Option<Result<(), (bool, String)>>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Of which workspace.
    pub workspace: String,
    /// From when on.
    pub since: Timestamp,
    /// Until when: the moment of gathering.
    pub until: Timestamp,
    /// The head that proves the entries.
    pub checkpoint: Checkpoint,
    /// Whether the log is as it was.
    pub log: LogState,
    /// What the questions found.
    pub answers: BTreeMap<Question, Answer>,
    /// The policies.
    pub policy: Policy,
    /// The keys that count.
    pub keys: Vec<Key>,
    /// The people.
    pub people: Vec<Person>,
    /// The detections.
    pub detections: Detections,
    /// How long entries of the audit log are kept; for ever without.
    pub retention: Option<Duration>,
    /// The server; absent for other workspaces than `default`.
    pub server: Option<Server>,
}
