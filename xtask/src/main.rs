//! Developer tasks: set-up, test, tidy, generated documents, benchmarks, slow suites.
//!
//! `cargo xtask test` is what CI runs.

#![expect(clippy::print_stdout, reason = "tasks talk to who runs them")]

mod bench;
mod deps;
mod fuzz;
mod generate;
mod image;
mod setup;
mod shell;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

/// Tasks for who works on Skep.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what a task needs; what is there is left alone.
    SetUp {
        /// `test`, `bench` or `powercut`.
        #[arg(default_value = "test")]
        what: setup::Purpose,
    },
    /// Format, lints, rules of the house, documents, and every test. CI runs this.
    Test {
        /// Run the tests only: no format, lints, rules or documents.
        #[arg(long)]
        only_tests: bool,
    },
    /// The rules of the house: edges between crates, sizes, licences, advisories.
    Tidy,
    /// Write the generated documents anew (`--check`: fail when they differ).
    Generate {
        /// Write nothing.
        #[arg(long)]
        check: bool,
    },
    /// Write `advisories.toml` anew from a checkout of the RustSec database.
    Advisories {
        /// The checkout.
        database: std::path::PathBuf,
    },
    /// Benchmarks.
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
    /// The image of Skep itself, from nothing.
    Image(image::Options),
    /// The kill test with its oracle, for as long as is wanted.
    Kill {
        /// Seconds of killing.
        #[arg(default_value_t = 600)]
        seconds: u64,
    },
    /// Inputs that nobody thought of, for every parser of files that come from elsewhere.
    Fuzz {
        /// Seconds for each target.
        #[arg(default_value_t = 60)]
        seconds: u32,
        /// One of them alone.
        #[arg(long)]
        target: Option<String>,
    },
    /// Real power cuts: the data folder on a file system that loses what was not synced.
    Powercut {
        /// How often the power is cut.
        #[arg(default_value_t = 20)]
        rounds: u32,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::SetUp { what } => setup::install(what),
        Task::Test { only_tests } => test::run(only_tests),
        Task::Tidy => tidy::run(),
        Task::Generate { check } => generate::run(check),
        Task::Advisories { database } => deps::update(&database),
        Task::Bench { what } => bench::run(&what),
        Task::Image(options) => image::run(&options),
        Task::Kill { seconds } => test::kill(seconds),
        Task::Fuzz { seconds, target } => fuzz::run(seconds, target.as_deref()),
        Task::Powercut { rounds } => test::powercut(rounds),
    }
}
