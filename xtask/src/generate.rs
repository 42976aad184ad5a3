//! Documents that are made from the code, committed, and compared in CI.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell;
use crate::shell::root;

/// File, and the arguments of the binary that print it.
const DOCUMENTS: [(&str, &[&str]); 5] = [
    ("docs/manifest.schema.json", &["__document", "manifest"]),
    ("docs/openapi.json", &["__document", "openapi"]),
    ("docs/policy.cedarschema", &["policy", "schema"]),
    ("docs/reference/config.md", &["__document", "config"]),
    ("docs/reference/cli.md", &["__document", "cli"]),
];

/// Writes the documents anew, or tells which differ.
pub(crate) fn run_with_binary(check: bool) -> Result<()> {
    let binary = root().join(target()).join("debug/skep");
    let mut stale = Vec::new();
    for (path, args) in DOCUMENTS {
        let output = Command::new(&binary)
            .args(args)
            .output()
            .context("the binary does not run")?;
        if !output.status.success() {
            bail!(
                "`skep {}` failed: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let file = root().join(path);
        if fs::read(&file).ok().as_deref() == Some(&output.stdout) {
            continue;
        }
        stale.push(path);
        if !check {
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&file, &output.stdout)?;
            println!("generate: wrote {path}");
        }
    }
    if check && !stale.is_empty() {
        bail!(
            "{} differ from the code: run `cargo xtask generate`",
            stale.join(", ")
        );
    }
    Ok(())
}

/// Where cargo builds to.
pub(crate) fn target() -> String {
    std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned())
}

/// Builds the binary and compares or writes.
pub(crate) fn run(check: bool) -> Result<()> {
    shell::run("cargo", &["build", "--quiet", "--package", "skep"])?;
    run_with_binary(check)
}
