//! What holds in one workspace, compiled: Skep's policies and the workspace's own.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};

use cedar_policy::{
    ActionConstraint, AuthorizationError, Authorizer, Decision as Cedar, Effect, EntityUid, Policy,
    PolicyId, PolicySet,
};
use parking_lot::RwLock;
use serde_json::Value;

use super::actions::{Action, CATALOG};
use super::ask::{Ask, PrincipalKind};
use super::text::{Named, PolicyText, shipped};

/// Answers that a slice keeps.
const MOST_KEPT: usize = 8_192;

/// What is decided also when the policies of a workspace cannot be read.
const MENDING: [&str; 2] = ["policy:read", "policy:write"];

/// What was decided, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Whether it may.
    pub allow: bool,
    /// The policies that made it so. None at all: nothing allows it.
    pub policies: Vec<Arc<str>>,
    /// What could not be evaluated. A policy that forbids, and cannot be evaluated, forbids.
    pub errors: Vec<String>,
}

impl Decision {
    fn refuse(error: String) -> Self {
        Self {
            allow: false,
            policies: Vec::new(),
            errors: vec![error],
        }
    }
}

/// What a refusal names that no policy made, but the scopes of an agent's token.
const BEYOND_TOKEN: &str = "default.token-within-its-scopes";

/// A policy, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    /// What decisions call it: `nobody-at-night@3`.
    pub(super) name: Arc<str>,
    pub(super) policy: Policy,
    pub(super) forbids: bool,
    /// Whether it looks at the circumstances.
    circumstances: bool,
    /// Whether it looks at more than what the audit log keeps: who, what, to what, and when.
    pub(super) beyond_log: bool,
    /// Attributes of the circumstances that it looks at; nothing: any.
    reads: Option<BTreeSet<String>>,
    /// Whether it is the workspace's own.
    own: bool,
    scope: Scope,
}

fn named_by(id: &PolicyId) -> Arc<str> {
    let id: &str = id.as_ref();
    id.into()
}

/// Which actions a policy is about.
#[derive(Debug, Clone)]
enum Scope {
    All,
    In(Vec<EntityUid>),
}

/// Attributes of the context that a policy's conditions name; `None` stands for the context as a whole.
fn named<'v>(value: &'v Value, found: &mut Vec<Option<&'v str>>) {
    match value {
        Value::Object(fields) => {
            let of_context = |it: &Value| it["left"]["Var"] == "context";
            for (operator, operand) in fields {
                match operator.as_str() {
                    "." | "has" if of_context(operand) => match operand["attr"].as_str() {
                        Some(attribute) => found.push(Some(attribute)),
                        None => found.push(None),
                    },
                    "Var" if operand == "context" => found.push(None),
                    _ => named(operand, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|it| named(it, found)),
        _ => {}
    }
}

/// Whether conditions look at an attribute of something or at its tags.
fn looks_at_things(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(operator, operand)| {
            let tags = matches!(operator.as_str(), "hasTag" | "getTag");
            let driver = operand["attr"] == "driver";
            tags || driver || looks_at_things(operand)
        }),
        Value::Array(values) => values.iter().any(looks_at_things),
        _ => false,
    }
}

impl Compiled {
    fn new(named_policy: &Named, version: Option<u64>, own: bool) -> Self {
        let Named { name, policy } = named_policy;
        let name = match version {
            Some(version) => format!("{name}@{version}"),
            None => name.clone(),
        };
        // What has no such form is taken to look at everything.
        let form = policy.to_json().ok();
        let conditions = form.as_ref().map(|it| &it["conditions"]);
        let mut context = Vec::new();
        match conditions {
            Some(conditions) => named(conditions, &mut context),
            None => context.push(None),
        }
        let beyond = |it: &Option<&str>| !matches!(it, Some("names" | "time"));
        Self {
            circumstances: context.iter().any(|it| *it != Some("names")),
            beyond_log: own
                && (context.iter().any(beyond) || conditions.is_none_or(looks_at_things)),
            scope: match policy.action_constraint() {
                ActionConstraint::Any => Scope::All,
                ActionConstraint::Eq(one) => Scope::In(vec![one]),
                ActionConstraint::In(some) => Scope::In(some),
            },
            reads: context.iter().map(|it| it.map(str::to_owned)).collect(),
            forbids: policy.effect() == Effect::Forbid,
            policy: policy.new_id(PolicyId::new(&name)),
            name: name.into(),
            own,
        }
    }

    pub(super) fn is_about(&self, action: &Action) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::In(some) => some.iter().any(|one| action.family.contains(one)),
        }
    }
}

static SHIPPED: LazyLock<Vec<Compiled>> = LazyLock::new(|| {
    let all = shipped();
    all.iter()
        .map(|it| Compiled::new(it, None, false))
        .collect()
});

/// The policies that one action is asked of.
struct Part {
    set: PolicySet,
    circumstances: bool,
    own: bool,
    /// The attributes of the circumstances that they look at; none when it may be any.
    reads: Option<BTreeSet<String>>,
}

/// What holds in one workspace.
pub struct Slice {
    own: Vec<Compiled>,
    /// By the action's place; made when first asked.
    parts: Vec<OnceLock<Part>>,
    kept: RwLock<HashMap<Box<[u8]>, Arc<Decision>>>,
    keeps: bool,
    /// Whether the workspace's policies could not be read.
    closed: bool,
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({} of its own)", self.own.len())
    }
}

impl Slice {
    /// Skep's policies alone.
    #[must_use]
    pub fn shipped() -> Self {
        Self::made(Vec::new())
    }

    /// Skep's policies and these; decisions tell this version of them.
    #[must_use]
    pub fn new(text: &PolicyText, version: Option<u64>) -> Self {
        let all = text.policies.iter();
        Self::made(all.map(|it| Compiled::new(it, version, true)).collect())
    }

    fn made(own: Vec<Compiled>) -> Self {
        let parts = CATALOG.actions.iter().map(|_| OnceLock::new()).collect();
        Self {
            own,
            parts,
            kept: RwLock::default(),
            keeps: true,
            closed: false,
        }
    }

    /// What holds when the policies of a workspace cannot be read: nobody may anything but mend that.
    pub(super) fn closed() -> Self {
        let mut slice = Self::shipped();
        slice.closed = true;
        slice
    }

    /// Keeps no answers: for measuring what a decision costs.
    #[must_use]
    pub fn forgetful(mut self) -> Self {
        self.keeps = false;
        self
    }

    /// All policies that are about an action.
    pub(super) fn about<'s>(&'s self, action: &'s Action) -> impl Iterator<Item = &'s Compiled> {
        let all = SHIPPED.iter().chain(&self.own);
        all.filter(|one| one.is_about(action))
    }

    fn part(&self, action: &Action) -> &Part {
        self.parts[action.index].get_or_init(|| {
            let mut set = PolicySet::new();
            for one in self.about(action) {
                // Names differ: that was checked, and versions keep them from Skep's own.
                let added = set.add(one.policy.clone());
                debug_assert!(added.is_ok(), "{}", one.name);
            }
            Part {
                set,
                circumstances: self.about(action).any(|one| one.circumstances),
                own: self.about(action).any(|one| one.own),
                reads: self.attributes(action),
            }
        })
    }

    /// Whether the workspace's own policies are about this action, so that what it is done to counts.
    #[must_use]
    pub fn has_own(&self, action: &str) -> bool {
        let found = CATALOG.actions.get(action);
        found.is_some_and(|action| self.part(action).own)
    }

    /// Whether a policy about this action looks at this attribute of the circumstances, so that it has to be known.
    #[must_use]
    pub fn reads(&self, action: &str, attribute: &str) -> bool {
        let Some(action) = CATALOG.actions.get(action) else {
            return false;
        };
        let reads = self.part(action).reads.as_ref();
        reads.is_none_or(|it| it.contains(attribute))
    }

    /// The attributes of the circumstances that policies about an action look at.
    fn attributes(&self, action: &Action) -> Option<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for one in self.about(action) {
            all.extend(one.reads.as_ref()?.iter().cloned());
        }
        Some(all)
    }

    /// Decides.
    #[must_use]
    pub fn decide(&self, ask: &Ask<'_>) -> Arc<Decision> {
        let Some(action) = CATALOG.actions.get(ask.action) else {
            let none = format!("there is no action `{}`", ask.action);
            return Arc::new(Decision::refuse(none));
        };
        if self.closed && !MENDING.contains(&ask.action) {
            let unreadable = "the policies of this workspace cannot be read".to_owned();
            return Arc::new(Decision::refuse(unreadable));
        }
        let who = ask.principal;
        // Narrowing a token never widens it, however narrow it is.
        let held = who.kind == PrincipalKind::Agent && !action.names.contains("self");
        if held && !who.scopes.reach(action, &ask.resource) {
            return Arc::new(Decision {
                allow: false,
                policies: vec![BEYOND_TOKEN.into()],
                errors: Vec::new(),
            });
        }
        let part = self.part(action);
        if part.circumstances || !self.keeps {
            return Arc::new(self.evaluate(ask, action, part));
        }
        let key = ask.key(action);
        if let Some(known) = self.kept.read().get(key.as_slice()) {
            return known.clone();
        }
        let decision = Arc::new(self.evaluate(ask, action, part));
        let mut kept = self.kept.write();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(key.into(), decision.clone());
        decision
    }

    fn evaluate(&self, ask: &Ask<'_>, action: &Action, part: &Part) -> Decision {
        let request = ask.request(action, part.circumstances);
        let asked = request.and_then(|request| Ok((request, ask.entities(action)?)));
        let (request, entities) = match asked {
            Ok(asked) => asked,
            Err(error) => return Decision::refuse(error),
        };
        let answer = Authorizer::new().is_authorized(&request, &part.set, &entities);
        let mut errors = Vec::new();
        let mut broken = Vec::new();
        for AuthorizationError::PolicyEvaluationError(error) in answer.diagnostics().errors() {
            let id = named_by(error.policy_id());
            let forbids = part.set.policy(error.policy_id());
            // Cedar leaves out what it cannot evaluate; what would have forbidden must not be left out.
            if forbids.is_none_or(|policy| policy.effect() == Effect::Forbid) {
                broken.push(id.clone());
            }
            errors.push(format!("{id}: {}", error.inner()));
        }
        let allow = answer.decision() == Cedar::Allow && broken.is_empty();
        let mut policies: Vec<Arc<str>> = match answer.decision() == Cedar::Allow && !allow {
            true => Vec::new(),
            false => answer.diagnostics().reason().map(named_by).collect(),
        };
        policies.extend(broken);
        policies.sort_unstable();
        policies.dedup();
        Decision {
            allow,
            policies,
            errors,
        }
    }
}
