//! Benchmarks: whole processes, public tools, one machine, one run.

mod audit;
mod drive;
mod egress;
mod fleet;
mod gateways;
mod ingress;
mod machine;
mod sandbox;
mod scale;
mod secrets;
mod servers;
mod sizes;
mod store;
mod streams;
mod wake;

use anyhow::Result;

/// What is measured.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum What {
    /// The call door against nginx and against no proxy at all.
    Ingress(ingress::Options),
    /// Time to start, and memory: idle, with stopped agents, with running ones.
    Sizes(sizes::Options),
    /// Hundreds of processes and containers served at once, and what each costs.
    Fleet(fleet::Options),
    /// What a sandbox costs: at the start, and on the way in and out.
    Sandbox(sandbox::Options),
    /// Strict calls on SQLite and on PostgreSQL.
    Store(store::Options),
    /// Values revealed, alone and while all keys are replaced.
    Secrets(secrets::Options),
    /// The first call to an agent that sleeps.
    Wake(wake::Options),
    /// Entries of the audit log a second, and what it takes from calls.
    Audit(audit::Options),
    /// What a decision costs: 1,000 policies in 100 workspaces.
    Policies,
    /// What it costs to look whether a request is a try.
    Patterns,
    /// Opening and writing an agent.lock with 10 MB of memory.
    Lock,
    /// Requests to models: straight, and through LiteLLM, TensorZero and Skep.
    Egress(egress::Options),
    /// Thousands of runs that are followed as they come, and some that nobody reads.
    Streams(streams::Options),
    /// Copies, queue and latency over time while the load goes up and down.
    Scale(scale::Options),
}

/// Measures.
pub(crate) fn run(what: &What) -> Result<()> {
    match what {
        What::Ingress(options) => ingress::run(options),
        What::Sizes(options) => sizes::run(options),
        What::Fleet(options) => fleet::run(options),
        What::Sandbox(options) => sandbox::run(options),
        What::Store(options) => store::run(options),
        What::Policies => example("skep-guard", "decisions"),
        What::Patterns => example("skep-guard", "patterns"),
        What::Lock => example("skep-lock", "speed"),
        What::Audit(options) => audit::run(options),
        What::Secrets(options) => secrets::run(options),
        What::Wake(options) => wake::run(options),
        What::Egress(options) => egress::run(options),
        What::Streams(options) => streams::run(options),
        What::Scale(options) => scale::run(options),
    }
}

/// An example of a crate that measures a part of it alone.
fn example(package: &str, example: &str) -> Result<()> {
    let words = [
        "run",
        "--release",
        "--package",
        package,
        "--example",
        example,
    ];
    crate::shell::run("cargo", &words)
}
