//! The checks: each is a function of the evidence.

use std::time::Duration;

use skep_core::units::format_duration;

use crate::evidence::{Answer, Evidence, Key, Proven, Question, Server};

/// A key that nobody used for so long is one that nobody needs.
const MOST_IDLE: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Fewer owners are too few.
const LEAST_OWNERS: usize = 2;
/// Ids that a sentence names.
const MOST_NAMED: usize = 10;

/// What software can say about a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The log is as it was.
    LogIntact,
    /// No change is nobody's.
    ChangesAttributed,
    /// The policies that hold are valid.
    PolicyValid,
    /// Each version of the policies has its entry.
    PolicyRecorded,
    /// Refusals are made and recorded.
    Denials,
    /// Every key has an end.
    KeysEnd,
    /// Every key is used.
    KeysUsed,
    /// There are two owners or more.
    Owners,
    /// Everybody has a second factor.
    SecondFactor,
    /// The server speaks TLS.
    Transport,
    /// Backups are made and can be read.
    Backups,
    /// Backups are encrypted.
    BackupsEncrypted,
    /// Entries are kept for so long at least.
    Kept(Duration),
    /// Entries are not kept for ever.
    LogEnds,
    /// Nothing that looked like an attack waits.
    Detections,
    /// Erasures are made and recorded.
    Erasures,
}

/// How it stands with a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The evidence shows it.
    Satisfied,
    /// The evidence shows that it is not so.
    NotSatisfied,
    /// The evidence shows neither.
    NotAssessable,
}

impl State {
    /// Its name, as the API has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Satisfied => "satisfied",
            Self::NotSatisfied => "not-satisfied",
            Self::NotAssessable => "not-assessable",
        }
    }
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub state: State,
    /// Why, in words.
    pub said: String,
    /// What the log was asked.
    pub question: Option<Question>,
    /// Entries that the answer has.
    pub count: u64,
    /// The newest of them.
    pub entries: Vec<Proven>,
}

type Said = (State, String);

fn yes(said: impl Into<String>) -> Said {
    (State::Satisfied, said.into())
}

fn no(said: impl Into<String>) -> Said {
    (State::NotSatisfied, said.into())
}

fn open(said: impl Into<String>) -> Said {
    (State::NotAssessable, said.into())
}

/// Ids as a sentence has them.
fn named<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = ids.collect();
    let mut text = all[..all.len().min(MOST_NAMED)].join(", ");
    if all.len() > MOST_NAMED {
        text.push_str(&format!(" and {} more", all.len() - MOST_NAMED));
    }
    text
}

impl Check {
    /// The names of all, as catalogs have them.
    pub const NAMES: [&'static str; 16] = [
        "log-intact",
        "changes-attributed",
        "policy-valid",
        "policy-recorded",
        "denials",
        "keys-end",
        "keys-used",
        "owners",
        "second-factor",
        "transport",
        "backups",
        "backups-encrypted",
        "kept",
        "log-ends",
        "detections",
        "erasures",
    ];

    /// The check of this name; `least` is what one takes that speaks of time.
    #[must_use]
    pub fn named(name: &str, least: Option<Duration>) -> Option<Self> {
        Some(match (name, least) {
            ("kept", Some(least)) => Self::Kept(least),
            (_, Some(_)) => return None,
            ("log-intact", _) => Self::LogIntact,
            ("changes-attributed", _) => Self::ChangesAttributed,
            ("policy-valid", _) => Self::PolicyValid,
            ("policy-recorded", _) => Self::PolicyRecorded,
            ("denials", _) => Self::Denials,
            ("keys-end", _) => Self::KeysEnd,
            ("keys-used", _) => Self::KeysUsed,
            ("owners", _) => Self::Owners,
            ("second-factor", _) => Self::SecondFactor,
            ("transport", _) => Self::Transport,
            ("backups", _) => Self::Backups,
            ("backups-encrypted", _) => Self::BackupsEncrypted,
            ("log-ends", _) => Self::LogEnds,
            ("detections", _) => Self::Detections,
            ("erasures", _) => Self::Erasures,
            _ => return None,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogIntact => "log-intact",
            Self::ChangesAttributed => "changes-attributed",
            Self::PolicyValid => "policy-valid",
            Self::PolicyRecorded => "policy-recorded",
            Self::Denials => "denials",
            Self::KeysEnd => "keys-end",
            Self::KeysUsed => "keys-used",
            Self::Owners => "owners",
            Self::SecondFactor => "second-factor",
            Self::Transport => "transport",
            Self::Backups => "backups",
            Self::BackupsEncrypted => "backups-encrypted",
            Self::Kept(_) => "kept",
            Self::LogEnds => "log-ends",
            Self::Detections => "detections",
            Self::Erasures => "erasures",
        }
    }

    /// What the log is asked for it.
    #[must_use]
    pub const fn question(self) -> Option<Question> {
        match self {
            Self::ChangesAttributed => Some(Question::Unattributed),
            Self::PolicyValid | Self::PolicyRecorded => Some(Question::Policies),
            Self::Denials => Some(Question::Denials),
            Self::KeysEnd | Self::KeysUsed => Some(Question::Keys),
            Self::Owners | Self::SecondFactor => Some(Question::People),
            Self::Backups | Self::BackupsEncrypted => Some(Question::Backups),
            Self::Detections => Some(Question::Acknowledged),
            Self::Erasures => Some(Question::Erasures),
            Self::LogIntact | Self::Transport | Self::Kept(_) | Self::LogEnds => None,
        }
    }

    /// What the evidence says.
    #[must_use]
    pub fn run(self, evidence: &Evidence) -> Finding {
        let question = self.question();
        let answer = question.and_then(|it| evidence.answers.get(&it));
        let answer = answer.cloned().unwrap_or_default();
        let (state, said) = self.say(evidence, &answer);
        Finding {
            state,
            said,
            question,
            count: answer.count,
            entries: answer.shown,
        }
    }

    fn say(self, evidence: &Evidence, answer: &Answer) -> Said {
        match self {
            Self::LogIntact => log_intact(evidence),
            Self::ChangesAttributed => match answer.count {
                0 => unless_cut(evidence, "every change has somebody who made it"),
                count => no(format!("changes without anybody who made them: {count}")),
            },
            Self::PolicyValid => match (&evidence.policy.wrong, evidence.policy.version) {
                (Some(wrong), _) => no(format!("the policies are not valid: {wrong}")),
                (None, 0) => yes("the default policies hold, and none of the workspace's own"),
                (None, version) => yes(format!("version {version} of the policies is valid")),
            },
            Self::PolicyRecorded => policy_recorded(evidence),
            Self::Denials => match answer.count {
                0 => open("nobody was refused in the window; nothing shows that it works"),
                count => yes(format!("entries of what was refused: {count}")),
            },
            Self::KeysEnd => keys_end(evidence),
            Self::KeysUsed => keys_used(evidence),
            Self::Owners => {
                let owners = evidence.people.iter().filter(|it| it.owner);
                match owners.count() {
                    count if count < LEAST_OWNERS => no(format!("people who are owners: {count}")),
                    count => yes(format!("people who are owners: {count}")),
                }
            }
            Self::SecondFactor => second_factor(evidence),
            Self::Transport => of_server(evidence, |server| match server.tls {
                true => yes("the server speaks TLS"),
                false => no("the server does not speak TLS itself"),
            }),
            Self::Backups => of_server(evidence, backups),
            Self::BackupsEncrypted => of_server(evidence, encrypted),
            Self::Kept(least) => kept(evidence, least),
            Self::LogEnds => match evidence.retention {
                None => no("entries are kept for ever: `audit.retention` is not set"),
                Some(kept) => yes(format!(
                    "entries lose their bodies after {}",
                    format_duration(kept)
                )),
            },
            Self::Detections => match evidence.detections.open {
                0 => yes(format!(
                    "none waits; acknowledged of the window: {}",
                    evidence.detections.acknowledged
                )),
                count => no(format!("detections that nobody has seen: {count}")),
            },
            Self::Erasures => match answer.count {
                0 => open("nobody was erased in the window; software does not know who asked"),
                count => yes(format!("erasures: {count}")),
            },
        }
    }
}

/// The keys without the one that the server never lets go: somebody has to come in.
fn spare(evidence: &Evidence) -> impl Iterator<Item = &Key> {
    let alone = evidence.keys.iter().filter(|key| key.lasting).count() == 1;
    evidence
        .keys
        .iter()
        .filter(move |key| !(alone && key.lasting))
}

fn keys_end(evidence: &Evidence) -> Said {
    let endless = spare(evidence).filter(|key| !key.ends);
    match named(endless.map(|key| key.id.as_str())) {
        ids if ids.is_empty() => yes("no key counts for ever, but for the last one of an owner"),
        ids => no(format!("keys without an end: {ids}")),
    }
}

fn keys_used(evidence: &Evidence) -> Said {
    let idle = spare(evidence).filter(|key| key.idle >= MOST_IDLE);
    match named(idle.map(|key| key.id.as_str())) {
        ids if ids.is_empty() => yes("every key was used or made in the last 90 days"),
        ids => no(format!("keys that nobody used for 90 days: {ids}")),
    }
}

fn kept(evidence: &Evidence, least: Duration) -> Said {
    match evidence.retention {
        None => yes("entries are kept for ever"),
        Some(kept) if kept >= least => {
            yes(format!("entries are kept for {}", format_duration(kept)))
        }
        Some(kept) => no(format!(
            "entries are kept for {}, and should be for {}",
            format_duration(kept),
            format_duration(least)
        )),
    }
}

/// That nothing was found counts only when all was looked at.
fn unless_cut(evidence: &Evidence, said: &str) -> Said {
    let log = &evidence.log;
    match (log.cut, log.pruned) {
        (true, _) => {
            open("the window has more entries than one report looks at; take a later start")
        }
        (_, true) => open("entries of the window were pruned; take a later start"),
        _ => yes(said),
    }
}

fn log_intact(evidence: &Evidence) -> Said {
    let log = &evidence.log;
    let size = evidence.checkpoint.size;
    match (&log.damage, log.earlier) {
        (Some(damage), _) => no(format!("the log is not as it was: {damage}")),
        (None, None) => open("no earlier signed head is kept yet: it is one of each hour"),
        (None, Some(earlier)) => unless_cut(
            evidence,
            &format!(
                "the log of {size} entries begins with the signed one of {earlier}; entries of the \
                 window that were hashed and proven: {}",
                log.verified
            ),
        ),
    }
}

fn policy_recorded(evidence: &Evidence) -> Said {
    let policy = &evidence.policy;
    if !policy.untold.is_empty() {
        // What was not looked at may have the entry.
        if let (State::NotAssessable, why) = unless_cut(evidence, "") {
            return open(why);
        }
        let all: Vec<String> = policy.untold.iter().map(u64::to_string).collect();
        let all = named(all.iter().map(String::as_str));
        return no(format!(
            "versions of the policies without their entry: {all}"
        ));
    }
    yes(format!(
        "versions of the policies that were made in the window, each with its entry: {}",
        policy.made
    ))
}

fn second_factor(evidence: &Evidence) -> Said {
    if evidence.people.is_empty() {
        return open("nobody has an account here; keys have no second factor");
    }
    let without = evidence.people.iter().filter(|it| !it.second_factor);
    match named(without.map(|it| it.id.as_str())) {
        ids if ids.is_empty() => yes("everybody has a second factor"),
        ids => no(format!("people without a second factor: {ids}")),
    }
}

fn of_server(evidence: &Evidence, say: impl FnOnce(&Server) -> Said) -> Said {
    let alone =
        "the server's own affairs are told to the workspace `default` alone; ask from there";
    evidence.server.as_ref().map_or_else(|| open(alone), say)
}

fn backups(server: &Server) -> Said {
    let Some(newest) = server.backups.first() else {
        return no("no backup of the window is in the server's folder");
    };
    let (count, name) = (server.backups.len(), &newest.name);
    match &server.verified {
        Some(Ok(())) => yes(format!(
            "backups of the window: {count}; {name} was read to its end"
        )),
        Some(Err((true, why))) => no(format!("{name} cannot be restored: {why}")),
        Some(Err((false, why))) => open(format!(
            "backups of the window: {count}; {name} was not read: {why}"
        )),
        None => open(format!("backups of the window: {count}; none was read")),
    }
}

fn encrypted(server: &Server) -> Said {
    if server.backups.is_empty() {
        return open("no backup of the window is in the server's folder");
    }
    let plain = server.backups.iter().filter(|it| !it.encrypted);
    match named(plain.map(|it| it.name.as_str())) {
        names if names.is_empty() => yes(format!("encrypted backups: {}", server.backups.len())),
        names => no(format!("backups that are not encrypted: {names}")),
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
pub(crate) mod tests;
