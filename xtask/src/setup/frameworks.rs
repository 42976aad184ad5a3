//! The packages of the templates that run on a framework, each in a folder of the user's cache, as the template's own
//! file of packages has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{has, root};

/// A template, its file of packages, and what is made of it.
const FRAMEWORKS: [(&str, &str, &str); 3] = [
    ("langgraph", "requirements.txt", ".venv/bin/python"),
    ("openai-agents", "requirements.txt", ".venv/bin/python"),
    ("ai-sdk", "package.json", "node_modules/ai/package.json"),
];

/// Where the tests look for it too (`tests/src/server.rs`).
fn folder(template: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = cache
        .or_else(home)
        .context("neither HOME nor XDG_CACHE_HOME is set")?;
    Ok(cache.join("skep-tests").join("frameworks").join(template))
}

fn run(folder: &Path, program: &str, words: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(words)
        .current_dir(folder)
        .status()
        .with_context(|| format!("{program} does not run"))?;
    match status.success() {
        true => Ok(()),
        false => bail!(
            "{program} {} failed in {}",
            words.join(" "),
            folder.display()
        ),
    }
}

/// Installs what is not installed of these very packages.
pub(super) fn install() -> Result<()> {
    if !has("node") || !has("npm") {
        bail!("the tests of templates need Node.js 20 with npm: install it and run again");
    }
    // Debian has what makes virtual environments in a package of its own.
    if crate::shell::output("python3", &["-c", "import ensurepip"]).is_err() {
        super::packages(&["python3-venv"])?;
    }
    for (template, packages, made) in FRAMEWORKS {
        let from = root().join("crates/skep/templates").join(template);
        let to = folder(template)?;
        // A package of npm has a name, which the template leaves open.
        let wanted = fs::read_to_string(from.join(packages))?.replace("{{name}}", template);
        let done = to.join("installed");
        if fs::read_to_string(&done).is_ok_and(|it| it == wanted) && to.join(made).exists() {
            continue;
        }
        println!("set-up: installing {}", to.display());
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        fs::create_dir_all(&to)?;
        fs::write(to.join(packages), &wanted)?;
        match packages {
            "package.json" => {
                let words = [
                    "install",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                    "--silent",
                ];
                run(&to, "npm", &words)?;
            }
            _ => {
                run(&to, "python3", &["-m", "venv", ".venv"])?;
                run(
                    &to,
                    ".venv/bin/pip",
                    &["install", "--quiet", "-r", packages],
                )?;
            }
        }
        fs::write(done, wanted)?;
    }
    Ok(())
}
