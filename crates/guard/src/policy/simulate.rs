//! What would have been decided: the log's past decisions, asked again of other policies.

use std::collections::{BTreeSet, HashMap};

use skep_core::Timestamp;

use super::actions::CATALOG;
use super::ask::{Agent, Ask, Circumstances, Principal, Resource, Secret};
use super::slice::Slice;

/// Differences that are told apart.
const MOST_DIFFERS: usize = 1_000;

/// A decision of the past, as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// When.
    pub time: Timestamp,
    /// Who; `None` when it cannot be said who that is, or when it was Skep itself.
    pub principal: Option<Principal>,
    /// Did what.
    pub action: String,
    /// The kind of what it was done to.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The agent that it was about, when it was a call.
    pub agent: Option<String>,
    /// What was decided.
    pub allowed: bool,
    /// How often.
    pub times: u64,
}

/// A decision that would be another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differs {
    /// Who: kind and id.
    pub principal: (String, String),
    /// Did what.
    pub action: String,
    /// To what: kind and id.
    pub resource: (String, String),
    /// Whether it would be allowed now; before it was not, or the other way round.
    pub allow: bool,
    /// By what.
    pub policies: Vec<String>,
    /// How often.
    pub times: u64,
    /// When last.
    pub last: Timestamp,
}

/// What would have been decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simulation {
    /// Decisions that were asked again.
    pub asked: u64,
    /// Decisions that could not be: of Skep itself, of whom nothing is known, of unknown actions.
    pub skipped: u64,
    /// Those that would be others.
    pub differs: Vec<Differs>,
    /// Differences that are not told apart any more.
    pub more: u64,
    /// Policies that look at what the log does not keep: addresses, labels, arguments. What they make of
    /// the past is a guess.
    pub guessed: BTreeSet<String>,
}

fn resource(past: &Past) -> Option<Resource<'_>> {
    Some(match (past.kind.as_str(), past.action.as_str()) {
        // The entry of a call names the call, and the agent beside it.
        ("Call", "agent:call") => Resource::Agent(Agent::named(past.agent.as_deref()?)),
        ("Call", _) => Resource::Call {
            id: &past.id,
            agent: past.agent.as_deref().map(Agent::named),
        },
        ("Agent", _) => Resource::Agent(Agent::named(&past.id)),
        ("Secret", _) => Resource::Secret(Secret::unknown(&past.id)),
        ("Model", _) => Resource::Model(&past.id),
        // What a tool did then is not in the log: the worst.
        ("Tool", _) => Resource::Tool {
            name: &past.id,
            class: "execute",
        },
        ("Host", _) => Resource::Host(&past.id),
        ("Workspace", _) => Resource::Workspace,
        ("Server", _) => Resource::Server,
        _ => return None,
    })
}

/// Asks past decisions again.
pub fn simulate<'p>(slice: &Slice, past: impl IntoIterator<Item = &'p Past>) -> Simulation {
    let mut all = Simulation::default();
    let mut places: HashMap<_, usize> = HashMap::new();
    for one in past {
        let action = CATALOG.actions.get(&one.action);
        let (Some(action), Some(principal), Some(resource)) =
            (action, &one.principal, resource(one))
        else {
            all.skipped += one.times;
            continue;
        };
        let circumstances = Circumstances::at(one.time);
        let decision = slice.decide(&Ask {
            principal,
            action: &one.action,
            resource,
            circumstances: &circumstances,
        });
        all.asked += one.times;
        let guessed = slice.about(action).filter(|it| it.beyond_log);
        all.guessed.extend(guessed.map(|it| it.name.to_string()));
        if decision.allow == one.allowed {
            continue;
        }
        let key = (
            (principal.kind, principal.id.clone()),
            one.action.clone(),
            (
                one.kind.clone(),
                one.agent.clone().unwrap_or_else(|| one.id.clone()),
            ),
            decision.clone(),
        );
        match places.get(&key) {
            Some(at) => {
                let known = &mut all.differs[*at];
                known.times += one.times;
                known.last = known.last.max(one.time);
            }
            None if all.differs.len() >= MOST_DIFFERS => all.more += one.times,
            None => {
                all.differs.push(Differs {
                    principal: (principal.kind.to_string(), principal.id.to_string()),
                    action: one.action.clone(),
                    resource: key.2.clone(),
                    allow: decision.allow,
                    policies: decision.policies.iter().map(ToString::to_string).collect(),
                    times: one.times,
                    last: one.time,
                });
                places.insert(key, all.differs.len() - 1);
            }
        }
    }
    all
}
