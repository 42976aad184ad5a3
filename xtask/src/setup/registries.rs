//! Packages of PyPI and npm that the tests run: those of the templates on a framework, as the template's own file has
//! them, and the SDKs of providers of models. Each set is in a folder of the user's cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{has, root};

/// Packages that are installed together.
struct Set {
    /// The folder in this repository that has the files.
    from: &'static str,
    /// The folder below the cache's; where the tests look for it too (`tests/src/server.rs`, `tests/src/upstream.rs`).
    to: &'static str,
    /// What names them, and perhaps the lock of it.
    files: &'static [&'static str],
    /// Something that is there when they are.
    made: &'static str,
}

const PYTHON: &str = ".venv/bin/python";

const SETS: [Set; 19] = [
    Set {
        from: "crates/skep/templates/langgraph",
        to: "frameworks/langgraph",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "crates/skep/templates/openai-agents",
        to: "frameworks/openai-agents",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "crates/skep/templates/ai-sdk",
        to: "frameworks/ai-sdk",
        files: &["package.json"],
        made: "node_modules/ai/package.json",
    },
    Set {
        from: "tests/sdks/python",
        to: "sdks/python",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "sdks/python/tests",
        to: "sdks/skep-python",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "sdks/typescript",
        to: "sdks/skep-typescript",
        files: &["package.json", "package-lock.json"],
        made: "node_modules/typescript/package.json",
    },
    Set {
        from: "tests/sdks/node",
        to: "sdks/node",
        files: &["package.json", "package-lock.json"],
        made: "node_modules/openai/package.json",
    },
    Set {
        from: "tests/sdks/mcp",
        to: "sdks/mcp",
        files: &["package.json", "package-lock.json"],
        made: "node_modules/@modelcontextprotocol/server/package.json",
    },
    Set {
        from: "tests/sdks/agui",
        to: "sdks/agui",
        files: &["package.json", "package-lock.json"],
        made: "node_modules/@ag-ui/client/package.json",
    },
    Set {
        from: "tests/sdks/a2a",
        to: "sdks/a2a/python",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "tests/sdks/a2a",
        to: "sdks/a2a/node",
        files: &["package.json", "package-lock.json"],
        made: "node_modules/@a2a-js/sdk/package.json",
    },
    // The conformance suite wants Node.js 22.
    Set {
        from: "tests/sdks/mcp",
        to: "sdks/node24",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "tests/sdks/mcp/fetch",
        to: "sdks/mcp-fetch",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "tests/sdks/web/python",
        to: "sdks/web/python",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "tests/sdks/web/node",
        to: "sdks/web/node",
        files: &["package.json", "package-lock.json"],
        made: "node_modules/undici/package.json",
    },
    Set {
        from: "tests/sdks/frameworks/python",
        to: "sdks/frameworks/python",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "tests/sdks/webhooks/python",
        to: "sdks/webhooks/python",
        files: &["requirements.txt"],
        made: PYTHON,
    },
    Set {
        from: "tests/sdks/frameworks/node",
        to: "sdks/frameworks/node",
        files: &["package.json", "package-lock.json"],
        made: "node_modules/ai/package.json",
    },
    Set {
        from: "tests/sdks/webhooks/node",
        to: "sdks/webhooks/node",
        files: &["package.json", "package-lock.json"],
        made: "node_modules/standardwebhooks/package.json",
    },
];

/// Other gateways to models, which a benchmark measures.
const GATEWAYS: Set = Set {
    from: "xtask/gateways",
    to: "gateways",
    files: &["requirements.txt"],
    made: PYTHON,
};

/// Installs the other gateways; tells the folder of their programs.
pub(super) fn gateways() -> Result<PathBuf> {
    let cache = cache()?;
    GATEWAYS.install(&cache)?;
    Ok(cache.join(GATEWAYS.to).join(".venv/bin"))
}

fn cache() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = cache
        .or_else(home)
        .context("neither HOME nor XDG_CACHE_HOME is set")?;
    Ok(cache.join("skep-tests"))
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
        bail!("the tests of templates and SDKs need Node.js 20 with npm: install it and run again");
    }
    // Debian has what makes virtual environments in a package of its own.
    if crate::shell::output("python3", &["-c", "import ensurepip"]).is_err() {
        super::packages(&["python3-venv"])?;
    }
    let cache = cache()?;
    for set in SETS {
        set.install(&cache)?;
    }
    Ok(())
}

impl Set {
    fn install(&self, cache: &Path) -> Result<()> {
        let to = cache.join(self.to);
        let name = Path::new(self.to).file_name().unwrap_or_default();
        let mut wanted = Vec::new();
        for file in self.files {
            let path = root().join(self.from).join(file);
            let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            // A package of npm has a name, which a template leaves open.
            wanted.push((file, text.replace("{{name}}", &name.to_string_lossy())));
        }
        let all: String = wanted.iter().map(|(_, text)| text.as_str()).collect();
        let done = to.join("installed");
        if fs::read_to_string(&done).is_ok_and(|it| it == all) && to.join(self.made).exists() {
            return Ok(());
        }
        println!("set-up: installing {}", to.display());
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        fs::create_dir_all(&to)?;
        for (file, text) in wanted {
            fs::write(to.join(file), text)?;
        }
        if self.made == PYTHON {
            run(&to, "python3", &["-m", "venv", ".venv"])?;
            let words = ["install", "--quiet", "-r", "requirements.txt"];
            run(&to, ".venv/bin/pip", &words)?;
        } else {
            let locked = self.files.contains(&"package-lock.json");
            let verb = if locked { "ci" } else { "install" };
            let quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
            run(&to, "npm", &[&[verb][..], &quiet[..]].concat())?;
        }
        Ok(fs::write(done, all)?)
    }
}
