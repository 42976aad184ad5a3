//! `cargo xtask fuzz`: the targets of `fuzz/`, with libFuzzer and without its sanitizers, on the compiler that
//! everything else is built with. `cargo +nightly fuzz run TARGET` runs the same ones with AddressSanitizer.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::generate;
use crate::shell::{output, root, run as shell, run_with};

const TARGETS: [&str; 10] = [
    "lock",
    "sealed",
    "exchange",
    "scan",
    "hooks",
    "references",
    "templates",
    "dialects",
    "mcp",
    "protocols",
];
/// What makes a program tell libFuzzer where it has been (rustc's SanitizerCoverage pass).
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Bytes of an input.
const MOST: u32 = 16 << 10;

/// Runs the targets, each for so long. What is found lies in `fuzz/artifacts`.
pub(crate) fn run(seconds: u32, target: Option<&str>) -> Result<()> {
    let targets: Vec<&str> = TARGETS
        .into_iter()
        .filter(|it| target.is_none_or(|wanted| wanted == *it))
        .collect();
    ensure!(
        !targets.is_empty(),
        "the targets are {}",
        TARGETS.join(", ")
    );
    let host = output("rustc", &["--print", "host-tuple"])?;
    let (host, folder) = (host.trim(), root().join("fuzz"));
    let built = root().join(generate::target()).join("fuzz");
    let built_text = built.to_str().context("a path that is no text")?;
    let manifest = folder.join("Cargo.toml");
    let mut build = vec!["build", "--quiet", "--release", "--locked"];
    let manifest = manifest.to_str().context("a path that is no text")?;
    build.extend(["--manifest-path", manifest, "--target", host]);
    build.extend(["--target-dir", built_text]);
    for target in &targets {
        build.extend(["--bin", target]);
    }
    run_with("cargo", &build, &[("RUSTFLAGS", FLAGS)])?;
    for target in targets {
        let corpus = built.join("corpus").join(target);
        let found = folder.join("artifacts").join(target);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&found)?;
        let program = built.join(host).join("release").join(target);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut words = vec![text(&corpus)];
        let seeds = folder.join("seeds").join(target);
        words.extend(seeds.is_dir().then(|| text(&seeds)));
        words.extend([
            format!("-max_total_time={seconds}"),
            format!("-max_len={MOST}"),
            format!("-artifact_prefix={}/", found.display()),
            "-verbosity=0".to_owned(),
            "-print_final_stats=1".to_owned(),
            "-timeout=10".to_owned(),
        ]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        println!("fuzz: {target}, {seconds} s");
        shell(&text(&program), &words)?;
    }
    Ok(())
}
