//! What holds of every policy, and what a workspace's policies can and cannot do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use skep_core::{Timestamp, Workspace};
use skep_store::{By, Db, Options};
use tempfile::TempDir;

use super::service::Change;
use super::*;

fn principal(kind: PrincipalKind, role: Option<Role>, scopes: &[&str]) -> Principal {
    Principal {
        kind,
        id: "somebody".into(),
        workspace: Workspace::default(),
        role,
        scopes: match kind {
            PrincipalKind::Agent => Scopes::all(),
            _ => Scopes::new(scopes.iter().map(|it| (*it).to_owned())),
        },
    }
}

fn user(role: Role) -> Principal {
    principal(PrincipalKind::User, Some(role), &[])
}

fn noon() -> Circumstances<'static> {
    Circumstances::at("2026-01-05T12:00:00Z".parse().unwrap())
}

fn slice(text: &str) -> Slice {
    Slice::new(
        &validate(text).unwrap_or_else(|wrong| panic!("{wrong:?}")),
        None,
    )
}

fn decide(slice: &Slice, who: &Principal, action: &str, resource: Resource<'_>) -> Arc<Decision> {
    slice.decide(&Ask {
        principal: who,
        action,
        resource,
        circumstances: &noon(),
    })
}

/// Something of each kind that an action is done to.
fn things(action: &str) -> Vec<Resource<'static>> {
    let kinds = &actions()[action];
    let thing = |kind: &String| match kind.as_str() {
        "Workspace" => Resource::Workspace,
        "Agent" => Resource::Agent(Agent::named("a")),
        "Call" => Resource::Call {
            id: "call_1",
            agent: Some(Agent::named("a")),
        },
        "Secret" => Resource::Secret(Secret::unknown("s")),
        "Model" => Resource::Model("openai/gpt-4o"),
        "Tool" => Resource::Tool {
            name: "files/read_file",
            class: "read",
        },
        "Host" => Resource::Host("api.example.com:443"),
        "Server" => Resource::Server,
        other => panic!("{other}"),
    };
    kinds.iter().map(thing).collect()
}

fn everything() -> Vec<(String, Resource<'static>)> {
    let all = actions().into_keys();
    all.flat_map(|action| {
        let things = things(&action);
        things.into_iter().map(move |thing| (action.clone(), thing))
    })
    .collect()
}

fn allowed(slice: &Slice, who: &Principal) -> BTreeSet<String> {
    let all = everything().into_iter();
    let may = all.filter(|(action, thing)| decide(slice, who, action, *thing).allow);
    may.map(|(action, thing)| format!("{action} {}", thing.kind()))
        .collect()
}

#[test]
fn the_shipped_policies_are_valid_by_themselves() {
    // Their names are what a workspace may not use; all else must hold of them.
    let renamed = DEFAULT.replace("@id(\"default.", "@id(\"own-");
    let read = validate(&renamed).unwrap();
    assert_eq!(read.len(), 15);
}

#[test]
fn each_role_may_what_the_one_below_it_may_and_more() {
    let slice = Slice::shipped();
    let of: Vec<_> = Role::ALL
        .iter()
        .map(|role| allowed(&slice, &user(*role)))
        .collect();
    for pair in of.windows(2) {
        assert!(pair[0].is_subset(&pair[1]) && pair[0].len() < pair[1].len());
    }
    assert_eq!(of[3].len(), everything().len(), "an owner may all");
    for look in [
        "agent:list Workspace",
        "call:read Call",
        "server:read Server",
    ] {
        assert!(of[0].contains(look), "{look}");
    }
    assert!(!of[0].contains("agent:call Agent") && !of[0].contains("agent:logs Agent"));
    assert!(of[1].contains("agent:deploy Agent") && of[1].contains("agent:exec Agent"));
    assert!(!of[1].contains("policy:write Workspace") && !of[1].contains("agent:remove Agent"));
    assert!(
        of[2].contains("policy:write Workspace") && !of[2].contains("workspace:remove Workspace")
    );
    let nobody = principal(PrincipalKind::User, None, &[]);
    assert!(allowed(&slice, &nobody).is_empty());
}

#[test]
fn an_agent_asks_models_the_web_and_tools_that_read_and_never_administers() {
    let agent = principal(PrincipalKind::Agent, None, &[]);
    let own = [
        "model:score Workspace",
        "model:use Model",
        "prompt:use Workspace",
        "self:read Workspace",
        "self:token Workspace",
        "tool:use Tool",
        "web:request Host",
    ];
    let own = own.map(str::to_owned);
    assert_eq!(allowed(&Slice::shipped(), &agent), BTreeSet::from(own));
    for class in ["write", "execute", ""] {
        let name = "files/read_file";
        let tool = Resource::Tool { name, class };
        assert!(
            !decide(&Slice::shipped(), &agent, "tool:use", tool).allow,
            "{class}"
        );
    }
    let all = slice("permit (principal, action, resource);");
    for (action, thing) in everything() {
        let groups = groups_of(&action);
        let never = ["administer", "approve", "own", "reveal"];
        let never = never.iter().any(|group| groups.contains(*group));
        let decision = decide(&all, &agent, &action, thing);
        assert_eq!(decision.allow, !never, "{action}: {decision:?}");
    }
}

#[test]
fn the_server_is_administered_from_the_default_workspace_only() {
    let slice = Slice::shipped();
    for (workspace, may) in [("default", true), ("other", false)] {
        let mut owner = user(Role::Owner);
        owner.workspace = workspace.parse().unwrap();
        let fetch = decide(&slice, &owner, "backup:fetch", Resource::Server);
        assert_eq!(fetch.allow, may, "{workspace}");
        let metrics = decide(&slice, &owner, "server:read", Resource::Server);
        assert_eq!(metrics.allow, may, "{workspace}");
        assert!(decide(&slice, &owner, "audit:checkpoint", Resource::Server).allow);
    }
}

#[test]
fn an_agent_may_call_another_when_a_policy_says_so() {
    let slice = slice(
        "@id(\"planner-calls-workers\")
         permit (principal == Skep::Agent::\"planner\", action == Skep::Action::\"agent:call\", resource)
         when { resource.hasTag(\"tier\") && resource.getTag(\"tier\") == \"worker\" };",
    );
    let mut agent = principal(PrincipalKind::Agent, None, &[]);
    agent.id = "planner".into();
    let worker = BTreeMap::from([("tier".to_owned(), "worker".to_owned())]);
    let other = BTreeMap::from([("tier".to_owned(), "x".to_owned())]);
    let call = |who: &Principal, name, labels| {
        let agent = Agent {
            name,
            driver: Some("process"),
            labels,
        };
        decide(&slice, who, "agent:call", Resource::Agent(agent))
    };
    let may = call(&agent, "w", Some(&worker));
    assert!(may.allow);
    assert_eq!(may.policies, vec![Arc::from("planner-calls-workers")]);
    // Kept answers are told apart by all that counts.
    assert!(!call(&agent, "w", Some(&other)).allow);
    assert!(!call(&agent, "w", None).allow);
    // It may not call itself, and is one thing then.
    let itself = call(&agent, "planner", Some(&other));
    assert!(!itself.allow && itself.errors.is_empty(), "{itself:?}");
    agent.id = "stranger".into();
    assert!(!call(&agent, "w", Some(&worker)).allow);
}

#[test]
fn circumstances_count_and_are_not_kept() {
    let slice = slice(
        "@id(\"nobody-at-night\")
         forbid (principal, action == Skep::Action::\"agent:deploy\", resource)
         when { context.time.toTime() < duration(\"6h\") };
         @id(\"from-the-office\")
         forbid (principal, action == Skep::Action::\"agent:exec\", resource)
         unless { context has address && context.address.isInRange(ip(\"10.0.0.0/8\")) };
         @id(\"no-tmp\")
         forbid (principal, action == Skep::Action::\"agent:call\", resource)
         when { context has tool && context.tool.arguments.hasTag(\"path\")
           && context.tool.arguments.getTag(\"path\") like \"/tmp/*\" };",
    );
    let owner = user(Role::Owner);
    let ask = |action: &str, circumstances: &Circumstances<'_>| {
        slice.decide(&Ask {
            principal: &owner,
            action,
            resource: Resource::Agent(Agent::named("a")),
            circumstances,
        })
    };
    let night = Circumstances::at("2026-01-05T03:00:00.123456Z".parse().unwrap());
    assert!(ask("agent:deploy", &noon()).allow);
    assert_eq!(
        ask("agent:deploy", &night).policies,
        vec![Arc::from("nobody-at-night")]
    );
    assert!(ask("agent:deploy", &noon()).allow);
    for (address, may) in [
        (None, false),
        (Some("10.1.2.3"), true),
        (Some("::ffff:10.1.2.3"), true),
        (Some("192.0.2.1"), false),
        (Some("2001:db8::1"), false),
    ] {
        let mut from = noon();
        from.address = address.map(|it| it.parse().unwrap());
        let decision = ask("agent:exec", &from);
        assert_eq!(decision.allow, may, "{address:?} {decision:?}");
        assert!(decision.errors.is_empty(), "{decision:?}");
    }
    let arguments = BTreeMap::from([("path".to_owned(), "/tmp/x".to_owned())]);
    let mut with_tool = noon();
    with_tool.tool = Some(Tool {
        name: "read",
        arguments: &arguments,
    });
    assert!(!ask("agent:call", &with_tool).allow);
    assert!(ask("agent:call", &noon()).allow);
}

#[test]
fn what_is_sent_to_a_model_counts_and_is_looked_at_where_a_policy_wants_it() {
    let holds = slice(
        "@id(\"no-cards\")
         forbid (principal, action == Skep::Action::\"model:use\", resource)
         when { context has pii && context.pii.contains(\"card\") };
         @id(\"no-attacks\")
         forbid (principal, action in Skep::Action::\"use\", resource)
         when { context has injection && context.injection.score > 50 };",
    );
    let none = BTreeSet::new();
    let card = BTreeSet::from(["card".to_owned()]);
    let ask = |pii, injection| {
        let mut sent = noon();
        sent.sent.pii = pii;
        sent.sent.injection = injection;
        let decision = holds.decide(&Ask {
            principal: &user(Role::Owner),
            action: "model:use",
            resource: Resource::Model("openai/gpt"),
            circumstances: &sent,
        });
        assert!(decision.errors.is_empty(), "{decision:?}");
        decision.allow
    };
    assert!(ask(None, None) && ask(Some(&none), Some((50, &none))));
    assert!(!ask(Some(&card), None) && !ask(None, Some((51, &none))));
    for (action, attribute, reads) in [
        ("model:use", "pii", true),
        ("model:use", "injection", true),
        ("model:use", "secrets", false),
        ("agent:call", "pii", false),
        ("agent:call", "injection", true),
        ("agent:deploy", "injection", false),
        ("nothing", "pii", false),
    ] {
        assert_eq!(
            holds.reads(action, attribute),
            reads,
            "{action} {attribute}"
        );
    }
    let any = slice("permit (principal, action, resource) when { context == context };");
    assert!(any.reads("model:use", "secrets"));
}

#[test]
fn what_forbids_and_cannot_be_evaluated_forbids() {
    let text = "@id(\"overflows\")
        forbid (principal, action == Skep::Action::\"agent:call\", resource)
        when { context has risk && context.risk * 9223372036854775807 > 0 };
        @id(\"allows\")
        permit (principal is Skep::Agent, action == Skep::Action::\"agent:call\", resource)
        when { context has risk && context.risk * 9223372036854775807 > 0 };";
    let slice = slice(text);
    let mut risky = noon();
    risky.risk = Some(7);
    let agent = Resource::Agent(Agent::named("a"));
    for who in [
        user(Role::Owner),
        principal(PrincipalKind::Agent, None, &[]),
    ] {
        let decision = slice.decide(&Ask {
            principal: &who,
            action: "agent:call",
            resource: agent,
            circumstances: &risky,
        });
        assert!(!decision.allow);
        assert_eq!(decision.policies, vec![Arc::from("overflows")]);
        assert!(
            decision
                .errors
                .iter()
                .any(|it| it.starts_with("overflows: ")),
            "{decision:?}"
        );
    }
    assert!(decide(&slice, &user(Role::Owner), "agent:call", agent).allow);
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_to_write() {
    for (text, line, column, says) in [
        (
            "permit (principal, action, resource)",
            1,
            37,
            "unexpected end of input",
        ),
        (
            "// one\n  permit (principal, actoin, resource);",
            2,
            22,
            "actoin",
        ),
        (
            "permit (principal, action == Skep::Action::\"agent:cal\", resource);",
            1,
            30,
            "agent:call",
        ),
        (
            "permit (principal, action, resource)\nwhen { resource.nam == \"a\" };",
            2,
            8,
            "nam",
        ),
        (
            "permit (principal is Skep::Bee, action, resource);",
            1,
            22,
            "Bee",
        ),
        (
            "@id(\"default.x\")\npermit (principal, action, resource);",
            1,
            5,
            "default.x",
        ),
        (
            "@id(\"a b\")\npermit (principal, action, resource);",
            1,
            5,
            "a b",
        ),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
            2,
            5,
            "two policies",
        ),
    ] {
        let wrong = validate(text).expect_err(text);
        let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert!(all.iter().any(|it| it.contains(says)), "{text}: {all:?}");
        assert!(
            wrong
                .iter()
                .any(|it| it.line == Some(line) && it.column == Some(column)),
            "{text}: {line}:{column} is not in {wrong:?}"
        );
    }
}

#[test]
fn what_is_too_much_or_no_policy_is_refused() {
    let many = "permit (principal, action, resource);".repeat(MOST_POLICIES + 1);
    assert!(
        validate(&many).unwrap_err()[0]
            .what
            .contains("501 policies")
    );
    assert!(
        validate(&" ".repeat(MOST_TEXT + 1)).unwrap_err()[0]
            .what
            .contains("256 KiB")
    );
    let template = "permit (principal == ?principal, action, resource);";
    assert!(
        validate(template).unwrap_err()[0]
            .what
            .contains("templates")
    );
    // Deep nesting is refused, not a crash.
    let deep = format!(
        "permit (principal, action, resource) when {{ {}true }};",
        "!(".repeat(20_000)
    );
    assert!(validate(&deep).is_err());
    assert!(validate("").unwrap().is_empty());
}

#[test]
fn what_decided_and_what_came_near_is_told() {
    let slice = slice(
        "@id(\"red-only\") permit (principal is Skep::Agent, action == Skep::Action::\"agent:call\", resource)
           when { resource.hasTag(\"team\") && resource.getTag(\"team\") == \"red\" };
         @id(\"not-this-one\") permit (principal == Skep::Agent::\"x\", action, resource);
         @id(\"never\") forbid (principal, action, resource == Skep::Agent::\"closed\");",
    );
    let agent = principal(PrincipalKind::Agent, None, &[]);
    let told = |who: &Principal, name| {
        explain(
            &slice,
            &Ask {
                principal: who,
                action: "agent:call",
                resource: Resource::Agent(Agent::named(name)),
                circumstances: &noon(),
            },
        )
    };
    let denied = told(&agent, "a");
    assert!(!denied.decision.allow && denied.decision.policies.is_empty());
    let near: Vec<_> = denied
        .near
        .iter()
        .map(|it| (&*it.policy, it.forbids))
        .collect();
    assert_eq!(near, [("red-only", false)]);
    let closed = told(&user(Role::Owner), "closed");
    assert_eq!(closed.decision.policies, vec![Arc::from("never")]);
    let overruled = closed
        .near
        .iter()
        .find(|it| &*it.policy == "default.owner-may-all");
    assert!(
        overruled.is_some_and(|it| it.why.contains("forbids wins")),
        "{closed:?}"
    );
}

#[test]
fn a_suite_says_what_differs() {
    let suite: Suite = serde_json::from_str(
        r#"{ "cases": [
            { "name": "works", "principal": { "kind": "User", "id": "u", "role": "member" },
              "action": "agent:call", "resource": { "kind": "Agent", "id": "a" }, "expect": "allow",
              "by": ["default.member-works"] },
            { "name": "wrong", "principal": { "kind": "User", "id": "u", "role": "viewer" },
              "action": "agent:call", "resource": { "kind": "Agent", "id": "a" }, "expect": "allow" },
            { "name": "by another", "principal": { "kind": "User", "id": "u", "role": "viewer" },
              "action": "agent:list", "expect": "allow", "by": ["x"] },
            { "principal": { "kind": "User", "id": "u", "role": "boss" },
              "action": "agent:list", "expect": "deny" },
            { "principal": { "kind": "User", "id": "u", "role": "owner" },
              "action": "agent:list", "resource": { "kind": "Server" }, "expect": "allow" },
            { "principal": { "kind": "ApiKey", "id": "u", "role": "owner", "scopes": ["raed"] },
              "action": "agent:list", "expect": "deny" }
        ] }"#,
    )
    .unwrap();
    let outcomes = suite.run(&Slice::shipped(), &Workspace::default()).unwrap();
    let wrong: Vec<_> = outcomes
        .iter()
        .map(|it| it.wrong.as_deref().unwrap_or(""))
        .collect();
    assert_eq!(
        wrong,
        [
            "",
            "expected allow, and it is deny (nothing allows it)",
            "expected by x, and it is by default.viewer-reads",
            "`boss` is no role: there are viewer, member, admin, owner",
            "`agent:list` is done to Workspace, not to Server",
            "`raed` is no scope: use `*`, a group or an action",
        ]
    );
    assert!(
        Suite { cases: Vec::new() }
            .run(&Slice::shipped(), &Workspace::default())
            .is_err()
    );
}

#[test]
fn the_past_is_asked_again() {
    let past = |action: &str, kind: &str, id: &str, agent: Option<&str>, times| Past {
        time: "2026-01-05T03:00:00Z".parse().unwrap(),
        principal: Some(user(Role::Owner)),
        action: action.to_owned(),
        kind: kind.to_owned(),
        id: id.to_owned(),
        agent: agent.map(str::to_owned),
        allowed: true,
        times,
    };
    let mut own = past("call:end", "Call", "call_1", Some("a"), 1);
    own.principal = None;
    let all = [
        past("agent:call", "Call", "call_1", Some("a"), 1),
        past("agent:call", "Call", "call_2", Some("a"), 3),
        past("agent:call", "Call", "call_3", Some("b"), 1),
        past("agent:deploy", "Agent", "b", None, 1),
        own,
    ];
    let new = slice(
        "@id(\"not-a\") forbid (principal, action == Skep::Action::\"agent:call\", resource == Skep::Agent::\"a\");
         @id(\"night\") forbid (principal, action == Skep::Action::\"agent:deploy\", resource)
           when { context.time.toTime() < duration(\"6h\") };
         @id(\"office\") forbid (principal, action == Skep::Action::\"agent:call\", resource)
           when { context has address && !context.address.isLoopback() };",
    );
    let simulation = simulate(&new, &all);
    assert_eq!(
        (simulation.asked, simulation.skipped, simulation.more),
        (6, 1, 0)
    );
    let differs: Vec<_> = simulation
        .differs
        .iter()
        .map(|it| {
            (
                it.action.as_str(),
                it.resource.1.as_str(),
                it.times,
                it.allow,
                it.policies.join(","),
            )
        })
        .collect();
    assert_eq!(
        differs,
        [
            ("agent:call", "a", 4, false, "not-a".to_owned()),
            ("agent:deploy", "b", 1, false, "night".to_owned()),
        ]
    );
    assert_eq!(simulation.guessed, BTreeSet::from(["office".to_owned()]));
}

fn any_role() -> impl Strategy<Value = Role> {
    proptest::sample::select(Role::ALL)
}

fn any_kind() -> impl Strategy<Value = PrincipalKind> {
    proptest::sample::select(PrincipalKind::ALL)
}

fn any_scopes() -> impl Strategy<Value = Vec<String>> {
    let names: BTreeSet<String> = actions()
        .into_keys()
        .flat_map(|it| groups_of(&it))
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    proptest::collection::vec(proptest::sample::select(names), 0..4)
}

/// A policy of some effect about some actions.
fn any_policy() -> impl Strategy<Value = String> {
    let scope = proptest::sample::select(vec![
        "action",
        "action in Skep::Action::\"read\"",
        "action in [Skep::Action::\"use\", Skep::Action::\"administer\"]",
        "action == Skep::Action::\"agent:call\"",
    ]);
    let condition = proptest::sample::select(vec![
        "",
        "when { principal is Skep::ApiKey }",
        "unless { context has address }",
        "when { context.time < datetime(\"2026-06-01\") }",
    ]);
    let effect = proptest::sample::select(vec!["permit", "forbid"]);
    (effect, scope, condition).prop_map(|(effect, scope, rest)| {
        format!("{effect} (principal, {scope}, resource) {rest};\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Scopes take away and never give; a wider set never takes.
    #[test]
    fn scopes_never_widen_a_role(role in any_role(), scopes in any_scopes(), more in any_scopes()) {
        let slice = Slice::shipped();
        let key = |scopes: &[String]| {
            let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
            allowed(&slice, &principal(PrincipalKind::ApiKey, Some(role), &names))
        };
        let (few, many) = (key(&scopes), key(&[scopes.clone(), more].concat()));
        let all = allowed(&slice, &user(role));
        prop_assert!(few.is_subset(&many) && many.is_subset(&all));
        prop_assert_eq!(key(&["*".to_owned()]), all);
        // Who one is stays to be seen.
        prop_assert!(key(&[]).iter().all(|it| it.starts_with("self:")));
    }

    /// A policy that forbids takes away whatever else there is; one that permits never does.
    #[test]
    fn forbid_wins(
        policies in proptest::collection::vec(any_policy(), 0..6),
        role in any_role(),
        kind in any_kind(),
    ) {
        let role = (kind != PrincipalKind::Agent).then_some(role);
        let who = principal(kind, role, &["*"]);
        let text: String = policies.concat();
        let before = allowed(&slice(&text), &who);
        let forbids = format!("{text}\nforbid (principal, action in Skep::Action::\"use\", resource);");
        let after = allowed(&slice(&forbids), &who);
        let taken: BTreeSet<String> = before
            .iter()
            .filter(|it| !groups_of(it.split(' ').next().unwrap()).contains("use"))
            .cloned()
            .collect();
        prop_assert_eq!(after, taken);
        let permits = format!("{text}\npermit (principal, action, resource);");
        prop_assert!(before.is_subset(&allowed(&slice(&permits), &who)));
    }

    /// Kept answers are the ones that were given.
    #[test]
    fn what_is_kept_is_what_is_decided(
        policies in proptest::collection::vec(any_policy(), 0..4),
        asks in proptest::collection::vec((any_role(), any_kind(), any_scopes(), 0..60_usize), 1..60),
    ) {
        let text: String = policies.concat();
        let (keeping, forgetful) = (slice(&text), slice(&text).forgetful());
        let all = everything();
        for (role, kind, scopes, at) in asks {
            let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
            let role = (kind != PrincipalKind::Agent).then_some(role);
            let who = principal(kind, role, &names);
            let (action, thing) = &all[at % all.len()];
            let kept = decide(&keeping, &who, action, *thing);
            prop_assert_eq!(&kept, &decide(&forgetful, &who, action, *thing));
            prop_assert_eq!(&kept, &decide(&keeping, &who, action, *thing));
        }
    }
}

fn open(folder: &TempDir) -> Db {
    Db::open(Options::new(folder.path()), &[MIGRATIONS]).unwrap()
}

const FIRST: &str =
    "@id(\"one\") forbid (principal, action == Skep::Action::\"agent:exec\", resource);";
const SECOND: &str =
    "@id(\"two\") forbid (principal, action == Skep::Action::\"agent:stop\", resource);";

#[tokio::test]
async fn versions_are_set_rolled_back_and_seen_by_another_server() {
    let folder = TempDir::new().unwrap();
    let db = open(&folder);
    // Two services over one store are two servers.
    let (one, other) = (Policies::new(db.clone()), Policies::new(db.clone()));
    let owner = user(Role::Owner);
    let owners = [owner.clone()];
    let circumstances = noon();
    let by = By::nobody();
    let change = |expected| Change {
        by: &by,
        principal: &owner,
        expected,
        owners: &owners,
        circumstances: &circumstances,
    };
    let workspace = Workspace::default();
    let exec = async |policies: &Policies| {
        let slice = policies.slice(&workspace).await.unwrap();
        decide(
            &slice,
            &owner,
            "agent:exec",
            Resource::Agent(Agent::named("a")),
        )
    };
    assert!(exec(&other).await.allow);
    assert_eq!(
        one.set(&change(Some(0)), FIRST.to_owned()).await.unwrap(),
        1
    );
    assert_eq!(exec(&one).await.policies, vec![Arc::from("one@1")]);
    assert!(exec(&other).await.allow, "until it looks");
    other.refresh().await.unwrap();
    assert_eq!(exec(&other).await.policies, vec![Arc::from("one@1")]);
    // The same text is the same version; who missed a change is told.
    assert_eq!(
        one.set(&change(Some(1)), FIRST.to_owned()).await.unwrap(),
        1
    );
    let late = other.set(&change(Some(0)), SECOND.to_owned()).await;
    assert!(
        matches!(
            late,
            Err(PolicyError::Conflict {
                expected: 0,
                current: 1
            })
        ),
        "{late:?}"
    );
    assert_eq!(
        other.set(&change(None), SECOND.to_owned()).await.unwrap(),
        2
    );
    assert!(exec(&other).await.allow);
    one.refresh().await.unwrap();
    assert!(exec(&one).await.allow);
    one.roll_back(&change(Some(2)), 1).await.unwrap();
    assert!(!exec(&one).await.allow);
    other.refresh().await.unwrap();
    assert!(!exec(&other).await.allow);
    let gone = one.roll_back(&change(None), 7).await;
    assert!(matches!(gone, Err(PolicyError::NoVersion(7))), "{gone:?}");
    db.close().await;
}

#[tokio::test]
async fn versions_stay_and_are_one_workspaces() {
    let folder = TempDir::new().unwrap();
    let db = open(&folder);
    let one = Policies::new(db.clone());
    let owner = user(Role::Owner);
    let change = Change {
        by: &By::nobody(),
        principal: &owner,
        expected: None,
        owners: std::slice::from_ref(&owner),
        circumstances: &noon(),
    };
    for text in [FIRST, SECOND] {
        one.set(&change, text.to_owned()).await.unwrap();
    }
    one.roll_back(&change, 1).await.unwrap();
    let workspace = Workspace::default();
    let versions = one.versions(&workspace, None, 10).await.unwrap();
    assert_eq!(
        versions.iter().map(|it| it.number).collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(versions[1].hash, skep_store::Hash::of(FIRST.as_bytes()));
    assert_eq!(one.current(&workspace).await.unwrap().unwrap().text, FIRST);
    // Another workspace has nothing of it.
    let elsewhere: Workspace = "other".parse().unwrap();
    assert!(one.current(&elsewhere).await.unwrap().is_none());
    assert_eq!(
        Policies::reset(&db, By::nobody(), &workspace)
            .await
            .unwrap(),
        1
    );
    one.refresh().await.unwrap();
    let slice = one.slice(&workspace).await.unwrap();
    assert!(!slice.has_own("agent:exec"));
    db.close().await;
    let db = open(&folder);
    assert_eq!(
        Policies::new(db.clone())
            .versions(&workspace, None, 10)
            .await
            .unwrap(),
        versions
    );
    db.close().await;
}

#[tokio::test]
async fn nobody_locks_the_last_owner_out() {
    let folder = TempDir::new().unwrap();
    let db = open(&folder);
    let policies = Policies::new(db.clone());
    let owner = user(Role::Owner);
    let mut second = owner.clone();
    second.id = "second".into();
    let by = By::nobody();
    let circumstances = noon();
    let set = async |owners: &[Principal], text: &str| {
        let change = Change {
            by: &by,
            principal: &owner,
            expected: None,
            owners,
            circumstances: &circumstances,
        };
        policies.set(&change, text.to_owned()).await
    };
    let both = [owner.clone(), second.clone()];
    for text in [
        "@id(\"all\") forbid (principal, action, resource);",
        "@id(\"all\") forbid (principal in Skep::Role::\"owner\", action == Skep::Action::\"policy:write\", resource);",
        "@id(\"all\") forbid (principal, action, resource) unless { context has address };",
    ] {
        let refused = set(&both, text).await;
        assert!(
            matches!(&refused, Err(PolicyError::LocksOut(by)) if by == &["all"]),
            "{refused:?}"
        );
    }
    // One of two owners may be kept out, the last one not.
    let this = "forbid (principal == Skep::User::\"somebody\", action, resource);";
    assert!(matches!(
        set(&both[..1], this).await,
        Err(PolicyError::LocksOut(_))
    ));
    assert_eq!(set(&both, this).await.unwrap(), 1);
    let nobody = set(&[], "").await;
    assert!(matches!(nobody, Err(PolicyError::LocksOut(_))));
    db.close().await;
}

#[test]
fn times_are_what_a_datetime_is_made_of() {
    // Any moment that the clock gives makes a question that can be asked.
    let slice = slice(
        "forbid (principal, action, resource) when { context.time < datetime(\"1970-01-01\") };",
    );
    for micros in [
        0,
        1,
        999,
        1_000,
        1_767_614_400_123_456,
        253_402_207_200_000_000,
    ] {
        let circumstances = Circumstances::at(Timestamp::from_micros(micros));
        let decision = slice.decide(&Ask {
            principal: &user(Role::Owner),
            action: "agent:list",
            resource: Resource::Workspace,
            circumstances: &circumstances,
        });
        assert!(
            decision.allow && decision.errors.is_empty(),
            "{micros}: {decision:?}"
        );
    }
}
