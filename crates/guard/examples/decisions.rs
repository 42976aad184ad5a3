//! What a decision costs: 1,000 policies in 100 workspaces, asked with and without kept answers.
//!
//! `cargo run --release -p skep-guard --example decisions`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use skep_core::{Timestamp, Workspace};
use skep_guard::policy::{Agent, Ask, Circumstances, Slice, validate};
use skep_guard::{Principal, PrincipalKind, Resource, Role, Scopes};

const WORKSPACES: usize = 100;
/// Policies of each workspace, all about calls: the worst case for an action.
const POLICIES: usize = 10;
const ASKS: usize = 200_000;
/// Agents that are called in each workspace.
const AGENTS: usize = 8;

/// Policies as people write them: some look at the circumstances, some only at who and what.
fn text(circumstances: bool) -> String {
    let policy = |at: usize| match at % 3 {
        0 => format!(
            "@id(\"p{at}\") forbid (principal, action == Skep::Action::\"agent:call\", resource) \
             when {{ resource.hasTag(\"tier\") && resource.getTag(\"tier\") == \"t{at}\" }};\n"
        ),
        1 if circumstances => format!(
            "@id(\"p{at}\") forbid (principal, action in Skep::Action::\"use\", resource) when {{ \
             context has address && context.address.isInRange(ip(\"203.0.{at}.0/24\")) || \
             context.time < datetime(\"2020-01-0{}\") }};\n",
            at % 9 + 1
        ),
        _ => format!(
            "@id(\"p{at}\") permit (principal == Skep::Agent::\"planner-{at}\", \
             action == Skep::Action::\"agent:call\", resource in Skep::Agent::\"worker-{at}\");\n"
        ),
    };
    (0..POLICIES).map(policy).collect()
}

fn principal() -> Principal {
    Principal {
        kind: PrincipalKind::ApiKey,
        id: "benchmark".into(),
        workspace: Workspace::default(),
        role: Some(Role::Member),
        scopes: Scopes::new(["use".to_owned(), "read".to_owned()]),
    }
}

fn slices(circumstances: bool, keeps: bool) -> Vec<Slice> {
    let text = text(circumstances);
    let slice = |_| match validate(&text) {
        Ok(policies) if keeps => Slice::new(&policies, Some(1)),
        Ok(policies) => Slice::new(&policies, Some(1)).forgetful(),
        Err(wrong) => panic!("{wrong:?}"),
    };
    (0..WORKSPACES).map(slice).collect()
}

fn measure(name: &str, slices: &[Slice]) {
    let who = principal();
    let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let agents: Vec<String> = (0..AGENTS).map(|at| format!("agent-{at}")).collect();
    let mut took = Vec::with_capacity(ASKS);
    let started = Instant::now();
    for at in 0..ASKS {
        let circumstances = Circumstances {
            address: "192.0.2.7".parse().ok(),
            method: Some("POST"),
            path: Some("/agents/agent-1/invoke"),
            ..Circumstances::at(Timestamp::system_now())
        };
        let begun = Instant::now();
        let decision = slices[at % slices.len()].decide(&Ask {
            principal: &who,
            action: "agent:call",
            resource: Resource::Agent(Agent {
                name: &agents[at / slices.len() % AGENTS],
                driver: Some("process"),
                labels: Some(&labels),
            }),
            circumstances: &circumstances,
        });
        assert!(black_box(decision).allow);
        took.push(begun.elapsed());
    }
    let whole = started.elapsed();
    took.sort_unstable();
    let micros = |at: Duration| at.as_nanos() as f64 / 1_000.0;
    let at = |part: f64| micros(took[((ASKS - 1) as f64 * part) as usize]);
    #[expect(clippy::print_stdout, reason = "it is what this program is for")]
    {
        println!(
            "{name:42} mean {:6.2} µs  p50 {:6.2} µs  p99 {:6.2} µs  max {:8.2} µs",
            micros(whole) / ASKS as f64,
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}

fn main() {
    measure(
        "Skep's policies alone, nothing kept",
        &[Slice::shipped().forgetful()],
    );
    measure("Skep's policies alone", &[Slice::shipped()]);
    measure("1,000 policies, nothing kept", &slices(false, false));
    measure("1,000 policies", &slices(false, true));
    measure(
        "1,000 policies that look at circumstances",
        &slices(true, true),
    );
}
