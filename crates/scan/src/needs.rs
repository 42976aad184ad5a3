//! What a project asks of its environment: variables that its code reads, and those that its files give.

use std::sync::LazyLock;

use regex::Regex;

use crate::guess::{is_placeholder, is_secret_name};
use crate::is_known;

/// Bytes of a line that are looked at.
const LONGEST: usize = 4 << 10;

/// What a file is, by which it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `.env`: values that count.
    Env,
    /// `.env.example`: names, and what is put there in their place.
    Example,
    /// Compose files, manifests and other YAML.
    Yaml,
    /// Programs.
    Code,
    /// Shell scripts and Dockerfiles.
    Shell,
}

/// A variable that stands somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What it is called.
    pub variable: String,
    /// The line, counted from 1.
    pub line: usize,
    /// Whether it is a secret, as far as can be told.
    pub secret: bool,
    /// Whether its value stands there in plain text.
    pub plain: bool,
    /// The secret of the vault that it names already.
    pub reference: Option<String>,
}

impl Kind {
    /// What a file of this name is; nothing when it is none of these.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let ends = |all: &[&str]| all.iter().any(|end| lower.ends_with(end));
        if lower.starts_with(".env") || ends(&[".env"]) {
            let example = ["example", "sample", "template", "dist", "default"];
            let is_example = example.iter().any(|word| lower.contains(word));
            return Some(if is_example { Self::Example } else { Self::Env });
        }
        if ends(&[".yaml", ".yml"]) {
            return Some(Self::Yaml);
        }
        if lower.starts_with("dockerfile")
            || ends(&[".sh", ".bash", ".dockerfile"])
            || lower == "makefile"
        {
            return Some(Self::Shell);
        }
        let code = [
            ".py", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx", ".mts", ".rs", ".go", ".java",
            ".kt", ".rb", ".php", ".cs", ".ex", ".exs",
        ];
        ends(&code).then_some(Self::Code)
    }
}

/// How programs ask for a variable.
const CODE: [&str; 9] = [
    // Python, Ruby, PHP.
    r#"(?:environ|ENV|_ENV)(?:\.get|\.fetch|\.pop|\.setdefault)?\s*[\[(]\s*['"]([A-Za-z_][A-Za-z0-9_]*)['"]"#,
    r#"\bgetenv\s*\(\s*['"]([A-Za-z_][A-Za-z0-9_]*)['"]"#,
    // JavaScript.
    r"(?:process|Bun|import\.meta)\.env\.([A-Za-z_][A-Za-z0-9_]*)",
    r#"(?:process|Bun|import\.meta)\.env\[\s*['"`]([A-Za-z_][A-Za-z0-9_]*)['"`]"#,
    r#"\benv\.get\s*\(\s*['"]([A-Za-z_][A-Za-z0-9_]*)['"]"#,
    // Rust.
    r#"\benv::(?:var|var_os)\s*\(\s*"([A-Za-z_][A-Za-z0-9_]*)""#,
    r#"\b(?:option_)?env!\s*\(\s*"([A-Za-z_][A-Za-z0-9_]*)""#,
    // Go, Java, C#.
    r#"\b(?:Getenv|LookupEnv|GetEnvironmentVariable|get_env|fetch_env!)\s*\(\s*"([A-Za-z_][A-Za-z0-9_]*)""#,
    r#"#\[arg\([^)]*env\s*=\s*"([A-Za-z_][A-Za-z0-9_]*)""#,
];
const SHELL: &str = r"\$\{([A-Z_][A-Z0-9_]*)|\$([A-Z_][A-Z0-9_]{2,})";
const GIVEN: &str =
    r#"^\s*(?:-\s*)?(?:export\s+|ENV\s+|ARG\s+)?['"]?([A-Za-z_][A-Za-z0-9_]*)['"]?\s*[:=]\s*(.*)$"#;
const REFERENCE: &str = r"^\$\{secret:([^}#]+)(?:#[^}]*)?\}$";

struct Ready {
    code: Vec<Regex>,
    rest: Option<[Regex; 3]>,
}

static READY: LazyLock<Ready> = LazyLock::new(|| {
    let made = |pattern: &str| Regex::new(pattern).ok();
    // Every pattern is a constant, and a test makes all of them.
    let rest = || Some([made(SHELL)?, made(GIVEN)?, made(REFERENCE)?]);
    Ready {
        code: CODE.iter().filter_map(|it| made(it)).collect(),
        rest: rest(),
    }
});

#[cfg(test)]
pub(crate) fn all_are_made() -> bool {
    READY.code.len() == CODE.len() && READY.rest.is_some()
}

/// What a text asks for, in its order. A variable comes once for each line on which it stands.
#[must_use]
pub fn needs(kind: Kind, text: &str) -> Vec<Need> {
    let mut found = Vec::new();
    let Some([shell, given, reference]) = &READY.rest else {
        return found;
    };
    for (at, line) in text.lines().enumerate() {
        let comment = matches!(kind, Kind::Env | Kind::Example | Kind::Yaml | Kind::Shell);
        if line.len() > LONGEST || (comment && line.trim_start().starts_with('#')) {
            continue;
        }
        let number = at + 1;
        if kind == Kind::Code {
            for pattern in &READY.code {
                let names = pattern.captures_iter(line).filter_map(|it| it.get(1));
                found.extend(names.map(|name| asked(name.as_str(), number)));
            }
            continue;
        }
        if let Some(pair) = given.captures(line) {
            let name = pair.get(1).map_or("", |it| it.as_str());
            let value = pair.get(2).map_or("", |it| it.as_str());
            // In YAML any key looks so: variables are written in capitals.
            let is_variable = !name.chars().any(|c| c.is_ascii_lowercase());
            if kind == Kind::Env || kind == Kind::Example || is_variable {
                found.push(said(kind, name, value, number, reference));
            }
        }
        if matches!(kind, Kind::Yaml | Kind::Shell) {
            let names = shell
                .captures_iter(line)
                .filter_map(|it| it.get(1).or(it.get(2)));
            for name in names {
                let again = |it: &Need| it.line == number && it.variable == name.as_str();
                if !found.iter().any(again) {
                    found.push(asked(name.as_str(), number));
                }
            }
        }
    }
    found
}

fn asked(name: &str, line: usize) -> Need {
    Need {
        variable: name.to_owned(),
        line,
        secret: is_secret_name(name),
        plain: false,
        reference: None,
    }
}

/// A variable that is given a value.
fn said(kind: Kind, name: &str, value: &str, line: usize, reference: &Regex) -> Need {
    let value = value.split(" #").next().unwrap_or_default().trim();
    let value = value.trim_matches(['"', '\'']);
    let reference = reference.captures(value).and_then(|it| it.get(1));
    let known = is_known(value);
    let secret = is_secret_name(name) || known || reference.is_some();
    // What an example has is put there to be replaced, unless it looks real.
    let real = match kind {
        Kind::Example => known,
        _ => known || !(value.is_empty() || is_placeholder(value)),
    };
    Need {
        variable: name.to_owned(),
        line,
        secret,
        plain: secret && real && reference.is_none(),
        reference: reference.map(|it| it.as_str().to_owned()),
    }
}
