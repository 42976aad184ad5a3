//! Benchmarks: whole processes, public tools, one machine, one run.

mod drive;
mod fleet;
mod ingress;
mod machine;
mod sandbox;
mod scale;
mod servers;
mod sizes;
mod store;
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
    /// The first call to an agent that sleeps.
    Wake(wake::Options),
    /// What a decision costs: 1,000 policies in 100 workspaces.
    Policies,
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
        What::Policies => crate::shell::run(
            "cargo",
            &[
                "run",
                "--release",
                "--package",
                "skep-guard",
                "--example",
                "decisions",
            ],
        ),
        What::Wake(options) => wake::run(options),
        What::Scale(options) => scale::run(options),
    }
}
