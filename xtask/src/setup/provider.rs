//! The OpenID Connect provider that the tests log in at: packages of npm, in a folder of the user's cache, as the
//! lock in `tests/provider` has them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{has, root};

const FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Where the tests look for it too (`tests/src/provider.rs`).
fn folder() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("SKEP_TEST_PROVIDER") {
        return Ok(PathBuf::from(given));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = cache
        .or_else(home)
        .context("neither HOME nor XDG_CACHE_HOME is set")?;
    Ok(cache.join("skep-tests").join("provider"))
}

/// Installs it unless this very lock is installed.
pub(super) fn install() -> Result<()> {
    let (from, to) = (root().join("tests/provider"), folder()?);
    let same = |name: &str| {
        let of = |folder: &PathBuf| fs::read(folder.join(name)).ok();
        of(&from).is_some() && of(&from) == of(&to)
    };
    if FILES.iter().all(|name| same(name)) && to.join("node_modules/.package-lock.json").is_file() {
        return Ok(());
    }
    if !has("node") || !has("npm") {
        bail!(
            "the tests of logins at a provider need Node.js 20 with npm: install it and run again"
        );
    }
    println!("set-up: installing {}", to.display());
    fs::create_dir_all(&to)?;
    for name in FILES {
        fs::copy(from.join(name), to.join(name))?;
    }
    let status = Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
        ])
        .current_dir(&to)
        .status()
        .context("npm does not run")?;
    match status.success() {
        true => Ok(()),
        false => bail!("npm ci failed in {}", to.display()),
    }
}
