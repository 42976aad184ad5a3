//! The rules of the house, as checks: edges between crates, sizes of files, headers of modules,
//! pages and names that must exist, licences and advisories of dependencies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::deps;
use crate::shell::{output, root};

/// Lines that a source file may have.
const MOST_LINES: usize = 800;
/// Lines that a test file may have.
const MOST_TEST_LINES: usize = 1500;
/// Packages that Cargo.lock may have. Raise it with a reason in ARCHITECTURE.md.
const MOST_PACKAGES: usize = 485;

/// What each crate may use of the others: arrows point down only.
const EDGES: [(&str, &[&str]); 29] = [
    ("skep-core", &[]),
    ("skep-api", &["skep-core"]),
    ("skep-store", &["skep-core"]),
    ("skep-runtime", &["skep-api", "skep-core", "skep-store"]),
    (
        "skep-runtime-docker",
        &["skep-api", "skep-core", "skep-runtime"],
    ),
    ("skep-ingress", &["skep-api", "skep-core", "skep-store"]),
    (
        "skep-egress",
        &[
            "skep-core",
            "skep-crypto",
            "skep-dialects",
            "skep-mcp",
            "skep-scan",
            "skep-sources",
            "skep-store",
        ],
    ),
    ("skep-crypto", &[]),
    ("skep-lock", &["skep-crypto"]),
    ("skep-exchange", &["skep-crypto"]),
    ("skep-templates", &["skep-core", "skep-crypto"]),
    ("skep-scan", &[]),
    ("skep-dialects", &[]),
    ("skep-mcp", &["skep-crypto"]),
    ("skep-protocols", &[]),
    (
        "skep-runs",
        &["skep-api", "skep-core", "skep-protocols", "skep-store"],
    ),
    ("skep-sources", &["skep-core", "skep-exchange"]),
    ("skep-vault", &["skep-core", "skep-crypto", "skep-store"]),
    (
        "skep-keepers",
        &["skep-crypto", "skep-sources", "skep-vault"],
    ),
    ("skep-audit", &["skep-core", "skep-store"]),
    ("skep-guard", &["skep-core", "skep-store", "skep-crypto"]),
    ("skep-compliance", &["skep-core"]),
    ("skep-backup", &["skep-core", "skep-store", "skep-crypto"]),
    ("skep-backup-s3", &["skep-backup"]),
    ("skep-client", &["skep-api", "skep-core"]),
    (
        "skep-server",
        &[
            "skep-api",
            "skep-audit",
            "skep-backup",
            "skep-backup-s3",
            "skep-compliance",
            "skep-core",
            "skep-egress",
            "skep-guard",
            "skep-ingress",
            "skep-keepers",
            "skep-protocols",
            "skep-runs",
            "skep-mcp",
            "skep-runtime",
            "skep-runtime-docker",
            "skep-store",
            "skep-crypto",
            "skep-sources",
            "skep-vault",
        ],
    ),
    (
        "skep",
        &[
            "skep-api",
            "skep-audit",
            "skep-backup",
            "skep-backup-s3",
            "skep-client",
            "skep-core",
            "skep-guard",
            "skep-ingress",
            "skep-keepers",
            "skep-runtime",
            "skep-runtime-docker",
            "skep-server",
            "skep-store",
            "skep-crypto",
            "skep-exchange",
            "skep-lock",
            "skep-scan",
            "skep-sources",
            "skep-templates",
            "skep-vault",
        ],
    ),
    (
        "skep-tests",
        &[
            "skep-api",
            "skep-audit",
            "skep-client",
            "skep-core",
            "skep-store",
        ],
    ),
    ("xtask", &[]),
];

/// Runs every check and tells all that fails.
pub(crate) fn run() -> Result<()> {
    let mut wrong = Vec::new();
    let metadata: serde_json::Value = serde_json::from_str(&output(
        "cargo",
        &["metadata", "--format-version", "1", "--locked"],
    )?)?;
    edges(&metadata, &mut wrong);
    files(&mut wrong)?;
    architecture(&mut wrong)?;
    deps::check(&metadata, &mut wrong)?;
    let locked = fs::read_to_string(root().join("Cargo.lock"))?
        .matches("[[package]]")
        .count();
    if locked > MOST_PACKAGES {
        wrong.push(format!(
            "Cargo.lock has {locked} packages, over {MOST_PACKAGES}"
        ));
    }
    if wrong.is_empty() {
        println!(
            "tidy: {locked} packages; edges, sizes, modules, licences and advisories are in order"
        );
        return Ok(());
    }
    for line in &wrong {
        println!("tidy: {line}");
    }
    bail!("{} rules of the house are broken", wrong.len())
}

fn members(metadata: &serde_json::Value) -> BTreeMap<String, Vec<String>> {
    let ids: Vec<&str> = metadata["workspace_members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_str())
        .collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let ours =
        packages.filter(|package| package["id"].as_str().is_some_and(|id| ids.contains(&id)));
    ours.map(|package| {
        let uses = package["dependencies"].as_array().into_iter().flatten();
        let uses = uses.filter(|dependency| !dependency["path"].is_null());
        let names = uses.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned));
        (
            package["name"].as_str().unwrap_or_default().to_owned(),
            names.collect(),
        )
    })
    .collect()
}

fn edges(metadata: &serde_json::Value, wrong: &mut Vec<String>) {
    for (name, uses) in members(metadata) {
        let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == name) else {
            wrong.push(format!("{name} has no line in the allowed edges"));
            continue;
        };
        for used in uses.iter().filter(|used| !allowed.contains(&used.as_str())) {
            wrong.push(format!("{name} must not use {used}"));
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn files(wrong: &mut Vec<String>) -> Result<()> {
    let mut found = Vec::new();
    for folder in ["crates", "xtask/src", "tests"] {
        sources(&root().join(folder), &mut found)?;
    }
    for path in found {
        let text = fs::read_to_string(&path)?;
        let shown = path
            .strip_prefix(root())
            .unwrap_or(&path)
            .display()
            .to_string();
        let is_test =
            shown.contains("/tests/") || shown.contains("tests.rs") || shown.starts_with("tests/");
        let most = if is_test { MOST_TEST_LINES } else { MOST_LINES };
        let lines = text.lines().count();
        if lines > most {
            wrong.push(format!("{shown} has {lines} lines, over {most}"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!(
                "{shown} does not begin with what lives in it (`//!`)"
            ));
        }
        for word in ["TODO", "FIXME", "XXX"] {
            let own = shown == "xtask/src/tidy.rs";
            if !own && text.contains(word) {
                wrong.push(format!("{shown} has a {word}"));
            }
        }
    }
    Ok(())
}

fn architecture(wrong: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    for (name, _) in EDGES {
        let short = name.strip_prefix("skep-").unwrap_or(name);
        if !text.contains(&format!("`{short}`")) && !text.contains(&format!("crates/{short}")) {
            wrong.push(format!("ARCHITECTURE.md does not name {name}"));
        }
    }
    Ok(())
}
