//! Benchmarks: whole processes, public tools, one machine, one run.

mod ingress;
mod machine;
mod servers;
mod sizes;

use anyhow::Result;

/// What is measured.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum What {
    /// The call door against nginx and against no proxy at all.
    Ingress(ingress::Options),
    /// Time to start, and memory: idle, with stopped agents, with running ones.
    Sizes(sizes::Options),
}

/// Measures.
pub(crate) fn run(what: &What) -> Result<()> {
    match what {
        What::Ingress(options) => ingress::run(options),
        What::Sizes(options) => sizes::run(options),
    }
}
