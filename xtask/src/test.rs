//! `cargo xtask test`, and the slow suites that are run by hand.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::shell::{root, run as shell, run_with};
use crate::{fuzz, generate, tidy};

/// Seconds for each fuzz target in CI.
const FUZZ_SECONDS: u32 = 4;

/// Everything that CI runs, in the order that fails soonest.
pub(crate) fn run_all(only_tests: bool) -> Result<()> {
    setup::install(Purpose::Test)?;
    if !only_tests {
        shell("cargo", &["fmt", "--all", "--check"])?;
        shell(
            "cargo",
            &[
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        )?;
        tidy::run()?;
        generate::run(true)?;
        let strict = [("RUSTDOCFLAGS", "-D warnings")];
        run_with(
            "cargo",
            &[
                "doc",
                "--quiet",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ],
            &strict,
        )?;
    }
    // The end-to-end tests run the binary itself.
    shell("cargo", &["build", "--quiet", "--package", "skep"])?;
    shell("cargo", &["nextest", "run", "--workspace"])?;
    // What is left out of the program unless somebody asks for it keeps its contracts, too.
    shell(
        "cargo",
        &[
            "nextest",
            "run",
            "--package",
            "skep-sources",
            "--all-features",
        ],
    )?;
    // And what can be left out of it can be.
    let without = ["--package", "skep-keepers", "--no-default-features"];
    shell("cargo", &[&["nextest", "run"], &without[..]].concat())?;
    fuzz::run(FUZZ_SECONDS, None)
}

/// [`run_all`], with the time that it took.
pub(crate) fn run(only_tests: bool) -> Result<()> {
    let started = Instant::now();
    run_all(only_tests)?;
    println!("\neverything passed in {} s", started.elapsed().as_secs());
    Ok(())
}

/// The kill test, longer than CI has time for.
pub(crate) fn kill(seconds: u64) -> Result<()> {
    setup::install(Purpose::Test)?;
    shell("cargo", &["build", "--package", "skep"])?;
    run_with(
        "cargo",
        &[
            "nextest",
            "run",
            "--package",
            "skep-tests",
            "--no-capture",
            "-E",
            "test(kill::)",
        ],
        &[("SKEP_KILL_SECONDS", &seconds.to_string())],
    )
}

/// Power cuts on a real file system.
pub(crate) fn powercut(rounds: u32) -> Result<()> {
    setup::install(Purpose::Powercut)?;
    let target = root().join(generate::target());
    let given = std::env::var_os("SKEP_BIN").map(PathBuf::from);
    if given.is_none() {
        // The agent of the tests is a program of theirs.
        let both = ["--package", "skep", "--package", "skep-tests", "--bins"];
        shell("cargo", &[&["build", "--release"], &both[..]].concat())?;
    }
    let skep = given.unwrap_or_else(|| target.join("release/skep"));
    shell(
        "python3",
        &[
            // No compiled files beside the sources.
            "-B",
            root()
                .join("tests/powercut/run.py")
                .to_string_lossy()
                .as_ref(),
            &rounds.to_string(),
            "--skep",
            skep.to_string_lossy().as_ref(),
            "--work",
            target.join("powercut").to_string_lossy().as_ref(),
        ],
    )
}
